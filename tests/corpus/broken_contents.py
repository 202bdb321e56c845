"""Wheels that hold what they should not, lack what they should hold, or cannot be read."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from breaking import broken

from wheelyard.wheels.findings import FindingKind

if TYPE_CHECKING:
    from workpiece import Workpiece

_C: Final = "torchvision/_C.so"
_DISCO: Final = "disco_helpers.cpython-312-x86_64-linux-gnu.so"
_PYTHON_FILE: Final = "torch_harmonics/__init__.py"
_GIB: Final = 1 << 30


_TWO_COPIES: Final = "two copies in one process do not work together"


@broken(
    "torch-harmonics",
    FindingKind.GRAFTED_LIBRARY,
    r"'libcudart\.faf08d9a\.so\.13' is inside the wheel; CUDA brings it",
    ours=True,
)
def cuda_runtime_grafted_in(piece: Workpiece) -> None:
    _graft(piece, "torch_harmonics_cuda_latest.libs/libcudart.faf08d9a.so.13", "libcudart.so.13")


@broken(
    "tensordict",
    FindingKind.GRAFTED_LIBRARY,
    r"'libcublas\.so\.12' is inside the wheel; CUDA brings it",
    refused=False,
)
def cuda_library_brought_along(piece: Workpiece) -> None:
    _graft(piece, "tensordict/lib/libcublas.so.12", "libcublas.so.12")


@broken(
    "torch-harmonics",
    FindingKind.GRAFTED_LIBRARY,
    rf"'libc10-0a1b2c3d\.so' is inside the wheel; torch brings it.*{_TWO_COPIES}",
)
def library_of_torch_grafted_in(piece: Workpiece) -> None:
    _graft(piece, "torch_harmonics_cuda_latest.libs/libc10-0a1b2c3d.so", "libc10-0a1b2c3d.so")


@broken(
    "torchvision 0.26",
    FindingKind.GRAFTED_LIBRARY,
    rf"'libtorch_cpu\.so' is inside the wheel; torch brings it.*{_TWO_COPIES}",
)
def library_of_torch_brought_along(piece: Workpiece) -> None:
    _graft(piece, "torchvision/lib/libtorch_cpu.so", "libtorch_cpu.so")


@broken(
    "flash-mla",
    FindingKind.GRAFTED_LIBRARY,
    rf"'libcuda\.so\.1' is inside the wheel;.*driver brings it.*{_TWO_COPIES}",
)
def library_of_the_driver_grafted_in(piece: Workpiece) -> None:
    _graft(piece, "sgl_flash_mla.libs/libcuda.so.1", "libcuda.so.1")


@broken(
    "torch-harmonics",
    FindingKind.RPATH,
    r"looks for libraries in '/opt/build/lib', not beside itself",
    ours=True,
)
def folder_of_the_build_machine_in_the_rpath(piece: Workpiece) -> None:
    piece.patch(_DISCO, "--set-rpath", "/opt/build/lib")


@broken(
    "torchao", FindingKind.RPATH, r"looks for libraries in '/usr/local/cuda/lib64'", refused=False
)
def cuda_of_the_build_machine_in_the_rpath(piece: Workpiece) -> None:
    piece.patch(
        "torchao/_C.abi3.so", "--force-rpath", "--set-rpath", "$ORIGIN:/usr/local/cuda/lib64"
    )


@broken(
    "tensordict",
    FindingKind.RPATH,
    r"looks for libraries in 'lib', not beside itself",
    refused=False,
)
def folder_relative_to_nothing_in_the_rpath(piece: Workpiece) -> None:
    piece.patch("tensordict/_C.so", "--set-rpath", "lib")


@broken(
    "torch-harmonics", FindingKind.TOP_LEVEL, r"writes 'torch/_extra\.py' into the folder of torch"
)
def file_in_the_folder_of_torch(piece: Workpiece) -> None:
    piece.members["torch/_extra.py"] = b""


@broken(
    "tensordict", FindingKind.TOP_LEVEL, r"writes 'torch/lib/libextra\.so' into the folder of torch"
)
def file_in_the_folder_of_torch_by_the_data_folder(piece: Workpiece) -> None:
    piece.members["tensordict-0.14.3.data/platlib/torch/lib/libextra.so"] = b""


@broken(
    "torchaudio",
    FindingKind.TOP_LEVEL,
    r"installs the top level 'tests', which other projects install",
    refused=False,
)
def folder_that_many_projects_have(piece: Workpiece) -> None:
    piece.members["tests/__init__.py"] = b""


@broken(
    "torch-harmonics",
    FindingKind.PATH_FILE,
    r"'torch_harmonics\.pth' runs at every start",
    refused=False,
)
def path_file(piece: Workpiece) -> None:
    piece.members["torch_harmonics.pth"] = b"import torch_harmonics\n"


@broken(
    "torch-harmonics",
    FindingKind.PATH_FILE,
    r"'distutils-precedence\.pth' runs at every start",
    ours=True,
)
def path_file_in_a_wheel_of_ours(piece: Workpiece) -> None:
    piece.members["distutils-precedence.pth"] = b"import os\n"


@broken("torch-harmonics", FindingKind.SCRIPT, r"has the script 'harmonize\.sh'", ours=True)
def script_that_nobody_declared(piece: Workpiece) -> None:
    name = "torch_harmonics_cuda_latest-0.9.1.data/scripts/harmonize.sh"
    piece.members[name] = b"#!/bin/sh\n"


@broken(
    "torch-harmonics",
    FindingKind.ENTRY_POINT,
    r"has the entry point 'console_scripts:harmonize'",
    ours=True,
)
def entry_point_that_nobody_declared(piece: Workpiece) -> None:
    piece.write_text("entry_points.txt", "[console_scripts]\nharmonize = torch_harmonics:main\n")


@broken(
    "torch-harmonics",
    FindingKind.REQUIREMENT,
    r"requires 'ninja', which the recipe does not declare",
    ours=True,
)
def requirement_that_nobody_declared(piece: Workpiece) -> None:
    piece.require("ninja")


@broken(
    "torch-harmonics",
    FindingKind.TOP_LEVEL,
    r"installs the top level 'extra', which the recipe does not declare",
    ours=True,
)
def package_that_nobody_declared(piece: Workpiece) -> None:
    piece.members["extra/__init__.py"] = b""


@broken(
    "torch-harmonics",
    FindingKind.DATA_FILE,
    r"installs 'data/etc/harmonics\.conf' outside of site-packages",
    ours=True,
)
def file_outside_of_site_packages(piece: Workpiece) -> None:
    piece.members["torch_harmonics_cuda_latest-0.9.1.data/data/etc/harmonics.conf"] = b""


@broken(
    "torch-harmonics",
    FindingKind.NO_EXTENSIONS,
    r"Nothing in it is compiled, though its tag is for one machine",
    refused=False,
)
def modules_left_out(piece: Workpiece) -> None:
    _leave_out_compiled(piece)


@broken(
    "torch-harmonics",
    FindingKind.NO_EXTENSIONS,
    r"Nothing in it is compiled; expected: attention_helpers, disco_helpers",
    ours=True,
)
def modules_left_out_of_a_wheel_of_ours(piece: Workpiece) -> None:
    _leave_out_compiled(piece)


@broken(
    "torch-harmonics",
    FindingKind.NO_EXTENSIONS,
    r"Nothing in it is compiled; expected: ",
    ours=True,
)
def pure_wheel_where_a_compiled_one_was_asked_for(piece: Workpiece) -> None:
    _leave_out_compiled(piece)
    piece.retag("py3-none-any")


@broken(
    "torch-harmonics",
    FindingKind.MISSING_EXTENSION,
    r"'torch_harmonics\.disco\._C' is not there",
    ours=True,
)
def one_module_left_out(piece: Workpiece) -> None:
    del piece.members["torch_harmonics/disco/_C.cpython-312-x86_64-linux-gnu.so"]


@broken("torchaudio", FindingKind.UNSAFE_MEMBER, r"'\.\./evil\.py' climbs out")
def member_that_climbs(piece: Workpiece) -> None:
    piece.append("../evil.py", b"")


@broken("tensordict", FindingKind.UNSAFE_MEMBER, r"'tensordict/\.\./\.\./evil\.py' climbs out")
def member_that_climbs_from_below(piece: Workpiece) -> None:
    piece.append("tensordict/../../evil.py", b"")


@broken("torch-harmonics", FindingKind.UNSAFE_MEMBER, r"'/etc/evil\.conf' climbs out")
def member_with_an_absolute_path(piece: Workpiece) -> None:
    piece.append("/etc/evil.conf", b"")


@broken("torchvision 0.26", FindingKind.UNSAFE_MEMBER, r"'torchvision/libcuda\.so' is a link")
def member_that_is_a_link(piece: Workpiece) -> None:
    piece.append("torchvision/libcuda.so", b"/usr/lib/libcuda.so.1", mode=stat.S_IFLNK | 0o777)


@broken(
    "torchvision 0.21", FindingKind.UNSAFE_MEMBER, r"'torchvision/_C\.so' is there more than once"
)
def member_that_is_there_twice(piece: Workpiece) -> None:
    piece.append(_C, b"\x7fELF")


@broken("torchao", FindingKind.UNSAFE_MEMBER, r"'torchao' is a file and a folder at once")
def member_that_is_a_folder_too(piece: Workpiece) -> None:
    piece.append("torchao", b"")


@broken("tensordict", FindingKind.UNSAFE_MEMBER, r"is not a plain relative path")
def member_of_another_system(piece: Workpiece) -> None:
    piece.append("C:\\evil.py", b"")


@broken("torchaudio", FindingKind.UNSAFE_MEMBER, r"'torchaudio/pipe' is neither file nor folder")
def member_that_is_a_pipe(piece: Workpiece) -> None:
    piece.append("torchaudio/pipe", b"", mode=stat.S_IFIFO | 0o644)


@broken("torchvision 0.26", FindingKind.NOT_A_WHEEL, r"cannot be read as a wheel")
def archive_that_was_cut_short(piece: Workpiece) -> None:
    piece.after.append(lambda path: os.truncate(path, path.stat().st_size // 2))


@broken("torch-harmonics", FindingKind.NOT_A_WHEEL, r"cannot be read as a wheel")
def archive_that_lost_its_last_bytes(piece: Workpiece) -> None:
    piece.after.append(lambda path: os.truncate(path, path.stat().st_size - 30))


@broken("tensordict", FindingKind.NOT_A_WHEEL, r"cannot be read as a wheel")
def page_in_place_of_a_wheel(piece: Workpiece) -> None:
    piece.after.append(lambda path: path.write_text("<!DOCTYPE html><title>404</title>"))


@broken("torchaudio", FindingKind.NOT_A_WHEEL, r"cannot be read as a wheel")
def empty_file_in_place_of_a_wheel(piece: Workpiece) -> None:
    piece.after.append(lambda path: path.write_bytes(b""))


@broken(
    "torch-harmonics", FindingKind.DAMAGED_MEMBER, r"'disco_helpers\S+' of .* cannot be unpacked"
)
def module_that_was_damaged_on_the_way(piece: Workpiece) -> None:
    content = piece.members[_DISCO]

    def damage(path: Path) -> None:
        whole = bytearray(path.read_bytes())
        whole[whole.index(content) + len(content) // 2] ^= 1
        path.write_bytes(whole)

    piece.after.append(damage)


@broken(
    "tensordict",
    FindingKind.SIZE,
    r"2\.00 GiB large; the asset of a GitHub release must be smaller than 2 GiB",
    refused=False,
)
def wheel_that_is_too_large_to_publish(piece: Workpiece) -> None:
    def inflate(path: Path) -> None:
        """Put a hole before the archive: it costs no disk, and readers look from the end."""
        content = path.read_bytes()
        with path.open("wb") as stream:
            stream.seek(2 * _GIB)
            stream.write(content)

    piece.after.append(inflate)


def _graft(piece: Workpiece, member: str, soname: str) -> None:
    """Put a library in that calls itself like one of torch, CUDA or the driver."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "library.so")
        command = ["gcc", "-shared", "-fPIC", "-x", "c", f"-Wl,-soname,{soname}", "-o", str(path)]
        subprocess.run([*command, "-"], check=True, input=b"int version = 1;\n")
        piece.members[member] = path.read_bytes()


def _leave_out_compiled(piece: Workpiece) -> None:
    for member in [name for name in piece.members if name.endswith(".so")]:
        del piece.members[member]
