"""Wheels whose GPU code is not what was asked for, what the GPU needs, or what is trusted."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from breaking import broken
from elf_surgery import CUBIN, OTHER_KIND, PTX

from wheelyard.wheels.findings import FindingKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from elf_surgery import GpuEntry
    from workpiece import Workpiece

_C: Final = "torchvision/_C.so"
_PREFIX: Final = "torchaudio/lib/torchaudio_prefixctc.abi3.so"
_AUDIO: Final = "torchaudio/lib/libtorchaudio.abi3.so"
_AO: Final = "torchao/_C.abi3.so"
_MLA: Final = ("flash_mla/cuda.abi3.so", "flash_mla/_C_legacy.abi3.so")


def _renumber(piece: Workpiece, members: Iterable[str], old: int, new: int) -> None:
    for member in members:
        with piece.elf(member) as elf:
            elf.change_gpu_code(
                lambda entry: dataclasses.replace(entry, sm=new if entry.sm == old else entry.sm)
            )


def _change_kind(piece: Workpiece, members: Iterable[str], old: int, new: int) -> None:
    def change(entry: GpuEntry) -> GpuEntry:
        return dataclasses.replace(entry, kind=new if entry.kind == old else entry.kind)

    for member in members:
        with piece.elf(member) as elf:
            elf.change_gpu_code(change)


def _drop(piece: Workpiece, members: Iterable[str], is_dropped: Callable[[GpuEntry], bool]) -> None:
    """Turn code into something that no runtime knows."""
    for member in members:
        with piece.elf(member) as elf:
            elf.change_gpu_code(
                lambda entry: (
                    dataclasses.replace(entry, kind=OTHER_KIND) if is_dropped(entry) else entry
                )
            )


@broken(
    "torchaudio", FindingKind.GPU_CODE_MISSING, r"Nothing in it runs on H100.*\(9\.0\)", gpu="9.0"
)
def code_for_another_gpu(piece: Workpiece) -> None:
    _renumber(piece, (_PREFIX, _AUDIO), 90, 89)


@broken("torchao", FindingKind.GPU_CODE_MISSING, r"Nothing in it runs on A100 \(8\.0\)", gpu="8.0")
def code_for_newer_gpus_alone(piece: Workpiece) -> None:
    _renumber(piece, [_AO], 80, 86)


@broken(
    "torchao", FindingKind.GPU_CODE_MISSING, r"Nothing in it runs on H100.*8\.0 8\.6", gpu="9.0"
)
def code_for_older_gpus_alone(piece: Workpiece) -> None:
    _drop(piece, [_AO], lambda entry: entry.sm == 90)


@broken("torchvision 0.21", FindingKind.GPU_CODE_MISSING, r"Nothing in it runs on H100", gpu="9.0")
def code_for_older_gpus_alone_and_no_ptx(piece: Workpiece) -> None:
    _drop(piece, [_C], lambda entry: entry.kind == PTX or entry.sm == 90)


@broken(
    "flash-mla", FindingKind.GPU_CODE_MISSING, r"Nothing in it runs on B300.*\(10\.3\)", gpu="10.3"
)
def code_for_a_relative_of_the_gpu(piece: Workpiece) -> None:
    _renumber(piece, _MLA, 103, 100)


@broken(
    "torchaudio",
    FindingKind.GPU_CODE_MISSING,
    r"On H100.*\(9\.0\) 'torchaudio/lib/torchaudio_prefixctc\.abi3\.so' cannot be used",
    gpu="9.0",
    refused=False,
)
def one_file_without_code_for_the_gpu(piece: Workpiece) -> None:
    _renumber(piece, [_PREFIX], 90, 89)


@broken(
    "flash-mla",
    FindingKind.GPU_CODE_MISSING,
    r"On B200.*\(10\.0\) 'flash_mla/cuda\.abi3\.so' cannot be used",
    gpu="10.0",
    refused=False,
)
def one_file_with_code_for_a_relative_of_the_gpu(piece: Workpiece) -> None:
    _drop(piece, _MLA[:1], lambda entry: entry.sm == 100)


@broken(
    "torchvision 0.21",
    FindingKind.GPU_CODE_BY_PTX,
    r"On H100.*only after the driver has compiled it, from 5\.0\+PTX",
    gpu="9.0",
    refused=False,
)
def ptx_alone(piece: Workpiece) -> None:
    _drop(piece, [_C], lambda entry: entry.kind == CUBIN)


@broken(
    "torchaudio",
    FindingKind.GPU_CODE_BY_PTX,
    r"On A100.*only after the driver has compiled it, from 8\.0\+PTX",
    gpu="8.0",
    refused=False,
)
def machine_code_that_is_ptx(piece: Workpiece) -> None:
    _change_kind(piece, (_PREFIX, _AUDIO), CUBIN, PTX)


@broken("torchvision 0.26", FindingKind.GPU_CODE_MISSING, r"Nothing in it runs on H100", gpu="9.0")
def ptx_for_newer_gpus_alone(piece: Workpiece) -> None:
    _drop(piece, [_C], lambda entry: entry.kind == CUBIN)


@broken("torchao", FindingKind.GPU_CODE_MISSING, r"no GPU code", gpu="9.0")
def gpu_code_that_was_cut_off(piece: Workpiece) -> None:
    with piece.elf(_AO) as elf:
        elf.rename_section(".nv_fatbin", ".no_fatbin")


@broken("torchao", FindingKind.GPU_CODE_MISSING, r"no GPU code", gpu="9.0")
def gpu_code_that_was_wiped(piece: Workpiece) -> None:
    with piece.elf(_AO) as elf:
        elf.wipe_section(".nv_fatbin")


@broken(
    "torchaudio, mended",
    FindingKind.GPU_CODE_MISSING,
    r"There is no GPU code in it; asked for: 7\.5 8\.0.*PTX 12\.0",
    ours=True,
)
def gpu_code_that_was_cut_off_in_a_wheel_of_ours(piece: Workpiece) -> None:
    for member in (_PREFIX, _AUDIO):
        with piece.elf(member) as elf:
            elf.wipe_section(".nv_fatbin")


@broken(
    "torchaudio, mended",
    FindingKind.GPU_CODE_MISSING,
    r"'torchaudio/lib/libtorchaudio\.abi3\.so' has no GPU code for 9\.0$",
    ours=True,
)
def target_that_was_asked_for_and_left_out_of_one_file(piece: Workpiece) -> None:
    _drop(piece, [_AUDIO], lambda entry: entry.sm == 90)


@broken(
    "torchaudio, mended",
    FindingKind.GPU_CODE_UNASKED,
    r"'torchaudio/lib/libtorchaudio\.abi3\.so' has unasked GPU code for 8\.9$",
    ours=True,
)
def target_that_nobody_asked_for(piece: Workpiece) -> None:
    _renumber(piece, [_AUDIO], 86, 89)


@broken(
    "torchaudio, mended", FindingKind.GPU_CODE_MISSING, r"has no GPU code for PTX 12\.0$", ours=True
)
def ptx_that_was_asked_for_and_left_out(piece: Workpiece) -> None:
    _drop(piece, (_PREFIX, _AUDIO), lambda entry: entry.kind == PTX)


_B300: Final = r"machine code for 10\.3 \(B300\)"


@broken(
    "torchvision 0.26",
    FindingKind.GPU_CODE_SUSPICIOUS,
    rf"torchvision/_C\.so.*{_B300}",
    refused=False,
)
def code_for_b300_in_place_of_b200(piece: Workpiece) -> None:
    _renumber(piece, [_C], 100, 103)


@broken(
    "torchaudio",
    FindingKind.GPU_CODE_SUSPICIOUS,
    rf"libtorchaudio\.abi3\.so.*{_B300}.*code for 10\.0, which runs there too, or leave 10\.3 out",
    refused=False,
)
def code_for_b300_beside_b200(piece: Workpiece) -> None:
    _renumber(piece, [_AUDIO], 90, 103)


@broken("torchao", FindingKind.GPU_CODE_SUSPICIOUS, _B300, refused=False)
def code_for_b300_of_cuda_12(piece: Workpiece) -> None:
    _renumber(piece, [_AO], 90, 103)


@broken("flash-mla", FindingKind.GPU_CODE_SUSPICIOUS, _B300, refused=False)
def code_for_b300_and_no_other(piece: Workpiece) -> None:
    for member in _MLA:
        with piece.elf(member) as elf:
            elf.drop_gpu_features()


@broken("torchaudio", FindingKind.DAMAGED_BINARY, r"GPU code in .* is cut short")
def gpu_code_longer_than_its_file(piece: Workpiece) -> None:
    with piece.elf(_AUDIO) as elf:
        elf.overrun_gpu_code()
