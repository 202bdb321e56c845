"""Taking in wheels of other people: what is refused leaves nothing, what is done stays done."""

from __future__ import annotations

import hashlib
import json
import platform
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    from wheelyard.yard.store import StoredWheel

    Run = Callable[..., CompletedProcess[str]]
    Store = Callable[..., StoredWheel]
    Publish = Callable[..., Path]

MACHINE = platform.machine()
TORCH = ("--torch", "2.11.0+cu130")
IDENTIFIER = f"probe-1.1-cp312-torch2.11.0-cu130-{MACHINE}"
OTHER = "f" * 64
PLACE = "https://example.org/v1.1/probe-1.1%2Bcu13torch2.11-cp312-cp312-linux_x86_64.whl"


@pytest.fixture
def publish(
    make_wheel: Callable[..., Path],
    link_c: Callable[..., Path],
    make_fatbin: Callable[..., bytes],
) -> Publish:
    """Return a function that makes a wheel of the probe that needs no symbol of torch."""

    def make(
        *,
        cubins: tuple[int, ...] = (80, 90, 120),
        tag: str = f"cp312-cp312-linux_{MACHINE}",
        more: dict[str, bytes] | None = None,
        **words: object,
    ) -> Path:
        extension = link_c(
            "probe_cuda.so",
            defines=["PyInit_probe_cuda"],
            gpu_code=make_fatbin(cubins=cubins) if cubins else b"",
        )
        about = {"name": "probe", "version": "1.1", "requires": ["torch", "packaging"]} | words
        files = {
            "probe/__init__.py": b"",
            f"probe_cuda.cpython-312-{MACHINE}-linux-gnu.so": extension.read_bytes(),
        }
        name = f"{about['name']}-{about['version']}+cu12torch2.6cxx11abiFALSE-{tag}.whl"
        return make_wheel(tag=tag, files=files | (more or {}), filename=name, **about)

    return make


@pytest.fixture
def adopt(wheelyard: Run, probe_farm: Path) -> Run:
    """Return a function that adopts in the farm of the probe."""

    def run(*words: str | Path) -> CompletedProcess[str]:
        return wheelyard("adopt", *words, "--farm", probe_farm)

    return run


def _stored(farm: Path) -> list[str]:
    yard = farm / "yard"
    return sorted(path.name for path in (*yard.glob("wheels/*.whl"), *yard.glob("records/*")))


@pytest.mark.parametrize(
    ("about", "words", "code", "expected"),
    [
        pytest.param({}, ["--sha256", OTHER], 8, f"asked for was {OTHER}", id="other-bytes"),
        pytest.param({}, ["--sha256", "12"], 2, "--sha256 '12' is not a sha256", id="no-digest"),
        pytest.param({}, ["--recipe", "prope"], 4, "Did you mean 'probe'?", id="recipe"),
        pytest.param({"name": "prope"}, [], 4, "Did you mean 'probe'?", id="name"),
        pytest.param({"version": "2.0"}, [], 4, "Add a table `[[versions]]`", id="version"),
        pytest.param({}, ["--python", "3.13"], 2, "is not for Python 3.13", id="python"),
        pytest.param({}, ["--python", "new"], 2, "'new' is not a Python version", id="no-python"),
        pytest.param({}, ["--torch", "new"], 2, "'new' is not a version", id="no-torch"),
        pytest.param({"cubins": ()}, TORCH, 12, "has no GPU code", id="no-gpu-code"),
        pytest.param(
            {"tag": "cp312-cp312-linux_riscv64"}, [], 12, "compiled for Linux on", id="machine"
        ),
        pytest.param(
            {"requires": ["torch", "packaging", "einops"]},
            TORCH,
            12,
            "METADATA requires 'einops', which the recipe does not declare",
            id="requires-more",
        ),
        pytest.param(
            {"requires": ["torch"]},
            TORCH,
            12,
            "METADATA does not require 'packaging'",
            id="requires-less",
        ),
        pytest.param({"more": {"torch/hook.py": b""}}, TORCH, 12, "torch", id="writes-into-torch"),
        pytest.param(
            {"more": {"extra/__init__.py": b""}},
            TORCH,
            12,
            "installs the top level 'extra'",
            id="top-level",
        ),
        pytest.param(
            {}, ["--torch", "2.9.0+cu126"], 16, "wheelyard update torch 2.9.0+cu126", id="lock"
        ),
    ],
)
def test_wheel_that_is_refused_leaves_nothing_in_the_yard(
    adopt: Run,
    publish: Publish,
    probe_farm: Path,
    about: dict[str, object],
    words: list[str],
    code: int,
    expected: str,
) -> None:
    done = adopt(publish(**about), *words)
    assert done.returncode == code, done.stderr
    assert expected in " ".join(done.stderr.split())
    assert not done.stdout
    assert not _stored(probe_farm)


def test_file_that_is_not_there_is_a_usage_error(adopt: Run) -> None:
    done = adopt("nothing.whl")
    assert done.returncode == 2
    assert "There is no wheel nothing.whl. Give a file, or a URL" in done.stderr


def test_second_adoption_has_nothing_to_do(
    adopt: Run, publish: Publish, probe_farm: Path, store_probe: Store
) -> None:
    wheel = publish()
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    stored = store_probe(machine=MACHINE, adopted=sha256)
    before = _stored(probe_farm)
    done = adopt(wheel, *TORCH, "--sha256", sha256.upper(), "--json")
    assert done.returncode == 0, done.stderr
    assert "nothing to do: the yard has it, made from the same file" in done.stderr
    (shown,) = json.loads(done.stdout)["wheels"]
    assert (shown["identifier"], shown["sha256"]) == (IDENTIFIER, stored.record.sha256)
    assert shown["adopted"]["sha256"] == sha256
    assert _stored(probe_farm) == before


@pytest.mark.parametrize(
    ("adopted", "expected"),
    [
        ("", "built here. A filename is used once: raise `revision`"),
        (OTHER, f"adopted from {PLACE} with other bytes (sha256 {OTHER}). A filename"),
    ],
    ids=["built", "adopted"],
)
def test_job_that_has_a_wheel_takes_no_other(
    adopt: Run, publish: Publish, probe_farm: Path, store_probe: Store, adopted: str, expected: str
) -> None:
    store_probe(machine=MACHINE, adopted=adopted)
    before = _stored(probe_farm)
    done = adopt(publish(), *TORCH)
    assert done.returncode == 14
    assert expected in done.stderr
    assert _stored(probe_farm) == before


@pytest.fixture
def plan(wheelyard: Run, probe_farm: Path) -> Callable[[], dict[str, object]]:
    """Return a function that says how the job stands."""

    def run() -> dict[str, object]:
        done = wheelyard("plan", IDENTIFIER, "--farm", probe_farm, "--json")
        job: dict[str, object] = json.loads(done.stdout)["jobs"][0]
        return job

    return run


def test_adopted_wheel_makes_its_job_done(
    wheelyard: Run,
    plan: Callable[[], dict[str, object]],
    probe_farm: Path,
    store_probe: Store,
) -> None:
    assert plan()["adopted"] is None
    store_probe(machine=MACHINE, adopted=OTHER)
    job = plan()
    assert (job["state"], job["adopted"], job["differences"]) == ("done", PLACE, [])
    listed = wheelyard("plan", IDENTIFIER, "--farm", probe_farm).stdout
    assert f"adopted from {PLACE}" in listed


@pytest.mark.parametrize(
    "name",
    ["patches/probe/0001-first.patch", "locks/build/probe-1.1.txt", "source/setup.py"],
)
def test_adopted_wheel_stays_done_whatever_it_would_be_built_from(
    plan: Callable[[], dict[str, object]], probe_farm: Path, store_probe: Store, name: str
) -> None:
    store_probe(machine=MACHINE, adopted=OTHER)
    with (probe_farm / name).open("a", encoding="utf-8") as file:
        file.write("# more\n")
    assert plan()["state"] == "done"


def test_adopted_wheel_is_stale_when_the_recipe_declares_something_else(
    wheelyard: Run, plan: Callable[[], dict[str, object]], probe_farm: Path, store_probe: Store
) -> None:
    store_probe(machine=MACHINE, adopted=OTHER)
    recipe = probe_farm / "recipes" / "probe.toml"
    text = recipe.read_text()
    recipe.write_text(text.replace('["probe", "probe_cuda"]', '["probe_cuda"]'))
    job = plan()
    assert (job["state"], job["adopted"]) == ("stale", PLACE)
    assert "top_levels" in str(job["differences"])
    assert "adopted" not in str(job["differences"])
    words = ("probe", "--python", "3.12", *TORCH, "--cuda", "13.0")
    done = wheelyard("build", *words, "--farm", probe_farm)
    assert done.returncode == 14
    assert "top_levels" in done.stderr
    assert "raise `revision`" in done.stderr


def test_build_finds_what_was_adopted(wheelyard: Run, probe_farm: Path, store_probe: Store) -> None:
    stored = store_probe(machine=MACHINE, adopted=OTHER)
    words = ("probe", "--python", "3.12", *TORCH, "--cuda", "13.0", "--farm", probe_farm)
    done = wheelyard("build", *words, "--json")
    assert done.returncode == 0, done.stderr
    assert f"nothing to do: the yard has it, adopted from {PLACE}" in done.stderr
    (shown,) = json.loads(done.stdout)["wheels"]
    assert (shown["sha256"], shown["build"]) == (stored.record.sha256, None)
    assert shown["adopted"]["url"] == PLACE


def test_explain_says_whose_wheel_it_is(
    wheelyard: Run, probe_farm: Path, store_probe: Store
) -> None:
    store_probe(machine=MACHINE, adopted=OTHER)
    done = wheelyard("explain", IDENTIFIER, "--farm", probe_farm)
    assert f"{IDENTIFIER}: done, adopted\n" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["adopted", "from", PLACE] in rows
    assert ["upstream", "sha256", OTHER] in rows
    assert "compiler" not in done.stdout
