"""Install a checked wheel into a clean environment, from an index, and run it there."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import uv
from packaging.utils import canonicalize_name
from packaging.version import Version

from wheelyard.errors import ProcessError, SmokeTestError
from wheelyard.leavings import read_left
from wheelyard.model.markers import marker_environment
from wheelyard.model.metadata import parse_core_metadata
from wheelyard.run import run
from wheelyard.toolchain.rooms import interpreter_rooms, make_environment, python_environment
from wheelyard.toolchain.sandbox import Order, Room
from wheelyard.toolchain.values import Places
from wheelyard.wheels.stamp import read_dist_info
from wheelyard.wheels.values import CheckedWheel, SmokeReport, TestedWheel, TestLevel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from packaging.requirements import Requirement

    from wheelyard.toolchain.values import Runtime

_TAIL_LINES = 15


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SmokeRequest:
    """How a wheel is tried."""

    name: str
    version: Version
    script: Path
    """The recipe's ``smoke.py``."""
    helpers: tuple[Path, ...]
    """Modules that it finds beside it."""
    staging_url: str
    """A simple index that serves this wheel alone."""
    runtime: Path
    """A flat folder with the locked requirements that torch does not bring."""
    toolchain: Runtime
    work: Path
    log_path: Path
    level: TestLevel
    devices: tuple[Path, ...]
    """GPU device files to show."""
    uv_env: Mapping[str, str]


def smoke_test(checked: CheckedWheel, request: SmokeRequest) -> TestedWheel:
    """Install from the staging index and run the recipe's smoke test; raise if it fails."""
    started = time.monotonic()
    places = Places(base=request.toolchain.sandbox.base)
    environment = _make_environment(request, places)
    packages = next((environment / "lib").glob("python*/site-packages"))
    _install(checked, request, packages)
    _require_satisfied(
        checked.wheel.path,
        request,
        folders=(packages, request.runtime, request.toolchain.torch.site),
    )
    answer = _run_script(request, places, environment)
    report = _read_report(answer, seconds=time.monotonic() - started, request=request)
    return TestedWheel(wheel=checked, level=report.level, report=report)


def _make_environment(request: SmokeRequest, places: Places) -> Path:
    return make_environment(
        request.work / "smoke-environment",
        interpreter=request.toolchain.interpreter,
        places=places,
        path_entries=(places / "runtime", places.torch),
    )


def _install(checked: CheckedWheel, request: SmokeRequest, packages: Path) -> None:
    """Install exactly this wheel, by name, version and digest, as a user would from the index."""
    listing = request.work / "smoke-requirements.txt"
    pin = f"{request.name}=={request.version} --hash=sha256:{checked.wheel.sha256}\n"
    listing.write_text(pin, encoding="utf-8")
    command = [uv.find_uv_bin(), "pip", "install", "--no-deps", "--require-hashes", "--offline"]
    # no cache: this index lives as long as this job, and another job may serve the same name
    command += ["--no-cache", "--no-config", "--default-index", request.staging_url]
    command += request.toolchain.interpreter.installing
    command += ["--target", str(packages), "--requirements", str(listing)]
    try:
        run(command, env=_without_indexes(request.uv_env), log_path=request.log_path)
    except ProcessError as error:
        msg = (
            f"The wheel could not be installed from its staging index.\n{error.tail.strip()}\n"
            f"Log: {request.log_path}"
        )
        raise SmokeTestError(msg) from error


def _without_indexes(env: Mapping[str, str]) -> dict[str, str]:
    """Leave nothing but the staging index for uv to look at."""
    names = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_DEFAULT_INDEX", "UV_INDEX_URL")
    return {name: value for name, value in env.items() if name not in names}


def _require_satisfied(wheel: Path, request: SmokeRequest, *, folders: Sequence[Path]) -> None:
    """Hold the wheel's own requirements against what is installed, as ``pip check`` does."""
    interpreter = request.toolchain.interpreter
    metadata = parse_core_metadata(read_dist_info(wheel, "METADATA"))
    problems = unmet_requirements(
        metadata.requires,
        installed=installed_versions(folders),
        python=interpreter.full_version,
        machine=interpreter.machine,
    )
    if problems:
        msg = (
            f"{wheel.name} was installed, but its requirements are not met: "
            f"{'; '.join(problems)}. Correct `wheel.requires` in the recipe and run "
            f"`wheelyard update runtime {request.name}`."
        )
        raise SmokeTestError(msg)


def installed_versions(folders: Iterable[Path]) -> dict[str, Version]:
    """Read names and versions off the ``.dist-info`` folders; earlier folders win."""
    found: dict[str, Version] = {}
    for folder in folders:
        for path in folder.glob("*.dist-info"):
            name, _, version = path.name.removesuffix(".dist-info").rpartition("-")
            found.setdefault(canonicalize_name(name), Version(version))
    return found


def unmet_requirements(
    requirements: Iterable[Requirement],
    *,
    installed: Mapping[str, Version],
    python: str,
    machine: str,
) -> tuple[str, ...]:
    """Say which requirements (extras aside) the installed versions do not meet.

    ``python`` is the full version, for example ``3.12.1``.
    """
    environment = {**marker_environment(python=python, machine=machine), "extra": ""}
    problems = []
    for requirement in requirements:
        if requirement.marker is not None and not requirement.marker.evaluate(environment):
            continue
        version = installed.get(canonicalize_name(requirement.name))
        if version is None:
            problems.append(f"{requirement} is not installed")
        elif not requirement.specifier.contains(version, prereleases=True):
            problems.append(f"{requirement} is wanted, {version} is installed")
    return tuple(problems)


def _run_script(request: SmokeRequest, places: Places, environment: Path) -> Mapping[str, object]:
    toolchain = request.toolchain
    output = request.work / "smoke"
    (output / "tmp").mkdir(parents=True, exist_ok=True)
    rooms = (
        *interpreter_rooms(toolchain.interpreter, places, environment=environment),
        Room(source=toolchain.torch.site, inside=places.torch),
        Room(source=request.runtime, inside=places / "runtime"),
        Room(source=request.script, inside=places / "smoke.py"),
        *(Room(source=path, inside=places / path.name) for path in request.helpers),
        Room(source=output, inside=places.build, writable=True),
        Room(source=output / "tmp", inside=Path("/tmp"), writable=True),  # noqa: S108
        *(Room(source=device, inside=device, writable=True) for device in request.devices),
    )
    variables = python_environment(places) | {
        "HOME": str(places.build),
        "TMPDIR": str(places.build / "tmp"),
        "TRITON_CACHE_DIR": str(places.build / "tmp" / "triton"),
    }
    del variables["PYTHONPATH"]
    python = str(places.environment / "bin" / "python")
    script = (str(places / "smoke.py"), "--level", str(request.level))
    try:
        toolchain.sandbox.run(
            Order(
                command=(python, *script, "--json", str(places.build / "report.json")),
                rooms=rooms,
                env=variables,
                cwd=places.build,
                log_path=request.log_path,
            )
        )
    except ProcessError as error:
        lines = "\n".join(error.tail.rstrip().splitlines()[-_TAIL_LINES:])
        msg = f"The smoke test failed. Its last lines:\n{lines}\nLog: {request.log_path}"
        raise SmokeTestError(msg) from error
    return _decode(output, "report.json")


def _decode(output: Path, name: str) -> Mapping[str, object]:
    path = output / name
    try:
        report = json.loads(read_left(output, name))
    except (FileNotFoundError, ValueError, RecursionError) as error:
        msg = f"The smoke test ended well but left no JSON report at {path}: {error}"
        raise SmokeTestError(msg) from None
    if not isinstance(report, dict):
        msg = f"The smoke test's report {path} is not a JSON object."
        raise SmokeTestError(msg)
    return report


def _read_report(
    answer: Mapping[str, object], *, seconds: float, request: SmokeRequest
) -> SmokeReport:
    level = answer.get("level")
    # a recipe without cases can but import, and says so on a machine with a GPU too
    if level not in {request.level, TestLevel.imported}:
        msg = f"The smoke test was asked for level {request.level}, it reports {level!r}."
        raise SmokeTestError(msg)
    machine = answer.get("machine")
    measurements = answer.get("measurements")
    return SmokeReport(
        level=TestLevel(str(level)),
        machine_description=describe_machine(machine if isinstance(machine, dict) else {}),
        measurements=tuple(measurements) if isinstance(measurements, list) else (),
        seconds=seconds,
    )


def describe_machine(machine: Mapping[str, object]) -> str:
    """For example ``NVIDIA H100 80GB HBM3, driver 580.159.04``; without a GPU ``no GPU``."""
    gpu, driver = machine.get("gpu"), machine.get("driver")
    if not gpu:
        return "no GPU"
    return f"{gpu}, driver {driver}" if driver else str(gpu)
