"""Smoke test of an installed tinyscale: import it, or run its kernel against float64.

python smoke.py --level imported|ran-on-gpu --json OUT
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import math
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from types import ModuleType

# One multiplication in float32 is off by half an epsilon at most, and so is the factor.
TOLERANCE = 2 * torch.finfo(torch.float32).eps

# none, one, a block of threads, one more, many blocks
COUNTS = (0, 1, 256, 257, 1_000_003)


class SmokeError(Exception):
    """What the smoke test found to be wrong, as a sentence for people."""


def import_all() -> ModuleType:
    """Import the package and its extension module, and return the package."""
    package = importlib.import_module("tinyscale")
    importlib.import_module("tinyscale_cuda")
    schema = str(torch.ops.tinyscale.scale.default._schema)
    if schema != "tinyscale::scale(Tensor x, float factor) -> Tensor":
        msg = f"the operator is registered as {schema!r}"
        raise SmokeError(msg)
    return package


def run_cases(package: ModuleType) -> list[dict[str, object]]:
    """Return the measurements of all sizes."""
    if not torch.cuda.is_available():
        msg = f"torch {torch.__version__} sees no GPU here: ask for --level imported"
        raise SmokeError(msg)
    return [measure(package, count, factor=0.1) for count in COUNTS]


def measure(package: ModuleType, count: int, *, factor: float) -> dict[str, object]:
    """Return one measurement: max |x - reference| / max |reference|."""
    x = torch.randn(count, generator=torch.Generator().manual_seed(count))
    actual = package.scale(x.cuda(), factor).cpu().double()
    expected = x.double() * factor
    error = 0.0
    if count:
        error = float((actual - expected).abs().max() / expected.abs().max())
    return {
        "case": f"{count} values",
        "quantity": "forward",
        "dtype": "float32",
        # JSON has no word for NaN or infinity, and either is out of any tolerance.
        "relative_error": error if math.isfinite(error) else sys.float_info.max,
        "tolerance": TOLERANCE,
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


def smoke(level: str, json_path: Path) -> str:
    """Run the level, write its report, and return a sentence about it."""
    package = import_all()
    measurements = run_cases(package) if level == "ran-on-gpu" else []
    machine = {
        "gpu": torch.cuda.get_device_name(0) if measurements else None,
        "driver": driver_version(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    report = {"format": 1, "level": level, "machine": machine, "measurements": measurements}
    json_path.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
    failures = [
        f"{found['case']}: relative error {found['relative_error']:.3g}, at most {TOLERANCE:.3g}"
        for found in measurements
        if found["relative_error"] > TOLERANCE
    ]
    if failures:
        msg = "out of tolerance:\n  " + "\n  ".join(failures)
        raise SmokeError(msg)
    return f"tinyscale {package.__version__}: {level}"


def main() -> int:
    """Run the smoke test as a command."""
    parser = argparse.ArgumentParser(description="Smoke test of an installed tinyscale")
    parser.add_argument("--level", choices=("imported", "ran-on-gpu"), required=True)
    parser.add_argument("--json", type=Path, required=True, metavar="OUT", dest="json_path")
    options = parser.parse_args()
    try:
        print(smoke(options.level, options.json_path), file=sys.stderr)  # noqa: T201
    except SmokeError as error:
        print(f"smoke.py: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
