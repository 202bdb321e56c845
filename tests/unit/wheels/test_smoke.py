"""The smoke test: installed as users install it, run where nothing else is, its report read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from wheelyard.errors import SmokeTestError
from wheelyard.machine.namespaces import SandboxLevel
from wheelyard.toolchain.sandbox import choose_sandbox
from wheelyard.wheels.findings import CheckReport
from wheelyard.wheels.smoke import (
    SmokeRequest,
    describe_machine,
    installed_versions,
    smoke_test,
    unmet_requirements,
)
from wheelyard.wheels.staging import stage_wheel
from wheelyard.wheels.values import CheckedWheel, RepairedWheel, TestLevel

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.toolchain.values import Toolchain
    from wheelyard.wheels.values import TestedWheel

VERSION = Version("1.0+cu130.torch2.11.0")
SCRIPT = """
import json, sys
import demo
report = {"level": sys.argv[2], "machine": {"gpu": None}, "measurements": [{"where": demo.WHERE}]}
with open(sys.argv[4], "w") as file:
    json.dump(report, file)
"""
FILES = {"demo/__init__.py": b"import support, torch\nWHERE = [__file__, support.__file__]\n"}


@pytest.fixture
def smoke(
    tmp_path: Path,
    make_wheel: Callable[..., Path],
    make_toolchain: Callable[..., Toolchain],
) -> Callable[..., TestedWheel]:
    """Return a function that tries a wheel with a script, beside a torch of one empty file.

    It is without namespaces: what those do has tests of its own.
    """
    sandbox = choose_sandbox(SandboxLevel.NONE, env={}, scratch=tmp_path / "sandbox")

    def run(
        script: str = SCRIPT,
        *,
        files: dict[str, bytes] = FILES,
        requires: tuple[str, ...] = ("torch==2.11.0", "support"),
        sha256: str = "",
        level: TestLevel = TestLevel.imported,
    ) -> TestedWheel:
        _write_distribution(tmp_path / "torch", "torch", "2.11.0+cu130")
        _write_distribution(tmp_path / "runtime", "support", "3")
        (tmp_path / "smoke.py").write_text(script, encoding="utf-8")
        (tmp_path / "work").mkdir()
        wheel = make_wheel(version=str(VERSION), files=files, requires=requires)
        repaired = RepairedWheel(
            path=wheel,
            sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
            version=VERSION,
            platform_tag="any",
            external_libraries=(),
            grafted_libraries=(),
            policy_symbols=(),
        )
        staging_url = stage_wheel(repaired, folder=tmp_path / "staging")
        if sha256:
            repaired = dataclasses.replace(repaired, sha256=sha256)
        return smoke_test(
            CheckedWheel(wheel=repaired, report=_report(wheel)),
            SmokeRequest(
                name="demo",
                version=VERSION,
                script=tmp_path / "smoke.py",
                helpers=(),
                staging_url=staging_url,
                runtime=tmp_path / "runtime",
                toolchain=make_toolchain(tmp_path, sandbox=sandbox),
                work=tmp_path / "work",
                log_path=tmp_path / "log",
                level=level,
                devices=(),
                uv_env={
                    "PATH": os.environ["PATH"],
                    "HOME": str(tmp_path),
                    "UV_FIND_LINKS": str(tmp_path / "nowhere"),
                },
            ),
        )

    return run


def _write_distribution(site: Path, name: str, version: str) -> None:
    (site / name).mkdir(parents=True)
    (site / name / "__init__.py").touch()
    (site / f"{name}-{version}.dist-info").mkdir()


def _report(wheel: Path) -> CheckReport:
    fields = {field.name: () for field in dataclasses.fields(CheckReport)}
    return CheckReport(**{**fields, "filename": wheel.name})  # type: ignore[arg-type]


def test_wheel_is_installed_from_its_index_and_run_beside_its_requirements(
    smoke: Callable[..., TestedWheel], tmp_path: Path
) -> None:
    tested = smoke()
    assert tested.level is TestLevel.imported
    assert tested.report.machine_description == "no GPU"
    (measurement,) = tested.report.measurements
    where = measurement["where"]
    assert isinstance(where, list)
    assert Path(where[0]).resolve().is_relative_to(tmp_path / "work" / "smoke-environment")
    assert Path(where[1]).resolve().is_relative_to(tmp_path / "runtime")


def test_script_that_fails_is_shown_with_its_last_lines_and_the_log(
    smoke: Callable[..., TestedWheel], tmp_path: Path
) -> None:
    with pytest.raises(SmokeTestError) as caught:
        smoke("print('tried')\nraise SystemExit('wrong numbers')\n")
    message = str(caught.value)
    assert message.startswith("The smoke test failed. Its last lines:\n")
    assert "tried\nwrong numbers\n" in message
    assert message.endswith(f"Log: {tmp_path / 'log'}")


def test_module_that_is_missing_fails_the_test(smoke: Callable[..., TestedWheel]) -> None:
    with pytest.raises(SmokeTestError, match="No module named 'pytest'"):
        smoke(files={"demo/__init__.py": b"import pytest\n"})


def test_other_bytes_than_those_that_were_checked_are_not_installed(
    smoke: Callable[..., TestedWheel],
) -> None:
    with pytest.raises(SmokeTestError, match="could not be installed from its staging index"):
        smoke(sha256="0" * 64)


def test_requirement_that_is_not_there_is_named_with_what_to_do(
    smoke: Callable[..., TestedWheel],
) -> None:
    expected = (
        r"requirements are not met: einops is not installed\. Correct `wheel\.requires` in the "
        r"recipe and run `wheelyard update runtime demo"
    )
    with pytest.raises(SmokeTestError, match=expected):
        smoke(requires=("torch==2.11.0", "einops"))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(None, "left no JSON report", id="no-report"),
        pytest.param("{", "left no JSON report", id="not-json"),
        pytest.param("[]", "is not a JSON object", id="list"),
        pytest.param("{}", "level imported, it reports None", id="no-level"),
        pytest.param('{"level": "perfect"}', "it reports 'perfect'", id="unknown-level"),
        pytest.param('{"level": "ran-on-gpu"}', "it reports 'ran-on-gpu'", id="another-level"),
    ],
)
def test_report_that_says_nothing_or_something_else_fails_the_test(
    smoke: Callable[..., TestedWheel], answer: str | None, expected: str
) -> None:
    script = "import sys\n"
    if answer is not None:
        script += f"open(sys.argv[4], 'w').write({answer!r})\n"
    with pytest.raises(SmokeTestError, match=expected):
        smoke(script)


def test_report_keeps_machine_and_measurements(smoke: Callable[..., TestedWheel]) -> None:
    report = {
        "level": "ran-on-gpu",
        "machine": {"gpu": "NVIDIA H100 80GB HBM3", "driver": "580.159.04"},
        "measurements": [{"name": "forward", "relative_error": 1e-7}],
    }
    script = f"import sys\nopen(sys.argv[4], 'w').write({json.dumps(report)!r})\n"
    tested = smoke(script, level=TestLevel.ran_on_gpu)
    assert tested.level is TestLevel.ran_on_gpu
    assert tested.report.machine_description == "NVIDIA H100 80GB HBM3, driver 580.159.04"
    assert tested.report.measurements == ({"name": "forward", "relative_error": 1e-7},)


def test_a_script_without_cases_says_on_a_gpu_too_that_it_imported(
    smoke: Callable[..., TestedWheel],
) -> None:
    report = {"level": "imported", "machine": {"gpu": None}, "measurements": []}
    script = f"import sys\nopen(sys.argv[4], 'w').write({json.dumps(report)!r})\n"
    tested = smoke(script, level=TestLevel.ran_on_gpu)
    assert tested.level is TestLevel.imported
    assert tested.report.level is TestLevel.imported


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        pytest.param({"gpu": "H100", "driver": "580.1"}, "H100, driver 580.1", id="both"),
        pytest.param({"gpu": "H100"}, "H100", id="no-driver"),
        pytest.param({"gpu": None, "driver": "580.1"}, "no GPU", id="no-gpu"),
        pytest.param({}, "no GPU", id="nothing"),
    ],
)
def test_machine_is_described_for_people(machine: dict[str, object], expected: str) -> None:
    assert describe_machine(machine) == expected


def test_earlier_folder_wins_where_two_have_a_distribution(tmp_path: Path) -> None:
    for folder, names in (("a", ["Foo_Bar-1.0"]), ("b", ["foo_bar-2.0", "baz-3+cu130"])):
        for name in names:
            (tmp_path / folder / f"{name}.dist-info").mkdir(parents=True)
    assert installed_versions([tmp_path / "a", tmp_path / "b"]) == {
        "foo-bar": Version("1.0"),
        "baz": Version("3+cu130"),
    }


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        pytest.param("torch==2.11.0", "", id="local-part-does-not-count"),
        pytest.param("Torch>=2", "", id="other-spelling"),
        pytest.param("torch==2.10.0", "is wanted, 2.11.0+cu130 is installed", id="other-version"),
        pytest.param("einops>=1", "is not installed", id="missing"),
        pytest.param("rc>=1", "", id="pre-release"),
        pytest.param("einops; extra == 'test'", "", id="extra"),
        pytest.param("einops; python_version < '3.8'", "", id="older-python"),
        pytest.param("einops; python_version == '3.8'", "is not installed", id="this-python"),
        pytest.param("einops; python_full_version >= '3.9'", "", id="newer-python"),
        pytest.param("einops; platform_machine == 'x86_64'", "", id="other-machine"),
    ],
)
def test_requirement_is_held_against_what_is_installed(requirement: str, expected: str) -> None:
    wanted = Requirement(requirement)
    installed = {"torch": Version("2.11.0+cu130"), "rc": Version("2.0rc1")}
    # no Python and no machine that wheelyard runs on, so that markers cannot mean those
    problems = unmet_requirements([wanted], installed=installed, python="3.8.20", machine="riscv64")
    assert problems == ((f"{wanted} {expected}",) if expected else ())
