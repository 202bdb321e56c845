"""The NVIDIA driver and GPUs of this machine, without importing torch."""

from __future__ import annotations

import dataclasses
import logging
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.errors import MachineError, ProcessError
from wheelyard.machine.cgroups import PROC, read_text
from wheelyard.run import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

logger = logging.getLogger(__name__)

_QUERY = ("--query-gpu=name,compute_cap,driver_version,memory.total", "--format=csv,noheader")
# Windows puts the driver's programs there, and not always on PATH
_WSL_NVIDIA_SMI = Path("/usr/lib/wsl/lib/nvidia-smi")
_ROW = re.compile(
    r"(?P<name>.+), (?P<arch>\d+\.\d), (?P<driver>\d+(?:\.\d+)+), (?P<memory>\d+) MiB"
)
# the newest call it the CUDA of the user mode driver
_CUDA = re.compile(r"CUDA(?: UMD)? Version *: *(\d+\.\d+)")
_KERNEL_MODULE = re.compile(r"^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s", re.MULTILINE)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One GPU."""

    name: str
    arch: str
    """Its compute capability as gpu_archs writes it, for example ``9.0``."""
    memory: int
    """In bytes."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DriverFacts:
    """The driver, and the GPUs that it lets this process use."""

    version: str
    gpus: tuple[Gpu, ...]


def find_driver(env: Mapping[str, str], *, proc: Path = PROC) -> DriverFacts | None:
    """Return what the driver tells, or ``None``: having no GPU is a normal answer."""
    facts = parse_rows(_ask(env, *_QUERY).splitlines())
    if facts is not None:
        return facts
    module = _KERNEL_MODULE.search(read_text(proc / "driver" / "nvidia" / "version"))
    return DriverFacts(version=module[1], gpus=()) if module else None


def parse_rows(lines: Iterable[str]) -> DriverFacts | None:
    """Read the rows that nvidia-smi writes, passing over what is not a usable GPU."""
    rows = [match for line in lines if (match := _ROW.fullmatch(line.strip()))]
    if not rows:
        return None
    gpus = tuple(
        Gpu(name=row["name"], arch=row["arch"], memory=int(row["memory"]) * 2**20) for row in rows
    )
    return DriverFacts(version=rows[0]["driver"], gpus=gpus)


def driver_cuda(env: Mapping[str, str]) -> str:
    """Return the CUDA release that the driver was made for, as nvidia-smi shows it, if it does."""
    match = _CUDA.search(_ask(env))
    return "" if match is None else match[1]


def _ask(env: Mapping[str, str], *words: str) -> str:
    program = Path(shutil.which("nvidia-smi", path=env.get("PATH", "")) or _WSL_NVIDIA_SMI)
    try:
        return run([program, *words], env=env).output
    except (MachineError, ProcessError, OSError) as error:
        logger.debug("no answer from %s: %s", program, error)
        return ""
