"""What this machine and a Python are, and why a cell of the bundle does not fit them."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.shipping.installer.problems import MisfitError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wheelyard.shipping.installer.manifest import CellEntry

_ASK = (
    "import json, platform, sys, sysconfig; print(json.dumps({"
    "'version': '%d.%d%s' % (sys.version_info[0], sys.version_info[1], "
    "'t' if sysconfig.get_config_var('Py_GIL_DISABLED') else ''), "
    "'implementation': platform.python_implementation(), 'prefix': sys.prefix, "
    "'base_prefix': sys.base_prefix, 'machine': platform.machine(), "
    "'site': sysconfig.get_path('platlib'), 'executable': sys.executable}))"
)
_ROW = re.compile(r"(?P<name>.+), (?P<arch>\d+\.\d), (?P<driver>\d+(?:\.\d+)+)")
_MODULE = re.compile(r"^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s", re.MULTILINE)
_ARCH = re.compile(r"(\d+)\.(\d)([af]?)(\+PTX)?")


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what would change another Python, uv or pip."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("UV_", "PIP_", "PYTHON", "VIRTUAL_ENV", "CONDA_"))
    }


def ask_python(python: Path) -> dict[str, str]:
    """Return what an interpreter says of itself."""
    try:
        output = subprocess.run(
            [str(python), "-I", "-c", _ASK],
            check=True,
            capture_output=True,
            env=clean_environment(),
        ).stdout
        found = dict(json.loads(output))
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        msg = f"{python} does not run as a Python: {error}. Name another with --python."
        raise MisfitError(msg) from None
    if found["implementation"] != "CPython":
        msg = f"{python} is {found['implementation']}. The wheels are for CPython; name one."
        raise MisfitError(msg)
    return found


def glibc() -> tuple[int, int] | None:
    """Return the version of the C library; nothing where it is another than glibc."""
    try:
        text = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        text = ""
    match = re.fullmatch(r"glibc (\d+)\.(\d+).*", text)
    return (int(match[1]), int(match[2])) if match else None


class Driver:
    """The NVIDIA driver, and the compute capabilities of the GPUs that it shows."""

    def __init__(self, version: str, gpus: list[tuple[str, str]]) -> None:
        self.version = version
        self.gpus = gpus


def find_driver() -> Driver | None:
    """Return what the driver tells; nothing where there is none."""
    program = shutil.which("nvidia-smi") or "/usr/lib/wsl/lib/nvidia-smi"
    query = ["--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
    try:
        output = subprocess.run(
            [program, *query], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        output = ""
    rows = [match for line in output.splitlines() if (match := _ROW.fullmatch(line.strip()))]
    if rows:
        return Driver(rows[0]["driver"], [(row["name"], row["arch"]) for row in rows])
    try:
        module = _MODULE.search(Path("/proc/driver/nvidia/version").read_text())
    except OSError:
        module = None
    return Driver(module[1], []) if module else None


def misfits(cell: CellEntry, driver: Driver | None) -> Iterator[str]:
    """Say in sentences what of this machine the cell does not fit."""
    wanted = (int(cell["glibc"][0]), int(cell["glibc"][1]))
    found = glibc()
    needs = f"The wheels need glibc {wanted[0]}.{wanted[1]} or later"
    if found is None:
        yield f"{needs}, and this system ({platform.system()}) has none."
    elif found < wanted:
        yield f"{needs}, and this system has {found[0]}.{found[1]}."
    if driver is None:
        return
    if _numbers(driver.version) < _numbers(cell["minimum_driver"]):
        yield (
            f"CUDA {cell['cuda']} needs the NVIDIA driver {cell['minimum_driver']} or later, and "
            f"this machine has {driver.version}."
        )
    for name, arch in sorted(set(driver.gpus)):
        lacking = [ours["name"] for ours in cell["ours"] if not runs_on(arch, ours["gpu_archs"])]
        if lacking:
            yield f"{', '.join(lacking)} has no code for the GPU of this machine ({name}, {arch})."


def runs_on(gpu: str, archs: list[str]) -> bool:
    """Whether code for these targets runs on a GPU; a wheel without GPU code runs on any."""
    major, minor = (int(part) for part in gpu.split("."))
    for text in archs:
        match = _ARCH.fullmatch(text)
        if match is None:
            continue
        target = (int(match[1]), int(match[2]))
        same = target[0] == major and target[1] <= minor
        if match[3] == "a":
            same = target == (major, minor)
        if same or (match[4] and target <= (major, minor)):
            return True
    return not archs


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
