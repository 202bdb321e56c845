"""Declare the one extension module; torch turns TORCH_CUDA_ARCH_LIST into nvcc's flags."""

from __future__ import annotations

from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CUDAExtension

setup(
    ext_modules=[
        CUDAExtension(
            name="tinyscale_cuda",
            sources=["csrc/tinyscale.cpp", "csrc/tinyscale_kernel.cu"],
            extra_compile_args={"cxx": ["-g0"]},
        )
    ],
    cmdclass={"build_ext": BuildExtension},
)
