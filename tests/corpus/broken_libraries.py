"""Wheels whose libraries are missing, of another CUDA, not linked, or cut short."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from breaking import broken

from wheelyard.wheels.findings import FindingKind

if TYPE_CHECKING:
    from workpiece import Workpiece

_C: Final = "torchvision/_C.so"
_IMAGE: Final = "torchvision/image.so"
_AUDIO: Final = "torchaudio/lib/libtorchaudio.abi3.so"
_DISCO: Final = "disco_helpers.cpython-312-x86_64-linux-gnu.so"
_AO: Final = "torchao/_C.abi3.so"
_MLA: Final = "flash_mla/cuda.abi3.so"


@broken(
    "torchvision 0.26", FindingKind.MISSING_SYMBOL, r"CUDA.*do(?:es)? not have.*cudaStreamWaitEvemt"
)
def function_that_cuda_does_not_have(piece: Workpiece) -> None:
    with piece.elf(_C) as elf:
        elf.rename_text("cudaStreamWaitEvent", "cudaStreamWaitEvemt")


@broken("torchvision 0.26", FindingKind.MISSING_SYMBOL, r"another CUDA.*libcudart\.so\.12")
def version_of_another_cuda(piece: Workpiece) -> None:
    piece.patch(_C, "--add-needed", "libcudart.so.12")
    with piece.elf(_C) as elf:
        elf.move_version("libcudart.so.13", "libcudart.so.12")
    piece.patch(_C, "--remove-needed", "libcudart.so.12")


_CUDA: Final = (
    r"needs libcudart\.so\.{}: compiled for another CUDA: beside this torch is libcudart\.so\.{}"
)


@broken("torchvision 0.26", FindingKind.MISSING_LIBRARY, _CUDA.format(12, 13))
def runtime_of_the_cuda_before(piece: Workpiece) -> None:
    with piece.elf(_C) as elf:
        elf.rename_version("libcudart.so.13", "libcudart.so.12")


@broken("torchvision 0.21", FindingKind.MISSING_LIBRARY, _CUDA.format(13, 12))
def runtime_of_the_cuda_behind(piece: Workpiece) -> None:
    with piece.elf(_C) as elf:
        elf.rename_version("libcudart.so.12", "libcudart.so.13")


@broken("torchvision 0.21", FindingKind.MISSING_LIBRARY, _CUDA.format(r"11\.0", 12))
def runtime_of_cuda_11(piece: Workpiece) -> None:
    piece.patch(_C, "--replace-needed", "libcudart.so.12", "libcudart.so.11.0")


@broken("torchao", FindingKind.MISSING_LIBRARY, _CUDA.format(r"11\.0", 12))
def runtime_of_cuda_11_in_the_only_module(piece: Workpiece) -> None:
    piece.patch(_AO, "--replace-needed", "libcudart.so.12", "libcudart.so.11.0")


@broken("flash-mla", FindingKind.MISSING_LIBRARY, _CUDA.format(12, 13))
def runtime_of_the_cuda_before_in_one_of_two_modules(piece: Workpiece) -> None:
    with piece.elf(_MLA) as elf:
        elf.rename_version("libcudart.so.13", "libcudart.so.12")


@broken(
    "torchaudio",
    FindingKind.MISSING_LIBRARY,
    r"needs libcublas\.so\.12: .*another CUDA.*libcublas\.so\.13",
)
def library_of_another_cuda(piece: Workpiece) -> None:
    piece.patch(_AUDIO, "--add-needed", "libcublas.so.12")


@broken(
    "torchvision 0.26",
    FindingKind.MISSING_LIBRARY,
    r"needs libcudnn\.so\.8: .*another cuDNN.*libcudnn\.so\.9",
)
def library_of_another_cudnn(piece: Workpiece) -> None:
    piece.patch(_C, "--add-needed", "libcudnn.so.8")


_NOBODY: Final = "neither the wheel nor torch nor the system brings it"


@broken("torch-harmonics", FindingKind.MISSING_LIBRARY, rf"needs libmkl_rt\.so\.2: {_NOBODY}")
def library_that_nobody_has(piece: Workpiece) -> None:
    for member in [name for name in piece.members if name.endswith(".so")]:
        piece.patch(member, "--add-needed", "libmkl_rt.so.2")


@broken(
    "torchaudio", FindingKind.MISSING_LIBRARY, rf"needs libsox\.so\.3: {_NOBODY}", refused=False
)
def library_of_the_build_machine_in_one_of_three_files(piece: Workpiece) -> None:
    piece.patch(_AUDIO, "--add-needed", "libsox.so.3")


@broken(
    "torchaudio, mended", FindingKind.MISSING_LIBRARY, rf"needs libsox\.so\.3: {_NOBODY}", ours=True
)
def library_of_the_build_machine_in_one_of_our_files(piece: Workpiece) -> None:
    piece.patch(_AUDIO, "--add-needed", "libsox.so.3")


@broken("torchao", FindingKind.MISSING_LIBRARY, r"needs libtorch_cuda_linalg_cpp\.so: ")
def library_that_torch_had_once(piece: Workpiece) -> None:
    piece.patch(_AO, "--replace-needed", "libtorch_cuda.so", "libtorch_cuda_linalg_cpp.so")


@broken(
    "torchvision 0.26",
    FindingKind.MISSING_LIBRARY,
    rf"needs libjpeg\.\w+\.so\.8: {_NOBODY}",
    refused=False,
)
def library_of_the_wheel_that_was_left_out(piece: Workpiece) -> None:
    del piece.members[_one(piece, "torchvision.libs/libjpeg.")]


@broken(
    "torchvision 0.21",
    FindingKind.MISSING_LIBRARY,
    rf"needs libz\.\w+\.so\.1: {_NOBODY}",
    refused=False,
)
def library_behind_a_library_of_the_wheel_that_was_left_out(piece: Workpiece) -> None:
    del piece.members[_one(piece, "torchvision.libs/libz.")]


_OUT_OF_REACH: Final = r"which is in 'torchvision\.libs', but its RUNPATH does not lead there"


@broken("torchvision 0.26", FindingKind.MISSING_LIBRARY, _OUT_OF_REACH, refused=False)
def runpath_that_was_cleared(piece: Workpiece) -> None:
    piece.patch(_IMAGE, "--remove-rpath")


@broken("torchvision 0.21", FindingKind.MISSING_LIBRARY, _OUT_OF_REACH, refused=False)
def runpath_that_leads_elsewhere(piece: Workpiece) -> None:
    piece.patch(_IMAGE, "--set-rpath", "$ORIGIN/../torchvision.dylibs")


@broken("torchvision 0.26", FindingKind.MISSING_LIBRARY, _OUT_OF_REACH, ours=True)
def runpath_that_was_cleared_in_a_wheel_of_ours(piece: Workpiece) -> None:
    piece.patch(_IMAGE, "--remove-rpath")


@broken(
    "torch-harmonics",
    FindingKind.MISSING_SYMBOL,
    r"libtorch_python\.so has it, but is not asked for.*type_caster",
)
def link_to_the_python_part_of_torch_left_out(piece: Workpiece) -> None:
    piece.patch(_DISCO, "--remove-needed", "libtorch_python.so")


@broken(
    "torchvision 0.26",
    FindingKind.MISSING_SYMBOL,
    r"libc10_cuda\.so has it, but is not asked for.*c10::cuda",
)
def link_to_the_cuda_part_of_torch_left_out(piece: Workpiece) -> None:
    unlinked = ("libtorch.so", "libtorch_python.so", "libtorch_cuda.so", "libc10_cuda.so")
    for library in unlinked:
        piece.patch(_C, "--remove-needed", library)


@broken(
    "torchao", FindingKind.MISSING_SYMBOL, r"libtorch_cpu\.so has it, but is not asked for.*at::"
)
def links_to_torch_left_out(piece: Workpiece) -> None:
    for library in ("libtorch.so", "libtorch_cpu.so", "libtorch_cuda.so"):
        piece.patch(_AO, "--remove-needed", library)


@broken(
    "torchvision 0.26",
    FindingKind.NOT_CHECKED,
    r"unless the package loads its libjpeg\.\w+\.so\.8 before.*jpeg_",
    refused=False,
)
def link_to_a_library_of_the_wheel_left_out(piece: Workpiece) -> None:
    name = _one(piece, "torchvision.libs/libjpeg.").rpartition("/")[2]
    piece.patch(_IMAGE, "--remove-needed", name)


@broken("torchvision 0.26", FindingKind.DAMAGED_BINARY, r"not a usable ELF file: it ends before")
def module_that_was_cut_short(piece: Workpiece) -> None:
    piece.members[_C] = piece.members[_C][: len(piece.members[_C]) // 2]


@broken("torch-harmonics", FindingKind.DAMAGED_BINARY, r"not a usable ELF file: it ends before")
def module_that_lost_its_end(piece: Workpiece) -> None:
    piece.members[_DISCO] = piece.members[_DISCO][:-4096]


@broken("torchaudio", FindingKind.DAMAGED_BINARY, r"torchaudio_prefixctc\.abi3\.so' .*empty")
def module_that_is_empty(piece: Workpiece) -> None:
    piece.members["torchaudio/lib/torchaudio_prefixctc.abi3.so"] = b""


@broken("torchaudio", FindingKind.DAMAGED_BINARY, r"libtorchaudio\.abi3\.so' .*ELF")
def module_that_is_the_pointer_to_a_large_file(piece: Workpiece) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1952304\n"
    piece.members[_AUDIO] = pointer


@broken("torch-harmonics", FindingKind.DAMAGED_BINARY, r"disco_helpers.*not a usable ELF file")
def module_with_a_damaged_header(piece: Workpiece) -> None:
    piece.members[_DISCO] = piece.members[_DISCO][:4] + bytes(60) + piece.members[_DISCO][64:]


def _one(piece: Workpiece, beginning: str) -> str:
    (member,) = (name for name in piece.members if name.startswith(beginning))
    return member
