"""Repair, with the real auditwheel on libraries compiled here."""

from __future__ import annotations

import dataclasses
import os
import platform
import zipfile
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from wheelyard.errors import RepairError
from wheelyard.model.platform import PlatformFloor
from wheelyard.wheels.repair import repair_wheel
from wheelyard.wheels.stamp import member_names, read_dist_info
from wheelyard.wheels.values import BuiltWheel, RepairedWheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MACHINE = platform.machine()
VERSION = Version("1.0+cu130.torch2.11.0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """Compiles, packs and repairs a wheel whose extension needs these libraries."""

    compile_library: Callable[..., bytes]
    write_wheel: Callable[..., Path]
    folder: Path

    def repair(
        self,
        *needs: str,
        excludes: tuple[str, ...] = (),
        rpath: str = "",
        version: Version = VERSION,
        destination: str = "out",
        source: str = "",
        floor: str = "",
    ) -> RepairedWheel:
        for number, name in enumerate(needs):
            self.compile_library(name, source or f"int part{number}(void) {{ return 1; }}\n")
        code = 'int printf(const char *, ...); int PyInit__C(void) { return printf(""); }\n'
        extension = self.compile_library("_C.so", code, needs=needs, rpath=rpath)
        name = f"demo_ext-1.0-cp312-cp312-linux_{MACHINE}.whl"
        wheel = self.write_wheel({"demo_ext/_C.so": extension}, name=name)
        log_path = self.folder / "log"
        built = BuiltWheel(path=wheel, sha256="0" * 64, log_path=log_path, seconds=1, cpu_seconds=1)
        libraries = self.folder / "libraries"
        env = {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": str(libraries)}
        return repair_wheel(
            built,
            destination=self.folder / destination,
            version=version,
            torch_requirement=Requirement("torch==2.11.0"),
            build_tag=None,
            env=env,
            excludes=excludes,
            floor=PlatformFloor.parse(floor) if floor else None,
        )


@pytest.fixture
def bench(
    compile_library: Callable[..., bytes], write_wheel: Callable[..., Path], tmp_path: Path
) -> Bench:
    return Bench(compile_library=compile_library, write_wheel=write_wheel, folder=tmp_path)


def test_wheel_at_its_floor_is_repaired(bench: Bench) -> None:
    assert bench.repair(floor="manylinux_2_28").platform_tag


def test_wheel_above_its_floor_is_refused(bench: Bench) -> None:
    number = "1" if MACHINE == "x86_64" else "16"
    with pytest.raises(RepairError, match=rf"needs newer systems than manylinux_2_{number},.*"):
        bench.repair(floor=f"manylinux_2_{number}")


def test_torch_and_cuda_stay_outside_and_the_tag_is_earned(bench: Bench) -> None:
    repaired = bench.repair("libtorch_cpu.so", "libcudart.so.13", "libnvToolsExt.so.1")
    assert repaired.external_libraries == (
        "libcudart.so.13",
        "libnvToolsExt.so.1",
        "libtorch_cpu.so",
    )
    assert repaired.grafted_libraries == ()
    assert repaired.platform_tag.startswith("manylinux")
    assert repaired.path.name == f"demo_ext-{VERSION}-cp312-cp312-{repaired.platform_tag}.whl"
    assert [symbol.partition("_")[0] for symbol in repaired.policy_symbols] == ["GLIBC"]
    assert sorted(path.name for path in repaired.path.parent.iterdir()) == [repaired.path.name]


def test_same_wheel_gives_the_same_bytes(bench: Bench) -> None:
    one = bench.repair("libtorch_cpu.so")
    (bench.folder / "two").mkdir()
    two = bench.repair("libtorch_cpu.so", destination="two/out")
    assert one.sha256 == two.sha256
    assert one.path.read_bytes() == two.path.read_bytes()


def test_other_library_is_grafted_and_torch_is_not(bench: Bench) -> None:
    rpath = str(bench.folder / "libraries")
    one = bench.repair("libtorch_cpu.so", "libspecial.so.3", rpath=rpath)
    [grafted] = one.grafted_libraries
    assert grafted.startswith("demo_ext.libs/libspecial-")
    assert one.external_libraries == ("libtorch_cpu.so",)
    assert grafted in member_names(one.path)
    assert "demo_ext.libs/" in read_dist_info(one.path, "RECORD").decode()
    two = bench.repair("libtorch_cpu.so", "libspecial.so.3", rpath=rpath, destination="two")
    assert two.sha256 == one.sha256


def test_recipe_may_exclude_more(bench: Bench) -> None:
    repaired = bench.repair("libspecial.so.3", excludes=("libspecial.so.*",))
    assert repaired.external_libraries == ("libspecial.so.3",)
    assert repaired.grafted_libraries == ()


def test_libraries_of_this_machine_do_not_change_the_tag(bench: Bench) -> None:
    plain = bench.repair("libtorch_cpu.so")
    # pthread_create has a new symbol version since glibc 2.34
    source = "int pthread_create(void); int part0(void) { return pthread_create(); }\n"
    rpath = str(bench.folder / "libraries")
    found = bench.repair("libtorch_cpu.so", rpath=rpath, destination="found", source=source)
    assert found.platform_tag == plain.platform_tag
    assert found.grafted_libraries == ()


def test_library_that_is_nowhere_is_named(bench: Bench) -> None:
    with pytest.raises(RepairError, match=r"(?s)libspecial\.so\.3.*Install the library"):
        bench.repair("libspecial.so.3", rpath="/nowhere")


def test_wheel_without_compiled_library_is_refused(
    write_wheel: Callable[..., Path], tmp_path: Path
) -> None:
    wheel = write_wheel({"demo_ext/__init__.py": b""})
    built = BuiltWheel(
        path=wheel, sha256="0" * 64, log_path=tmp_path / "log", seconds=1, cpu_seconds=1
    )
    with pytest.raises(RepairError, match=r"demo_ext-1\.0-cp312"):
        repair_wheel(
            built,
            destination=tmp_path / "out",
            version=VERSION,
            torch_requirement=None,
            build_tag=None,
            env=dict(os.environ),
        )
    assert list((tmp_path / "out").iterdir()) == []


def test_version_that_the_recipe_does_not_name_is_refused(bench: Bench) -> None:
    with pytest.raises(RepairError, match=r"'1\.0'.*'1\.1'"):
        bench.repair("libtorch_cpu.so", version=Version("1.1+cu130.torch2.11.0"))


def test_member_that_record_hides_is_refused(
    write_wheel: Callable[..., Path], tmp_path: Path
) -> None:
    wheel = write_wheel({"demo_ext/__init__.py": b""})
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("demo_ext/hidden.so", b"")
    built = BuiltWheel(
        path=wheel, sha256="0" * 64, log_path=tmp_path / "log", seconds=1, cpu_seconds=1
    )
    with pytest.raises(RepairError, match=r"hidden\.so"):
        repair_wheel(
            built,
            destination=tmp_path / "out",
            version=VERSION,
            torch_requirement=None,
            build_tag=None,
            env=dict(os.environ),
        )
