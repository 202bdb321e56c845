"""What keeps a wheel above its floor is named, with the objects that it comes from."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import RepairError
from wheelyard.model.matrix import parse_machine
from wheelyard.model.platform import PlatformFloor
from wheelyard.wheels.excess import find_origins, refuse_above

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MACHINE = parse_machine(platform.machine())


def test_origins_are_the_objects_that_ask_for_a_symbol(
    compile_c: Callable[..., Path], tmp_path: Path
) -> None:
    asking = "extern int needed(void); int one(void) { return needed(); }\n"
    compile_c("csrc/asking.o", asking)
    compile_c("csrc/deep/asking.o", asking)
    compile_c("csrc/defining.o", "int needed(void) { return 1; }\n")
    (tmp_path / "compiled" / "csrc" / "broken.o").write_bytes(b"\x7fELF")
    assert find_origins({"needed", "other"}, [tmp_path / "compiled", tmp_path / "absent"]) == {
        "needed": ("csrc/asking.o", "csrc/deep/asking.o")
    }


def test_refusal_names_symbol_object_and_remedy(
    link_c: Callable[..., Path],
    compile_c: Callable[..., Path],
    make_wheel: Callable[..., Path],
    tmp_path: Path,
) -> None:
    library = link_c("libc.so.6", defines=["brand_new"], version="GLIBC_2.99")
    extension = link_c("_C.so", asks=["brand_new"], needs=[library])
    compile_c("csrc/new.o", "extern void brand_new(void); void f(void) { brand_new(); }\n")
    wheel = make_wheel(files={"demo_ext/_C.so": extension.read_bytes()})
    with pytest.raises(RepairError) as caught:
        refuse_above(
            PlatformFloor.parse("manylinux_2_28"),
            wheel,
            machine=MACHINE,
            object_folders=[tmp_path / "compiled"],
            scratch=tmp_path,
        )
    message = str(caught.value)
    assert "needs newer systems than manylinux_2_28" in message
    assert "brand_new@GLIBC_2.99 of libc.so.6: demo_ext/_C.so, from csrc/new.o" in message
    assert "`build.platform` in its recipe" in message


def test_symbol_of_no_object_was_linked_in(
    link_c: Callable[..., Path], make_wheel: Callable[..., Path], tmp_path: Path
) -> None:
    library = link_c("libc.so.6", defines=["brand_new"], version="GLIBC_2.34")
    extension = link_c("_C.so", asks=["brand_new"], needs=[library])
    wheel = make_wheel(files={"demo_ext/_C.so": extension.read_bytes()})
    with pytest.raises(RepairError) as caught:
        refuse_above(
            PlatformFloor.parse("manylinux_2_28"),
            wheel,
            machine=MACHINE,
            object_folders=(),
            scratch=tmp_path,
        )
    assert "from none of the objects: a library was linked in" in str(caught.value)
    assert 'write `platform = "manylinux_2_34"` there' in str(caught.value)
