"""Libraries of torch, CUDA and the driver are told from others that are named alike."""

from __future__ import annotations

import pytest

from wheelyard.model.known_libraries import Bringer, bringer, cuda_major


@pytest.mark.parametrize(
    ("library", "expected"),
    [
        ("libtorch.so", Bringer.TORCH),
        ("libtorch_cuda_linalg.so", Bringer.TORCH),
        ("libtorch_cpu-0a1b2c3d.so", Bringer.TORCH),
        ("libc10_cuda.so", Bringer.TORCH),
        ("libcuda.so.1", Bringer.DRIVER),
        ("libibverbs.so.1", Bringer.FABRIC),
        ("libcudart.41118559.so.12", Bringer.CUDA),
        ("libnccl.so.2", Bringer.CUDA),
        ("libnvidia-ml.so.1", Bringer.CUDA),
        ("libtorchaudio.so", None),
        ("libshm.so", Bringer.TORCH),
        ("libshm-emulation-server.so", None),
        ("libtorch_c_dlpack_addon_torch24-cpu.so", None),
        ("libtorch_tpu.so", None),
        ("libnccl_ep.so", None),
        ("libcurl.so.4", None),
        ("libcutensor.so.2", None),
    ],
)
def test_library_is_brought_by(library: str, expected: Bringer | None) -> None:
    assert bringer(library) is expected


@pytest.mark.parametrize(
    ("library", "expected"),
    [
        ("libcudart.so.13", 13),
        ("libcudart.so.11.0", 11),
        ("libcublasLt.so.12", 12),
        ("libcufft.so.11", 12),
        ("libcufft.so.12", 13),
        ("libcusparse.so.12", None),
        ("libcurand.so.10", None),
        ("libcudnn.so.9", None),
        ("libc10.so", None),
    ],
)
def test_cuda_release_is_read_from_the_soname(library: str, expected: int | None) -> None:
    assert cuda_major(library) == expected
