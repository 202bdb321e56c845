"""Compare the CUDA versions, compiler and headers that meet, before anything is compiled."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from wheelyard.errors import MachineError
from wheelyard.model.possibility import reason_compiler_too_new, reason_compiler_too_old

if TYPE_CHECKING:
    from pathlib import Path

    from wheelyard.machine.compilers import Compiler
    from wheelyard.model.cell import Cell
    from wheelyard.toolchain.values import Toolkit, TorchEnvironment

_HEADERS = ("cuda_runtime.h", "cublas_v2.h", "cusparse.h", "cusolverDn.h")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Preflight:
    """What is worth saying although the build goes on."""

    warnings: tuple[str, ...]


def header_folders(torch: TorchEnvironment) -> tuple[Path, ...]:
    """Return the folders with the headers of CUDA's libraries that torch's wheels bring."""
    return tuple(sorted(path for path in torch.site.glob("nvidia/*/include") if path.is_dir()))


def check_toolchain(
    cell: Cell,
    *,
    toolkit: Toolkit,
    torch: TorchEnvironment,
    compiler: Compiler,
    gcc_major: int | None,
) -> Preflight:
    """Raise with a remedy where these cannot make a wheel together; return warnings."""
    problems = [
        *_compiler_problems(cell, toolkit=toolkit, compiler=compiler, gcc_major=gcc_major),
        *_header_problems(toolkit, torch),
    ]
    wanted = cell.torch.cuda
    if toolkit.cuda.major != wanted.major:
        problems.append(
            f"torch {cell.torch} was built with CUDA {wanted}, the toolkit at {toolkit.path} is "
            f"CUDA {toolkit.cuda}: another major release. Set CUDA_HOME to a {wanted} toolkit."
        )
    if problems:
        raise MachineError("\n".join(problems))
    if toolkit.cuda != wanted:
        warning = f"torch has CUDA {wanted}, the toolkit {toolkit.cuda}: fine within one major."
        return Preflight(warnings=(warning,))
    return Preflight(warnings=())


def _compiler_problems(
    cell: Cell, *, toolkit: Toolkit, compiler: Compiler, gcc_major: int | None
) -> list[str]:
    if compiler.name != "gcc":
        return []
    reasons = [
        reason_compiler_too_new(toolkit.cuda, gcc_major=compiler.major),
        reason_compiler_too_old(cell.torch, gcc_major=compiler.major),
    ]
    problems = [
        f"{reason} It is {compiler.path}; name another with CXX=/usr/bin/g++-N."
        for reason in reasons
        if reason is not None
    ]
    if gcc_major is not None and compiler.major != gcc_major:
        problems.append(
            f"The farm's matrix wants gcc {gcc_major}, {compiler.path} is gcc {compiler.major}. "
            f"Set CXX=/usr/bin/g++-{gcc_major}."
        )
    return problems


def _header_problems(toolkit: Toolkit, torch: TorchEnvironment) -> list[str]:
    if toolkit.provider == "image":
        return []  # its files are not here to be looked at
    folders = (toolkit.path / "include", *header_folders(torch))
    missing = [
        name for name in _HEADERS if not any((folder / name).is_file() for folder in folders)
    ]
    if not missing:
        return []
    problem = (
        f"No {', '.join(missing)} in {toolkit.path}/include or in torch's own CUDA wheels. "
        "Install the development files of that CUDA release's libraries."
    )
    return [problem]
