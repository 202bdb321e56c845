"""A probe: what it asks the build child for, and what it makes of what that left."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import BuildError, InputFileError
from wheelyard.machine.namespaces import SandboxLevel
from wheelyard.model.source import FolderSource
from wheelyard.run import Completed
from wheelyard.sources.values import FetchedSource, PatchedSource
from wheelyard.toolchain.caches import CACHES
from wheelyard.wheels.build import BuildRequest
from wheelyard.wheels.probe import ProbedUnit, probe_source, require_probe

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.model.job import Job
    from wheelyard.toolchain.sandbox import Order
    from wheelyard.toolchain.values import Toolchain

BUILD = 'environment = { PROBE = "recipe", DEPTH = "1" }\n'
PROBE = 'probe = ["csrc/binding.cpp", "csrc/*_large.cu"]\n'


@dataclasses.dataclass(kw_only=True)
class FakeSandbox:
    """Leaves what wrappers and build leave of a probe, and remembers what it was asked for."""

    base: Path = Path("/wy")
    level: SandboxLevel = SandboxLevel.UNSHARE
    compiled: str = "1.5 3.75 csrc/binding.cpp\n10 20.5 csrc/one_large.cu\n"
    left_out: str = "csrc/a.cu\ncsrc/b.cu\ncsrc/a.cu\n"
    orders: list[Order] = dataclasses.field(default_factory=list)

    def run(self, order: Order) -> Completed:
        self.orders.append(order)
        build = next(room.source for room in order.rooms if room.inside == Path("/wy/build"))
        (build / "dist" / "probe-1.1-py3-none-any.whl").write_bytes(b"of empty objects")
        (build / "times").write_text("0m0.1s 0m0.1s\n0m12.0s 0m0.3s\n", encoding="ascii")
        (build / "probe").mkdir()
        (build / "probe" / "compiled").write_text(self.compiled, encoding="ascii")
        (build / "probe" / "left-out").write_text(self.left_out, encoding="ascii")
        return Completed(output="")


@pytest.fixture
def make_request(
    tmp_path: Path,
    recipe_text: str,
    make_probe_job: Callable[..., Job],
    make_toolchain: Callable[..., Toolchain],
) -> Callable[..., BuildRequest]:
    """Return a function that asks for a job of a recipe that names units to probe."""

    def make(sandbox: FakeSandbox, *, probe: str = PROBE) -> BuildRequest:
        (tmp_path / "torch").mkdir()
        return BuildRequest(
            job=make_probe_job(text=recipe_text.replace(BUILD, BUILD + probe)),
            toolchain=make_toolchain(tmp_path, sandbox=sandbox),
            work=tmp_path / "work",
            compile_cache=CACHES["none"],
            cache_root=tmp_path / "compile",
            compile_jobs=3,
            log_path=tmp_path / "log",
        )

    return make


@pytest.fixture
def patched(tmp_path: Path) -> PatchedSource:
    source = FetchedSource(
        source=FolderSource(path="../source"), path=tmp_path, digest="sha256:" + "1" * 64
    )
    return PatchedSource(source=source, tree=tmp_path, digest="sha256:" + "2" * 64, patches=())


def test_units_that_compiled_are_told_with_their_times(
    make_request: Callable[..., BuildRequest], patched: PatchedSource
) -> None:
    probed = probe_source(patched, make_request(FakeSandbox()))
    assert probed.units == (
        ProbedUnit(source="csrc/binding.cpp", seconds=2.25),
        ProbedUnit(source="csrc/one_large.cu", seconds=10.5),
    )
    assert probed.left_out == 2
    assert probed.cpu_seconds == pytest.approx(12.5)


def test_wrappers_are_told_the_patterns_and_builds_are_not(
    make_request: Callable[..., BuildRequest], patched: PatchedSource
) -> None:
    sandbox = FakeSandbox()
    probe_source(patched, make_request(sandbox))
    (order,) = sandbox.orders
    assert order.env["WHEELYARD_PROBE"] == "csrc/binding.cpp\ncsrc/*_large.cu"


def test_what_the_build_put_together_of_empty_objects_is_gone(
    make_request: Callable[..., BuildRequest], patched: PatchedSource
) -> None:
    request = make_request(FakeSandbox())
    probe_source(patched, request)
    assert not list(request.work.rglob("*.whl"))


def test_pattern_that_matched_nothing_is_an_error_with_what_there_is(
    make_request: Callable[..., BuildRequest], patched: PatchedSource
) -> None:
    request = make_request(FakeSandbox(compiled="1 2 csrc/binding.cpp\n"))
    with pytest.raises(BuildError, match=r"'csrc/\*_large.cu' .*also: csrc/a.cu, csrc/b.cu"):
        probe_source(patched, request)


def test_recipe_that_names_no_units_gets_the_key_to_name_them(
    make_request: Callable[..., BuildRequest],
) -> None:
    version = make_request(FakeSandbox(), probe="").job.version
    with pytest.raises(InputFileError, match=r"as `build.probe` in recipes/probe.toml"):
        require_probe(version)
