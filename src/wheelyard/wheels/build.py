"""Build a patched source tree into a wheel, as PEP 517 says, inside the sandbox."""

from __future__ import annotations

import dataclasses
import itertools
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.errors import BuildError, DiskError, ProcessError
from wheelyard.files import file_sha256
from wheelyard.toolchain.compile_cache import CacheStatistics, read_cache_statistics
from wheelyard.toolchain.preflight import header_folders
from wheelyard.toolchain.rooms import build_rooms, python_environment
from wheelyard.toolchain.sandbox import Order, Room
from wheelyard.toolchain.values import Places, Toolchain
from wheelyard.wheels.values import BuiltWheel

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.model.cell import GpuArch
    from wheelyard.model.job import Job
    from wheelyard.sources.values import PatchedSource

_ERROR = re.compile(r"\b(?:fatal )?error\b\s*[:(]|^\w*Error: |undefined reference")
_ERRORS = 6
_LAST_LINES = 8
_TIME = re.compile(r"(\d+)m([\d.]+)s")
_STEP = re.compile(r"^\[(\d+)/(\d+)\]")
_EPOCH = "315532800"
"""1980-01-01, the oldest time that a zip archive can hold."""
_CACHE_SIZE = "20G"
_DISK_FULL = "No space left on device"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BuildRequest:
    """What the build child is asked for beside its source."""

    job: Job
    toolchain: Toolchain
    work: Path
    """A folder of this build alone."""
    compile_cache: Path
    compile_jobs: int
    log_path: Path
    use_compile_cache: bool = True


def build_wheel(
    patched: PatchedSource,
    request: BuildRequest,
    *,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[BuiltWheel, CacheStatistics]:
    """Run the build child and return the one wheel that it left, and what its cache did."""
    sandbox = request.toolchain.sandbox
    places = Places(base=sandbox.base)
    output = _prepare(request, places)
    started = time.monotonic()
    try:
        sandbox.run(
            Order(
                command=_command(places),
                rooms=_rooms(patched, request, places, output),
                env=build_environment(request, places),
                cwd=places.source,
                log_path=request.log_path,
                on_line=_step_reader(on_step),
            )
        )
    except ProcessError as error:
        raise _explain(error, request) from error
    seconds = time.monotonic() - started
    wheel = _only_wheel(output / "dist", request)
    built = BuiltWheel(
        path=wheel,
        sha256=file_sha256(wheel),
        log_path=request.log_path,
        seconds=seconds,
        cpu_seconds=read_cpu_seconds(output / "times"),
    )
    return built, read_cache_statistics(output / "cache.json")


def read_cpu_seconds(path: Path) -> float:
    """Read what the shell's ``times`` wrote: its own user and system time, then its children's.

    The namespaces of a sandbox may hide that from the process outside.
    """
    try:
        parts = _TIME.findall(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        return 0.0
    return sum(60 * float(minutes) + float(seconds) for minutes, seconds in parts)


def _prepare(request: BuildRequest, places: Places) -> Path:
    """Make the folder that the child writes to, with its distutils configuration."""
    output = request.work / "build"
    for name in ("dist", "tmp", "home"):
        (output / name).mkdir(parents=True, exist_ok=True)
    # a stable object folder: the default one carries the Python's tag, and the cache would miss
    text = f"[build_ext]\nbuild_temp = {places.build}/objects\n"
    (output / "distutils.cfg").write_text(text, encoding="utf-8")
    request.compile_cache.mkdir(parents=True, exist_ok=True)
    return output


def _rooms(
    patched: PatchedSource, request: BuildRequest, places: Places, output: Path
) -> tuple[Room, ...]:
    toolchain = request.toolchain
    return (
        *build_rooms(toolchain, places, scratch=request.work),
        Room(source=patched.tree, inside=places.source, writable=True),
        Room(source=output, inside=places.build, writable=True),
        Room(source=output / "tmp", inside=Path("/tmp"), writable=True),  # noqa: S108
        Room(source=request.compile_cache, inside=places.cache, writable=True),
    )


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
    compilers = _compilers(toolchain.compiler.path)
    includes = [str(places.toolkit / "include" / "cccl"), *_torch_headers(toolchain, places)]
    libraries = [places.base / "links", places.toolkit / "lib64", places.toolkit / "lib64/stubs"]
    environment = {
        **python_environment(places, compilers[0].parent),
        "CMAKE_BUILD_PARALLEL_LEVEL": str(request.compile_jobs),
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
        "MAX_JOBS": str(request.compile_jobs),
        "NVCC_CCBIN": str(compilers[0]),
        "PYTORCH_NVCC": str(places.tools / "nvcc"),
        "SCCACHE_BASEDIRS": str(places.base),
        "SCCACHE_CACHE_SIZE": _CACHE_SIZE,
        "SCCACHE_DIR": str(places.cache),
        "SCCACHE_IDLE_TIMEOUT": "0",
        "SCCACHE_SERVER_UDS": str(places.build / "sccache.socket"),
        "SOURCE_DATE_EPOCH": _EPOCH,
        "TMPDIR": str(places.build / "tmp"),
        "TORCH_CUDA_ARCH_LIST": ";".join(str(arch) for arch in job.gpu_archs),
        # every build starts from a fresh tree, so that nobody reads the dependency files, and
        # older torch spells the option in a way that compile caches do not know
        "TORCH_EXTENSION_SKIP_NVCC_GEN_DEPENDENCIES": "1",
        "WHEELYARD_BUILD": str(places.build),
        "WHEELYARD_CC": str(compilers[1]),
        "WHEELYARD_CXX": str(compilers[0]),
        "WHEELYARD_GENCODE": gencode_flags(job.gpu_archs),
        "WHEELYARD_SOURCE": str(places.source),
    }
    if request.use_compile_cache:
        environment["WHEELYARD_SCCACHE"] = str(places.tools / "cache" / "sccache")
    if job.lineinfo:
        environment["WHEELYARD_LINEINFO"] = "1"
    return environment | dict(job.version.build.environment)


def gencode_flags(gpu_archs: tuple[GpuArch, ...]) -> str:
    """Spell GPU targets for nvcc, for example ``-gencode arch=compute_90,code=sm_90``."""
    flags = []
    for arch in gpu_archs:
        number = arch.number
        flags.append(f"-gencode arch=compute_{number},code=sm_{number}")
        if arch.ptx:
            flags.append(f"-gencode arch=compute_{number},code=compute_{number}")
    return " ".join(flags)


def _compilers(gxx: Path) -> tuple[Path, Path]:
    """Return the C++ compiler and the C compiler of the same family and version."""
    names = (("clang++", "clang"), ("g++", "gcc"), ("c++", "cc"))
    siblings = (gxx.with_name(gxx.name.replace(cxx, cc)) for cxx, cc in names if cxx in gxx.name)
    return gxx, next((path for path in siblings if path.exists()), gxx)


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


def _explain(error: ProcessError, request: BuildRequest) -> BuildError | DiskError:
    identifier = request.job.identifier
    if _DISK_FULL in error.tail:
        msg = (
            f"The disk became full while {identifier} was compiled. Free some space, for example "
            f"with `wheelyard clean`, and run the same command again.\nLog: {request.log_path}"
        )
        return DiskError(msg)
    msg = (
        f"{identifier} did not compile (exit status {error.returncode}).\n"
        f"{_telling_lines(error, request.log_path)}\n"
        f"Whole log: {request.log_path} (or `wheelyard log {identifier}`)"
    )
    return BuildError(msg)


def _telling_lines(error: ProcessError, log_path: Path) -> str:
    """Return the first errors of the compilers, which stand far above the end, and the end."""
    with log_path.open(encoding="utf-8", errors="replace") as log:
        errors = list(itertools.islice((line for line in log if _ERROR.search(line)), _ERRORS))
    last = error.tail.rstrip().splitlines()[-_LAST_LINES:]
    first = [f"First errors:\n{''.join(errors).rstrip()}"] if errors else []
    return "\n".join([*first, "Last lines:", *last])


def _only_wheel(folder: Path, request: BuildRequest) -> Path:
    match sorted(folder.glob("*.whl")):
        case [wheel]:
            return wheel
        case []:
            msg = f"{request.job.identifier} built without error but left no wheel in its dist."
        case many:
            names = ", ".join(path.name for path in many)
            msg = f"{request.job.identifier} left several wheels where one is wanted: {names}"
    raise BuildError(f"{msg}\nLog: {request.log_path}")  # noqa: TRY003, EM102
