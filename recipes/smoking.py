"""What the smoke tests of all recipes share: levels, reports, inputs, and how errors are measured.

A smoke test is a script, ``recipes/NAME/smoke.py``, that needs torch, the wheel, and this file
beside it or one folder above. It leaves 1 when something is missing or out of tolerance.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import importlib.metadata
import json
import math
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import ModuleType

Measurement = dict[str, object]


class SmokeError(Exception):
    """What a smoke test found to be wrong, as a sentence for people."""


class Draw:
    """Random tensors that are the same on every machine: drawn on the CPU, then moved."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._device = device

    def normal(
        self, shape: tuple[int, ...], dtype: torch.dtype, *, channel_last: bool = False
    ) -> torch.Tensor:
        """Return normal values; ``channel_last`` gives dimension 1 the stride 1."""
        values = torch.randn(shape, generator=self._generator, dtype=torch.float64)
        moved = values.to(dtype).to(self._device)
        return moved.transpose(1, 2).contiguous().transpose(1, 2) if channel_last else moved

    def uniform(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return values from 0 to 1."""
        values = torch.rand(shape, generator=self._generator, dtype=torch.float64)
        return values.to(dtype).to(self._device)


def short_name(dtype: torch.dtype) -> str:
    """Return for example ``float16``."""
    return str(dtype).removeprefix("torch.")


def leaf64(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy in double precision that takes a gradient."""
    wide = torch.complex128 if tensor.is_complex() else torch.float64
    return tensor.detach().to(wide).requires_grad_()


def measure(
    case: str,
    quantity: str,
    actual: torch.Tensor,
    expected: torch.Tensor,
    *,
    dtype: torch.dtype,
    epsilons: float,
) -> Measurement:
    """Return one measurement: max |actual - expected| / max |expected|.

    Where all that is expected is zero, it is the difference itself.
    ``dtype`` is that of the case. ``epsilons`` of the result's own dtype are allowed; 0 is for
    what is copied and may not differ at all.
    """
    if actual.shape != expected.shape:
        msg = f"{case}: {quantity} has shape {tuple(actual.shape)}, not {tuple(expected.shape)}"
        raise SmokeError(msg)
    wide = torch.complex128 if expected.is_complex() else torch.float64
    difference = (actual.detach().to(wide) - expected.detach()).abs().max()
    largest = expected.detach().abs().max()
    error = float(difference / largest) if largest else float(difference)
    return {
        "case": case,
        "quantity": quantity,
        "dtype": short_name(dtype),
        # JSON has no word for NaN or infinity, and either is out of any tolerance
        "relative_error": error if math.isfinite(error) else sys.float_info.max,
        "tolerance": epsilons * torch.finfo(actual.dtype).eps,
    }


def import_functions(functions: Mapping[str, Sequence[str]]) -> list[ModuleType]:
    """Import modules and make sure that each has the functions named; return them in order."""
    modules = []
    for module_name, names in functions.items():
        module = importlib.import_module(module_name)
        missing = [name for name in names if not callable(getattr(module, name, None))]
        if missing:
            msg = f"{module_name} ({module.__file__}) lacks {', '.join(missing)}"
            raise SmokeError(msg)
        modules.append(module)
    return modules


def makes_triton_kernels() -> bool:
    """Whether a package whose Triton kernels are made at import can be imported here.

    Triton before 3.3 (torch before 2.7) asks for a driver then.
    """
    triton = importlib.import_module("triton").__version__
    return torch.cuda.is_available() or tuple(map(int, triton.split(".")[:2])) >= (3, 3)


def run(
    distribution: str,
    *,
    import_all: Callable[[], object],
    run_cases: Callable[[torch.device], Iterable[Measurement]] | None = None,
) -> int:
    """Run a smoke test as a command and return what the process exits with.

    ``import_all`` is what the level ``imported`` does; ``ran-on-gpu`` does it and runs the cases.
    Where there are none yet, what is reported is an import whatever was asked for.
    """
    parser = argparse.ArgumentParser(description=f"Smoke test of an installed {distribution}")
    parser.add_argument("--level", choices=("imported", "ran-on-gpu"), required=True)
    parser.add_argument("--json", type=Path, required=True, metavar="OUT", dest="json_path")
    options = parser.parse_args()
    try:
        import_all()
        level = options.level if run_cases else "imported"
        device = None if level == "imported" else find_gpu()
        measurements = list(run_cases(device)) if run_cases and device else []
        write_report(options.json_path, level, device, measurements)
        refuse_errors(measurements)
    except SmokeError as error:
        print(f"smoke.py: {error}", file=sys.stderr)
        return 1
    found = f", {len(measurements)} numbers within tolerance" if measurements else ""
    version = importlib.metadata.version(distribution)
    print(f"{distribution} {version}: {level}{found}", file=sys.stderr)
    return 0


def find_gpu() -> torch.device:
    """Return the first GPU."""
    if not torch.cuda.is_available():
        msg = (
            f"torch {torch.__version__} sees no GPU here: run this level on a machine that has "
            "one, or ask for --level imported"
        )
        raise SmokeError(msg)
    return torch.device("cuda", 0)


def write_report(
    path: Path, level: str, device: torch.device | None, measurements: Sequence[Measurement]
) -> None:
    """Write the report whole or not at all."""
    report = {
        "format": 1,
        "level": level,
        "machine": describe_machine(device),
        "measurements": measurements,
    }
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    text = json.dumps(report, indent=1, sort_keys=True, allow_nan=False) + "\n"
    try:
        unfinished.write_text(text)
        unfinished.replace(path)
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}"
        raise SmokeError(msg) from error


def describe_machine(device: torch.device | None) -> dict[str, str | None]:
    """Return what the numbers were measured on."""
    return {
        "gpu": None if device is None else torch.cuda.get_device_name(device),
        "driver": driver_version(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def driver_version() -> str | None:
    """Return the version of the NVIDIA driver from its management library, if there is one."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    buffer = ctypes.create_string_buffer(96)
    if library.nvmlInit_v2() or library.nvmlSystemGetDriverVersion(buffer, ctypes.c_uint(96)):
        return None
    return buffer.value.decode()


def refuse_errors(measurements: Sequence[Measurement]) -> None:
    """Raise with a line for each measurement that is out of its tolerance."""
    lines = [
        f"\n  {found['case']}: {found['quantity']} in {found['dtype']}: relative error "
        f"{found['relative_error']:.3g}, at most {found['tolerance']:.3g} allowed"
        for found in measurements
        if float(str(found["relative_error"])) > float(str(found["tolerance"]))
    ]
    if lines:
        msg = f"{len(lines)} of {len(measurements)} numbers are out of tolerance:{''.join(lines)}"
        raise SmokeError(msg)
