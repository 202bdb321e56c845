"""Run the recipes' smoke tests in what was installed."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from wheelyard.shipping.installer.machine import clean_environment
from wheelyard.shipping.installer.problems import SmokeError

if TYPE_CHECKING:
    from pathlib import Path

_TAIL = 15


def run_smoke_test(python: Path, script: Path, *, level: str, scratch: Path) -> dict[str, Any]:
    """Run one and return its report; one that fails is an error."""
    report = scratch / "report.json"
    command = [str(python), "-I", str(script), "--level", level, "--json", str(report)]
    env = {**clean_environment(), "TMPDIR": str(scratch), "PYTHONDONTWRITEBYTECODE": "1"}
    env["TRITON_CACHE_DIR"] = str(scratch / "triton")
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, check=False
    )
    if done.returncode != 0:
        lines = done.stdout.decode("utf-8", "replace").rstrip().splitlines()[-_TAIL:]
        said = "\n".join(lines)
        msg = (
            f"The smoke test of {script.parent.name} failed, so nothing was installed. It said:\n"
            f"{said}"
        )
        raise SmokeError(msg)
    return dict(json.loads(report.read_text(encoding="utf-8")))


def describe(name: str, version: str, report: dict[str, Any]) -> str:
    """Say in a line what a smoke test showed."""
    if report["level"] == "imported":
        return f"{name} {version}: imported"
    measured: list[dict[str, Any]] = report.get("measurements", [])
    worst = max(
        (found["relative_error"] / (found["tolerance"] or 1.0) for found in measured), default=0.0
    )
    gpu = report.get("machine", {}).get("gpu")
    return (
        f"{name} {version}: ran on {gpu}, {len(measured)} numbers, the worst at "
        f"{100 * worst:.0f} % of its tolerance"
    )
