"""Build a patched source tree into a wheel, as PEP 517 says, inside the sandbox."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.errors import BuildError, DiskError, OutOfMemoryError, ProcessError
from wheelyard.leavings import LeavingError, list_left, opened, read_left
from wheelyard.machine.memory import oom_kills
from wheelyard.toolchain.compile_cache import (
    CacheStatistics,
)
from wheelyard.toolchain.floors import LIBRARIES
from wheelyard.toolchain.kept_units import explain_misses, found_units, keep_units, read_units
from wheelyard.toolchain.preflight import header_folders
from wheelyard.toolchain.rooms import build_rooms, python_environment
from wheelyard.toolchain.sandbox import Order, Room
from wheelyard.toolchain.values import Places, Toolchain
from wheelyard.wheels.values import BuiltWheel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wheelyard.model.cell import GpuArch
    from wheelyard.model.job import Job
    from wheelyard.sources.values import PatchedSource
    from wheelyard.toolchain.admission import Admission
    from wheelyard.toolchain.compile_cache import CompileCache

_ERROR = re.compile(
    r"\b(?:fatal )?error\b\s*[:(]|^\w*Error: |undefined reference|\bkilled by signal \d"
)
_ERRORS = 6
_LAST_LINES = 8
_TIME = re.compile(r"(\d{1,9})m(\d{1,9}(?:\.\d{1,9})?)s", re.ASCII)
_TIMES_LIMIT = 4096
_WHEEL_LIMIT = 16 << 30
"""Above any wheel, and soon read."""
_STEP = re.compile(r"^\[(\d{1,9})/(\d{1,9})\]")
_EPOCH = "315532800"
"""1980-01-01, the oldest time that a zip archive can hold."""
_DISK_FULL = "No space left on device"
_KILLED = re.compile(
    r"Killed signal terminated program|died due to signal 9\b|[Cc]ompiler killed by signal 9\b"
    r"|\[code=(?:137|-9)\]|^Killed$|returned non-zero exit status 137\b|died with <Signals.SIGKILL"
)
_WAITING_COMPILES = 64
"""How many compiles one build may have asked for, where a budget decides which of them run."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BuildRequest:
    """What the build child is asked for beside its source."""

    job: Job
    toolchain: Toolchain
    work: Path
    """A folder of this build alone."""
    compile_cache: CompileCache
    cache_root: Path
    """Where the compile cache of the recipe lies."""
    compile_jobs: int
    log_path: Path
    admission: Admission | None = None
    """The budget that its compiles ask, where other builds share the machine."""
    all_at_once: bool = True
    """Whether compiles may wait at the budget beyond ``compile_jobs``."""

    @property
    def cache_folder(self) -> Path:
        """Where the compile cache keeps its objects."""
        return self.compile_cache.folder(self.cache_root)

    @property
    def kept_units(self) -> Path:
        """Where its group keeps what was compiled; beside the cache, which sweeps its folder."""
        folder = self.cache_root.with_name(f"{self.cache_root.name}.units")
        return folder / f"{self.job.group}.json"

    def with_half_the_jobs(self) -> BuildRequest:
        """Ask for the same again with twice the memory for each compile."""
        admission = self.admission
        if admission is not None:
            admission = dataclasses.replace(admission, memory=2 * admission.memory)
        return dataclasses.replace(
            self,
            compile_jobs=max(1, self.compile_jobs // 2),
            admission=admission,
            all_at_once=False,
        )


def object_folders(work: Path) -> tuple[Path, ...]:
    """Return where a build leaves its object files, until its folder goes."""
    return work / "build" / "objects", work / "source"


def build_wheel(
    patched: PatchedSource,
    request: BuildRequest,
    *,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[BuiltWheel, CacheStatistics]:
    """Run the build child and return the one wheel that it left, and what its cache did."""
    places = Places(base=request.toolchain.sandbox.base)
    started = time.monotonic()
    output = run_build(patched, request, places, wheels=places.build / "dist", on_step=on_step)
    seconds = time.monotonic() - started
    wheel, sha256 = _only_wheel(output, request)
    built = BuiltWheel(
        path=wheel,
        sha256=sha256,
        log_path=request.log_path,
        seconds=seconds,
        cpu_seconds=read_cpu_seconds(output),
    )
    return built, _account(patched, request, places, output)


def run_build(
    patched: PatchedSource,
    request: BuildRequest,
    places: Places,
    *,
    variables: Mapping[str, str] | None = None,
    wheels: Path | None = None,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> Path:
    """Run the build child to its end and return the folder that it wrote to.

    ``variables`` are set beside those of every build; ``wheels`` is where it has to leave a wheel,
    if it has to.
    """
    sandbox = request.toolchain.sandbox
    output = prepare_output(request, places)
    killed_before, log_begins = oom_kills(), _size(request.log_path)
    try:
        sandbox.run(
            Order(
                command=_command(places),
                rooms=rooms_of_build(patched, request, places, output),
                env=build_environment(request, places) | dict(variables or {}),
                cwd=places.source,
                log_path=request.log_path,
                on_line=_step_reader(on_step),
                wheels=wheels,
            )
        )
    except ProcessError as error:
        killed = oom_kills() > killed_before or _was_killed(error, request, log_begins)
        raise _explain(error, request, killed=killed) from error
    return output


def _account(
    patched: PatchedSource, request: BuildRequest, places: Places, output: Path
) -> CacheStatistics:
    """Count hits and misses; say why device code that the group has was compiled again."""
    report = request.compile_cache.read(output)
    steps, job = report.steps, request.job
    circumstances = _circumstances(patched, request.toolchain)
    kept = read_units(request.kept_units)
    reasons: tuple[str, ...] = ()
    if kept is not None:
        reasons = explain_misses(
            steps, kept, circumstances=circumstances, read_source=_reader(patched, places)
        )
    keep_units(request.kept_units, steps, job=job.identifier, circumstances=circumstances)
    return CacheStatistics(
        hits=report.hits,
        misses=report.misses,
        reasons=reasons,
        found=found_units(steps),
        keys=frozenset(step.key for step in steps if step.key),
    )


def _circumstances(patched: PatchedSource, toolchain: Toolchain) -> dict[str, str]:
    """Name what decides the result of a compile beside its command line."""
    return {
        "compiler": f"{toolchain.compiler} {toolchain.compiler.target}",
        "source": patched.digest,
        "toolkit": f"{toolchain.toolkit.provider} {toolchain.toolkit.digest}",
        "torch": f"{toolchain.torch.origin} {toolchain.torch.digest}",
        "tools": toolchain.tools.name,
    }


def _compilers_identity(toolchain: Toolchain) -> str:
    """Tell compilers apart that lie at the same paths of the sandbox."""
    compiler, toolkit = toolchain.compiler, toolchain.toolkit
    return f"{compiler} {compiler.target} {toolkit.provider} {toolkit.digest}"


def _reader(patched: PatchedSource, places: Places) -> Callable[[str], str | None]:
    def read(path: str) -> str | None:
        inside = places.source / path
        if not inside.is_relative_to(places.source):
            return None
        try:
            name = str(inside.relative_to(places.source))
            return read_left(patched.tree, name).decode("utf-8", "replace")
        except (OSError, LeavingError):  # what it includes tells why, and decides nothing
            return None

    return read


def read_cpu_seconds(output: Path) -> float:
    """Read what the shell's ``times`` wrote: its own user and system time, then its children's.

    The namespaces of a sandbox may hide that from the process outside.
    """
    try:
        parts = _TIME.findall(read_left(output, "times", limit=_TIMES_LIMIT).decode("ascii"))
    except (FileNotFoundError, UnicodeDecodeError):
        return 0.0
    return sum(60 * float(minutes) + float(seconds) for minutes, seconds in parts)


def prepare_output(request: BuildRequest, places: Places) -> Path:
    """Make the folder that the child writes to, with its distutils configuration."""
    output = request.work / "build"
    for name in ("dist", "tmp", "home"):
        (output / name).mkdir(parents=True, exist_ok=True)
    # a stable object folder: the default one carries the Python's tag, and the cache would miss
    text = f"[build_ext]\nbuild_temp = {places.build}/objects\n"
    (output / "distutils.cfg").write_text(text, encoding="utf-8")
    request.cache_folder.mkdir(parents=True, exist_ok=True)
    return output


def rooms_of_build(
    patched: PatchedSource, request: BuildRequest, places: Places, output: Path
) -> tuple[Room, ...]:
    """Return all that the build child sees; it may write to source, ``output`` and cache."""
    toolchain = request.toolchain
    return (
        *build_rooms(toolchain, places, scratch=request.work),
        Room(source=patched.tree, inside=places.source, writable=True),
        Room(source=output, inside=places.build, writable=True),
        Room(source=output / "tmp", inside=Path("/tmp"), writable=True),  # noqa: S108
        Room(source=request.cache_folder, inside=places.cache, writable=True),
        *_budget_rooms(request, places),
    )


def _budget_rooms(request: BuildRequest, places: Places) -> tuple[Room, ...]:
    if request.admission is None:
        return ()
    # a socket on a read-only mount can be connected to, and nobody can put another in its place
    return (Room(source=request.admission.socket, inside=places.budget),)


def _command(places: Places) -> tuple[str, ...]:
    python = str(places.environment / "bin" / "python")
    frontend = (python, "-m", "build", "--wheel", "--no-isolation", "--skip-dependency-check")
    return (
        str(places.tools / "drive-build"),
        *frontend,
        "--outdir",
        str(places.build / "dist"),
        str(places.source),
    )


def build_environment(request: BuildRequest, places: Places) -> dict[str, str]:
    """Return the whole environment of the build child, in paths of the sandbox."""
    toolchain = request.toolchain
    job = request.job
    compilers = _compilers(toolchain)
    includes = [str(places.toolkit / "include" / "cccl"), *_torch_headers(toolchain, places)]
    if toolchain.held_to is not None:
        includes.insert(0, str(places.floor / "include"))
    libraries = [places.base / "links", places.toolkit / "lib64", places.toolkit / "lib64/stubs"]
    environment = {
        **python_environment(places, compilers[0].parent),
        "CMAKE_BUILD_PARALLEL_LEVEL": str(_most_compiles(request)),
        "CPLUS_INCLUDE_PATH": ":".join(includes),
        "CUDA_HOME": str(places.toolkit),
        "CXX": "g++",
        "C_INCLUDE_PATH": ":".join(includes),
        "DIST_EXTRA_CONFIG": str(places.build / "distutils.cfg"),
        "HOME": str(places.build / "home"),
        # a Python built elsewhere links with its own folders as RPATH
        "LDCXXSHARED": "g++ -shared",
        "LDSHARED": "gcc -shared",
        "LIBRARY_PATH": ":".join(str(path) for path in libraries),
        "MAX_JOBS": str(_most_compiles(request)),
        "NVCC_CCBIN": str(compilers[0]),
        "PYTORCH_NVCC": str(places.tools / "nvcc"),
        "SOURCE_DATE_EPOCH": _EPOCH,
        "TMPDIR": str(places.build / "tmp"),
        "TORCH_CUDA_ARCH_LIST": ";".join(str(arch) for arch in job.gpu_archs),
        # every build starts from a fresh tree, so that nobody reads the dependency files, and
        # older torch spells the option in a way that compile caches do not know
        "TORCH_EXTENSION_SKIP_NVCC_GEN_DEPENDENCIES": "1",
        # from 2.15 on torch puts a ccache or sccache of the system in front of the wrappers
        "TORCH_NO_COMPILER_WRAPPER": "1",
        "WHEELYARD_BUILD": str(places.build),
        "WHEELYARD_CC": str(compilers[1]),
        "WHEELYARD_CXX": str(compilers[0]),
        "WHEELYARD_GENCODE": gencode_flags(job.gpu_archs),
        "WHEELYARD_SOURCE": str(places.source),
    }
    program = request.compile_cache.program
    if program is not None:
        environment["WHEELYARD_COMPILE_CACHE"] = str(places.tools / "cache" / program)
        identity = _compilers_identity(toolchain)
        environment |= request.compile_cache.variables(places, compilers=identity)
    if request.admission is not None:
        environment |= request.admission.variables(job, inside=places.budget)
    if toolchain.held_to is not None:
        environment["WHEELYARD_FLOOR"] = str(places.floor / LIBRARIES)
    if job.lineinfo:
        environment["WHEELYARD_LINEINFO"] = "1"
    return environment | dict(job.version.build.environment)


def _most_compiles(request: BuildRequest) -> int:
    """Return how many compiles the build starts at once.

    Where they wait for a budget, one that waits for another job's device code must not keep the
    host units behind it from asking.
    """
    if request.admission is None or not request.all_at_once:
        return request.compile_jobs
    return max(request.compile_jobs, _WAITING_COMPILES)


def gencode_flags(gpu_archs: tuple[GpuArch, ...]) -> str:
    """Spell GPU targets for nvcc, for example ``-gencode arch=compute_90,code=sm_90``."""
    flags = []
    for arch in gpu_archs:
        number = arch.number
        flags.append(f"-gencode arch=compute_{number},code=sm_{number}")
        if arch.ptx:
            flags.append(f"-gencode arch=compute_{number},code=compute_{number}")
    return " ".join(flags)


def _compilers(toolchain: Toolchain) -> tuple[Path, Path]:
    """Return the C++ compiler and the C compiler of the same family and version."""
    gxx = toolchain.compiler.path
    is_here = toolchain.interpreter.container_libc is None
    names = (("clang++", "clang"), ("g++", "gcc"), ("c++", "cc"))
    siblings = (gxx.with_name(gxx.name.replace(cxx, cc)) for cxx, cc in names if cxx in gxx.name)
    return gxx, next((path for path in siblings if not is_here or path.exists()), gxx)


def _torch_headers(toolchain: Toolchain, places: Places) -> list[str]:
    site = toolchain.torch.site
    folders = header_folders(toolchain.torch)
    return [str(places.torch / folder.relative_to(site)) for folder in folders]


def _step_reader(on_step: Callable[[int, int], None]) -> Callable[[str], None]:
    def read(line: str) -> None:
        match = _STEP.match(line)
        if match is not None:
            on_step(int(match[1]), int(match[2]))

    return read


def _explain(error: ProcessError, request: BuildRequest, *, killed: bool) -> BuildError | DiskError:
    identifier = request.job.identifier
    if _DISK_FULL in error.tail:
        msg = (
            f"The disk became full while {identifier} was compiled. Free some space, for example "
            f"with `wheelyard clean`, and run the same command again.\nLog: {request.log_path}"
        )
        return DiskError(msg)
    if killed:
        return _explain_kill(error, request)
    msg = (
        f"{identifier} did not compile (exit status {error.returncode}).\n"
        f"{_telling_lines(error, request.log_path)}\n"
        f"Whole log: {request.log_path} (or `wheelyard log {identifier}`)"
    )
    return BuildError(msg)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _was_killed(error: ProcessError, request: BuildRequest, log_begins: int) -> bool:
    """Whether a compiler was ended by SIGKILL, which on a machine that works is for memory.

    The log goes on below that of a first try.
    """
    if error.returncode in {-9, 137}:
        return True
    with request.log_path.open(encoding="utf-8", errors="replace") as log:
        log.seek(log_begins)
        return any(_KILLED.search(line) for line in log)


def _explain_kill(error: ProcessError, request: BuildRequest) -> OutOfMemoryError:
    identifier, build = request.job.identifier, request.job.version.build
    msg = (
        f"{identifier}: a compile was killed (SIGKILL), so the memory did not suffice for "
        f"{request.compile_jobs} at once with {build.memory_per_job / 2**30:.1f} GiB each. "
        "What was compiled stays in the compile cache. Take fewer with --jobs, or raise "
        f"`memory-per-job` in recipes/{request.job.version.recipe}.toml.\n"
        f"{_telling_lines(error, request.log_path)}\n"
        f"Whole log: {request.log_path} (or `wheelyard log {identifier}`)"
    )
    return OutOfMemoryError(msg)


def _telling_lines(error: ProcessError, log_path: Path) -> str:
    """Return the first errors of the compilers, which stand far above the end, and the end."""
    with log_path.open(encoding="utf-8", errors="replace") as log:
        errors = list(itertools.islice((line for line in log if _ERROR.search(line)), _ERRORS))
    last = error.tail.rstrip().splitlines()[-_LAST_LINES:]
    first = [f"First errors:\n{''.join(errors).rstrip()}"] if errors else []
    return "\n".join([*first, "Last lines:", *last])


def _only_wheel(output: Path, request: BuildRequest) -> tuple[Path, str]:
    """Return the wheel and its sha256; every later stage reads a plain file of this build."""
    try:
        names = list_left(output, "dist")
    except FileNotFoundError:
        names = []
    match [name for name in names if name.endswith(".whl")]:
        case [name]:
            with opened(output, f"dist/{name}", limit=_WHEEL_LIMIT) as stream:
                return output / "dist" / name, hashlib.file_digest(stream, "sha256").hexdigest()
        case []:
            msg = f"{request.job.identifier} built without error but left no wheel in its dist."
        case many:
            listed = ", ".join(map(repr, many))
            msg = f"{request.job.identifier} left several wheels where one is wanted: {listed}"
    raise BuildError(f"{msg}\nLog: {request.log_path}")  # noqa: TRY003, EM102
