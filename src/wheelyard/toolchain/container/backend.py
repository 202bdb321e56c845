"""The build backend that cibuildwheel meets: it carries out the order of a build.

Patched source, toolkit, torch and cache are mounted where every sandbox of wheelyard shows them,
and the project that cibuildwheel copies into the container is this file and those beside it.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from carry_out import carry_out  # type: ignore[import-not-found]

ORDER = "/wy-order/order.json"


def build_wheel(wheel_directory: str, *_: object) -> str:
    """Run the build of the order, and hand over the one wheel that it left."""
    status = carry_out(ORDER)
    if status != 0:
        sys.exit(status)
    folder = Path(json.loads(Path(ORDER).read_text(encoding="utf-8"))["wheels"])
    (wheel,) = folder.glob("*.whl")
    shutil.copy(wheel, wheel_directory)
    return wheel.name
