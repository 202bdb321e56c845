"""The transformation that takes GPU targets out of a setup.py, on texts of the right shape."""

from __future__ import annotations

import ast
import difflib
import os
import re
from pathlib import Path

import pytest
from patching import apply

from wheelyard.farm import load_farm
from wheelyard.network.indexes import read_index_settings
from wheelyard.sources.fetch import fetch_source
from wheelyard.sources.unpack import unpack

FARM = Path(__file__).parents[3]
PATCH = FARM / "patches" / "common" / "gpu-archs-from-environment.py"

HEAD = """\
import os
from packaging.version import Version

nvcc = Version("12.4")
options = ["-O2"]
use_cuda = True

if not use_cuda:
    options.append("-DNO_CUDA")
else:
    if nvcc < Version("11.0"):
        raise RuntimeError("too old")

"""

TARGETS = """\
    if nvcc <= Version("12.9"):
        options.append("-gencode")
        options.append("arch=compute_70,code=sm_70")
    options.append("-gencode")
    options.append("arch=compute_80,code=sm_80")
    if nvcc >= Version("11.8"):
        options.append("-gencode")
        options.append("arch=compute_90,code=sm_90")
    elif nvcc >= Version("11.1"):
        options.append("-gencode")
        options.append("arch=compute_86,code=sm_86")
"""

TAIL = """\

    options.append("-lineinfo")  # not a GPU target
flags = ["-O3"] + options
"""

SETTING = """\
def cuda_archs():
    return os.environ.get("TARGETS", "80;90").split(";")


if "80" in cuda_archs():
    options.append("-gencode")
    options.append("arch=compute_80,code=sm_80")
if use_cuda is not None:
    if nvcc >= Version("11.8") and "90" in cuda_archs():
        options.append("-gencode")
        options.append("arch=compute_90,code=sm_90")
"""

LINES_TO_TAIL = (HEAD + TARGETS).count("\n")
LINES_TO_END = (HEAD + TARGETS + TAIL).count("\n")

HOPPER = "-gencode arch=compute_90,code=sm_90 -gencode arch=compute_120,code=compute_120"


def write_tree(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "setup.py"
    path.write_bytes(text.encode())
    return path


def run_setup(path: Path) -> object:
    names: dict[str, object] = {}
    exec(compile(path.read_bytes(), str(path), "exec"), names)  # noqa: S102
    return names["flags"]


def test_flags_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tree(tmp_path, HEAD + TARGETS + TAIL)
    monkeypatch.setenv("WHEELYARD_GENCODE", HOPPER)
    assert apply(PATCH, tmp_path) == ""
    assert run_setup(path) == ["-O3", "-O2", *HOPPER.split(), "-lineinfo"]


def test_targets_of_a_setting_come_from_the_environment_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tree(tmp_path, HEAD + SETTING + TAIL.replace("\n    ", "\n"))
    monkeypatch.setenv("WHEELYARD_GENCODE", HOPPER)
    monkeypatch.setenv("TARGETS", "no such target")
    assert apply(PATCH, tmp_path) == ""
    assert run_setup(path) == ["-O3", "-O2", *HOPPER.split(), "-lineinfo"]


@pytest.mark.parametrize("value", [None, "", "  "])
def test_build_without_the_variable_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    path = write_tree(tmp_path, HEAD + TARGETS + TAIL)
    monkeypatch.delenv("WHEELYARD_GENCODE", raising=False)
    if value is not None:
        monkeypatch.setenv("WHEELYARD_GENCODE", value)
    assert apply(PATCH, tmp_path) == ""
    with pytest.raises(RuntimeError, match="WHEELYARD_GENCODE is not set"):
        run_setup(path)


@pytest.mark.parametrize(
    ("indent", "line_end"),
    [
        pytest.param("    ", "\n", id="spaces"),
        pytest.param("\t", "\n", id="tabs"),
        pytest.param("    ", "\r\n", id="crlf"),
    ],
)
def test_everything_else_stays_byte_for_byte(tmp_path: Path, indent: str, line_end: str) -> None:
    def restyled(text: str) -> bytes:
        return text.replace("    ", indent).replace("\n", line_end).encode()

    path = tmp_path / "setup.py"
    path.write_bytes(restyled(HEAD) + restyled(TARGETS) + restyled(TAIL))
    assert apply(PATCH, tmp_path) == ""
    after = path.read_bytes()
    assert after.startswith(restyled(HEAD))
    assert after.endswith(restyled(TAIL))
    new = after[len(restyled(HEAD)) : -len(restyled(TAIL))]
    assert b"compute_" not in new
    assert all(line.startswith(indent.encode()) for line in new.splitlines())
    assert new.count(line_end.encode()) == new.count(b"\n") == len(new.splitlines())


def test_a_source_in_another_encoding_keeps_its_bytes(tmp_path: Path) -> None:
    head = b"# coding: latin-1\n# \xe9\n" + HEAD.encode()
    path = tmp_path / "setup.py"
    path.write_bytes(head + TARGETS.encode() + TAIL.encode())
    assert apply(PATCH, tmp_path) == ""
    assert path.read_bytes().startswith(head)


def test_the_mode_stays_and_a_hard_link_keeps_the_old_text(tmp_path: Path) -> None:
    path = write_tree(tmp_path, HEAD + TARGETS + TAIL)
    path.chmod(0o755)
    other = tmp_path / "cached.py"
    os.link(path, other)
    assert apply(PATCH, tmp_path) == ""
    assert path.stat().st_mode & 0o777 == 0o755
    assert other.read_text() == HEAD + TARGETS + TAIL
    assert sorted(tmp_path.iterdir()) == [other, path]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(HEAD + TAIL, 'append "-gencode" and .*found none', id="nothing-to-change"),
        pytest.param(
            HEAD + TARGETS + TAIL + 'more = ["-gencode", "arch=compute_75,code=sm_75"]\n',
            f"also at line {LINES_TO_END + 1}",
            id="flags-elsewhere",
        ),
        pytest.param(
            HEAD + TARGETS + '    print("arch=compute_75")\n' + TAIL,
            f"also at line {LINES_TO_TAIL + 1}",
            id="target-in-other-call",
        ),
        pytest.param(
            HEAD + TARGETS + '    use(f"-gencode {nvcc}")\n' + TAIL,
            f"also at line {LINES_TO_TAIL + 1}",
            id="flag-in-formatted-string",
        ),
        pytest.param(
            HEAD + TARGETS.replace("    if nvcc >=", "    print(nvcc)\n    if nvcc >=") + TAIL,
            "found 2, at lines 14, 20",
            id="two-runs",
        ),
        pytest.param(
            HEAD + TARGETS.replace("        options.append", "        print(1)\n\\g", 1) + TAIL,
            "looked for Python",
            id="not-python",
        ),
        pytest.param(
            HEAD + TARGETS.replace('nvcc <= Version("12.9")', "wanted()") + TAIL,
            "found 2, at lines 15, 17",
            id="condition-not-a-comparison",
        ),
        pytest.param(
            HEAD + TARGETS.replace('nvcc <= Version("12.9")', "use_cuda") + TAIL,
            "found 2, at lines 15, 17",
            id="condition-without-versions",
        ),
        pytest.param(
            HEAD + TARGETS + "        print(nvcc)\n" + TAIL,
            "found 3, at lines 14, 20, 23",
            id="condition-that-does-more",
        ),
        pytest.param(
            HEAD + TARGETS.replace('<= Version("12.9")', "in ask()") + TAIL,
            "found 2, at lines 15, 17",
            id="condition-asks-something-else",
        ),
        pytest.param(
            HEAD + TARGETS.replace('nvcc <= Version("12.9")', "nvcc <= nvcc or wanted()") + TAIL,
            "found 2, at lines 15, 17",
            id="condition-asks-more-than-the-setting",
        ),
        pytest.param(
            HEAD + TARGETS.replace("options.append", "others.append", 2) + TAIL,
            "one list of flags, found options, others at line 14",
            id="two-lists",
        ),
        pytest.param(
            HEAD + TARGETS.replace('    options.append("-gencode")\n', "", 2) + TAIL,
            'looked for "-gencode" before every',
            id="target-without-option",
        ),
        pytest.param(
            HEAD
            + TARGETS.replace('        options.append("arch=compute_86,code=sm_86")\n', "")
            + TAIL,
            'looked for "-gencode" before every',
            id="option-without-target",
        ),
        pytest.param(
            HEAD + TARGETS.replace("arch=compute_80,code=sm_80", "-gencode") + TAIL,
            'looked for "-gencode" before every',
            id="option-in-place-of-target",
        ),
        pytest.param(
            HEAD.replace("import os\n", "import os as system\n") + TARGETS + TAIL,
            'looked for "import os"',
            id="no-os",
        ),
        pytest.param(
            "import os\na = []\n"
            'print(); a.append("-gencode"); a.append("arch=compute_80,code=sm_80")\n',
            "lines of their own, found more beside them at line 3",
            id="shared-line",
        ),
        pytest.param(
            'import os\na = []\na.append("-gencode"); a.append("arch=compute_80"); print()\n',
            "lines of their own, found more beside them at line 3",
            id="shared-last-line",
        ),
    ],
)
def test_the_unexpected_is_refused_and_the_file_untouched(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = write_tree(tmp_path, text)
    outcome = apply(PATCH, tmp_path)
    assert outcome.startswith(f"{path}: looked for ")
    assert re.search(reason, outcome)
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


def test_other_statements_before_the_targets_stay(tmp_path: Path) -> None:
    head = HEAD + "    if nvcc.major != 12:\n        os.environ['LIST'] = ''\n"
    path = write_tree(tmp_path, head + TARGETS + TAIL)
    assert apply(PATCH, tmp_path) == ""
    assert path.read_text().startswith(head)


def test_a_second_application_is_refused(tmp_path: Path) -> None:
    path = write_tree(tmp_path, HEAD + TARGETS + TAIL)
    assert apply(PATCH, tmp_path) == ""
    patched = path.read_bytes()
    assert "found none" in apply(PATCH, tmp_path)
    assert path.read_bytes() == patched


def test_a_tree_without_setup_py_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "setup.py"
    assert apply(PATCH, tmp_path) == f"{path}: looked for this file: {os.strerror(2)}"


@pytest.mark.parametrize("arguments", [[], ["one", "two"]])
def test_another_number_of_arguments_gets_the_usage(arguments: list[str]) -> None:
    assert apply(PATCH, *arguments).startswith("usage: ")


def test_the_patch_reads_as_python_3_9() -> None:
    ast.parse(PATCH.read_text(), feature_version=(3, 9))


@pytest.mark.network
@pytest.mark.parametrize(
    "label",
    [
        *("causal-conv1d-1.5.3.post1", "causal-conv1d-1.6.1", "causal-conv1d-1.7.0"),
        *("mamba-ssm-2.3.0", "mamba-ssm-2.3.2.post1"),
        *("flash-attn-2.7.4.post1", "flash-attn-2.8.3", "flash-attn-2.8.3.post2"),
    ],
)
def test_the_real_sdist_loses_its_targets_and_nothing_else(
    tmp_path: Path, label: str, pytestconfig: pytest.Config
) -> None:
    if not pytestconfig.option.markexpr:
        pytest.skip("asks the Python index; give -m network")
    settings = read_index_settings(os.environ, home=Path.home(), cwd=FARM)
    source = load_farm(FARM).recipe_version(*label.rsplit("-", 1)).source
    cache = tmp_path / "cache"
    fetched = fetch_source(source, cache=cache, farm=FARM, settings=settings, env=os.environ)
    tree = tmp_path / "tree"
    unpack(fetched.path, tree)
    before = (tree / "setup.py").read_text().splitlines()
    assert apply(PATCH, tree) == ""
    after = (tree / "setup.py").read_text().splitlines()

    matcher = difflib.SequenceMatcher(a=before, b=after, autojunk=False)
    ((_, *place),) = [code for code in matcher.get_opcodes() if code[0] != "equal"]
    removed, added = before[place[0] : place[1]], after[place[2] : place[3]]
    expected = (
        r"-gencode|arch=compute_|if bare_metal_version|if .*cuda_archs\(\)|if CUDA_HOME is not"
    )
    assert all(re.search(expected, line) for line in removed)
    assert added[-1].strip() == 'cc_flag.extend(os.environ["WHEELYARD_GENCODE"].split())'
    assert not any("arch=compute_" in line for line in after)
