"""Shared libraries that come with torch, with the wheels of CUDA or with the driver."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

# With the digest that auditwheel puts into the names of what it grafts.
_ENDING: Final = r"(?:[.-][0-9a-f]{8})?\.so(?:\..+)?"
_TORCH: Final = re.compile(
    r"lib(?:torch(?:_(?:cpu|cuda|cuda_\w+|global_deps|hip|nvshmem|python|xpu|xpu_\w+))?"
    rf"|c10(?:_(?:cuda|hip|xpu))?|caffe2\w*|shm){_ENDING}"
)
_DRIVER: Final = re.compile(rf"libcuda{_ENDING}")
_FABRIC: Final = re.compile(r"lib(?:ibverbs|mlx5|rdmacm)[.-].+")
_CUDA: Final = re.compile(
    r"lib(?:cud\w+|cublas\w*|cufft\w*|curand|cusolver\w*|cusparse\w*|cupti|cufile\w*|nccl|nv\w+)"
    r"[.-].+"
)
# Of these libraries the number in the SONAME tells the CUDA release; others count for themselves.
_NUMBERED: Final = re.compile(
    r"lib(?:cudart|cublas|cublasLt|nvrtc|nvrtc-builtins|nvJitLink|cupti|nvjpeg|npp\w+)\.so\.(\d+)"
    r"(?:\.\d+)*"
)
_CUFFT: Final = re.compile(r"libcufftw?\.so\.(\d+)")


class Bringer(StrEnum):
    """Who brings a library into a process, where a wheel does not."""

    TORCH = "torch"
    CUDA = "CUDA"
    DRIVER = "the driver"
    FABRIC = "the driver of the network card"


def bringer(library: str) -> Bringer | None:
    """For example torch for ``libc10.so``, CUDA for ``libcudart-0a1b2c3d.so.13``."""
    if _TORCH.fullmatch(library):
        return Bringer.TORCH
    if _DRIVER.fullmatch(library):
        return Bringer.DRIVER
    if _FABRIC.fullmatch(library):
        return Bringer.FABRIC
    return Bringer.CUDA if _CUDA.fullmatch(library) else None


def cuda_major(library: str) -> int | None:
    """For example 13 for ``libcudart.so.13`` and 12 for ``libcufft.so.11``."""
    match = _NUMBERED.fullmatch(library)
    if match:
        return int(match[1])
    match = _CUFFT.fullmatch(library)
    return int(match[1]) + 1 if match else None
