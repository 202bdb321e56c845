"""CPython interpreters that a wheel can be built for."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from wheelyard.errors import MachineError, ProcessError
from wheelyard.files import replace_file
from wheelyard.machine.folders import cache_folder
from wheelyard.model.cell import PythonVersion
from wheelyard.model.decode import UNREADABLE
from wheelyard.run import run
from wheelyard.toolchain.interpreter_places import PYTHONS_VARIABLE, list_interpreters

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from wheelyard.machine.libc import Libc

logger = logging.getLogger(__name__)

OLDEST = PythonVersion(3, 8)
_MARK = "wheelyard-interpreter "
_NEWEST_PLATFORM = 40
"""The minor version of glibc in the newest manylinux platform that uv knows."""
QUESTION = f"""
import json, platform, struct, sys, sysconfig
variable = sysconfig.get_config_var
print({_MARK!r} + json.dumps({{
    "implementation": platform.python_implementation(),
    "full_version": platform.python_version(),
    "major": sys.version_info[0],
    "minor": sys.version_info[1],
    "free_threaded": bool(variable("Py_GIL_DISABLED")),
    "debug": bool(variable("Py_DEBUG")),
    "bits": struct.calcsize("P") * 8,
    "prefix": sys.prefix,
    "base_prefix": sys.base_prefix,
    "include": sysconfig.get_path("include", "posix_prefix"),
    "ext_suffix": variable("EXT_SUFFIX") or "",
    "soabi": variable("SOABI") or "",
    "ldshared": variable("LDSHARED") or "",
    "machine": platform.machine(),
}}))
"""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Interpreter:
    """A CPython with its headers, never a virtual environment."""

    executable: Path
    version: PythonVersion
    full_version: str
    """For example ``3.12.1`` or ``3.15.0rc2``."""
    base_prefix: Path
    include: Path
    """The folder that holds Python.h."""
    ext_suffix: str
    """For example ``.cpython-312-x86_64-linux-gnu.so``."""
    soabi: str
    machine: str
    ldshared: str = ""
    """How this Python's setuptools links an extension."""
    container_libc: Libc | None = None
    """The C library of the image that it lies in; nothing for one of this machine."""

    @property
    def installing(self) -> tuple[str, ...]:
        """How uv is told for which Python it installs; one in an image cannot be run."""
        if self.container_libc is None:
            return "--python", str(self.executable)
        glibc = self.container_libc.version
        platform = f"{self.machine}-manylinux_{glibc[0]}_{min(glibc[1], _NEWEST_PLATFORM)}"
        where = ("--python", sys.executable, "--python-platform", platform)
        return (*where, "--python-version", str(self.version.version))


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What an interpreter tells about itself."""

    implementation: str
    full_version: str
    major: int
    minor: int
    free_threaded: bool
    debug: bool
    bits: int
    prefix: str
    base_prefix: str
    include: str
    ext_suffix: str
    soabi: str
    ldshared: str
    machine: str

    @property
    def version(self) -> PythonVersion:
        return PythonVersion(self.major, self.minor, free_threaded=self.free_threaded)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A file that was looked at and not taken."""

    path: Path
    reason: str
    remedy: str = ""
    """What makes it usable, where something does."""

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}{self.remedy and f'; {self.remedy}'}"


def find_interpreter(
    version: PythonVersion,
    env: Mapping[str, str],
    *,
    running: Path = Path(sys.executable),
    root: Path = Path("/"),
) -> Interpreter:
    """Return the preferred interpreter of this version, or raise with all that was looked at."""
    refused: list[Refusal] = []
    with _remembering(env) as memory:
        for outcome in _look(list_interpreters(env, running=running, root=root), memory):
            if isinstance(outcome, Refusal):
                refused.append(outcome)
            elif outcome.version == version:
                return outcome
            else:
                reason = f"is Python {outcome.version} ({outcome.full_version})"
                refused.append(Refusal(path=outcome.executable, reason=reason))
    raise MachineError(_not_found(version, refused))


def find_all_interpreters(
    env: Mapping[str, str], *, running: Path = Path(sys.executable), root: Path = Path("/")
) -> tuple[Interpreter, ...]:
    """Return every usable interpreter, by version, the preferred one of a version first."""
    outcomes = judge_interpreters(env, running=running, root=root)
    found = [outcome for outcome in outcomes if isinstance(outcome, Interpreter)]
    return tuple(sorted(found, key=lambda interpreter: interpreter.version))


def judge_interpreters(
    env: Mapping[str, str], *, running: Path = Path(sys.executable), root: Path = Path("/")
) -> tuple[Interpreter | Refusal, ...]:
    """Return what became of every candidate, in order of preference."""
    with _remembering(env) as memory:
        return tuple(_look(list_interpreters(env, running=running, root=root), memory))


def _look(paths: Iterable[Path], memory: _Memory) -> Iterator[Interpreter | Refusal]:
    """Judge the candidates one by one, each base interpreter once."""
    seen: set[Path] = set()
    for path in paths:
        outcome = _judge(path, memory)
        place = outcome.executable if isinstance(outcome, Interpreter) else outcome.path
        if place not in seen:
            seen.add(place)
            yield outcome


def _judge(path: Path, memory: _Memory) -> Interpreter | Refusal:
    answer = memory.ask(path)
    if isinstance(answer, Answer) and answer.prefix != answer.base_prefix:
        base = _base(answer)
        if base is None:
            reason = f"is a virtual environment, and its base is not in {answer.base_prefix!r}"
            return Refusal(path=path, reason=reason)
        path, answer = base, memory.ask(base)
    if isinstance(answer, str):
        return Refusal(path=path, reason=answer)
    reason = _unfit(answer)
    if reason:
        return Refusal(path=path, reason=reason)
    if not Path(answer.include, "Python.h").is_file():
        reason = f"is Python {answer.full_version} with no Python.h in {answer.include}"
        return Refusal(path=path, reason=reason, remedy=_install_headers(answer.version))
    return _interpreter(path, answer)


def _base(answer: Answer) -> Path | None:
    """Return the interpreter that a virtual environment was made from."""
    path = Path(answer.base_prefix, "bin", f"python{answer.version}")
    return path.resolve() if path.exists() else None


def _unfit(answer: Answer) -> str:
    """Return why no wheel can be built for this interpreter, or nothing."""
    version = answer.version
    if answer.implementation != "CPython":
        return f"is {answer.implementation} {answer.full_version}, not CPython"
    if version < OLDEST:
        return f"is Python {answer.full_version}, older than {OLDEST}"
    if answer.bits != 64:
        return f"is a {answer.bits}-bit Python {answer.full_version}"
    if answer.debug:
        return f"is a debug build of Python {answer.full_version}"
    if "musl" in answer.soabi:
        return f"is Python {answer.full_version} for musl; torch has wheels for glibc only"
    return ""


def _install_headers(version: PythonVersion) -> str:
    debian, fedora = f"python{version.version}-dev", f"{_fedora_name(version)}-devel"
    return f"install {debian} (Debian, Ubuntu) or {fedora} (Fedora, RHEL)"


def read_answer(text: str, *, executable: Path, libc: Libc) -> Interpreter:
    """Return the interpreter of an image that printed this when it was asked."""
    line = next((line for line in text.splitlines() if line.startswith(_MARK)), _MARK)
    try:
        answer = msgspec.json.decode(line.removeprefix(_MARK), type=Answer)
    except msgspec.DecodeError as error:
        msg = f"{executable} of the image is not a Python interpreter: it does not answer."
        raise MachineError(msg) from error
    reason = _unfit(answer)
    if reason:
        msg = f"{executable} of the image {reason}."
        raise MachineError(msg)
    return dataclasses.replace(_interpreter(executable, answer), container_libc=libc)


def _interpreter(path: Path, answer: Answer) -> Interpreter:
    return Interpreter(
        executable=path,
        version=answer.version,
        full_version=answer.full_version,
        base_prefix=Path(answer.base_prefix),
        include=Path(answer.include),
        ext_suffix=answer.ext_suffix,
        soabi=answer.soabi,
        machine=answer.machine,
        ldshared=answer.ldshared,
    )


def _fedora_name(version: PythonVersion) -> str:
    return f"python{version.version}{'-freethreading' if version.free_threaded else ''}"


def _not_found(version: PythonVersion, refused: list[Refusal]) -> str:
    looked_at = "\n".join(f"  {refusal}" for refusal in refused) or "  (no interpreter at all)"
    fedora = _fedora_name(version)
    # Debian's releases have one Python each; deadsnakes has the others for Ubuntu
    debian = f"python{version.version}{'-nogil' if version.free_threaded else ''}"
    conda = "python-freethreading -c conda-forge" if version.free_threaded else "-c conda-forge"
    return (
        f"No usable CPython {version} on this machine. Looked at:\n{looked_at}\n"
        "Install one, for example:\n"
        f"  uv python install {version}\n"
        f"  pyenv install {version}\n"
        f"  apt-get install {debian} python{version.version}-dev\n"
        f"  dnf install {fedora} {fedora}-devel\n"
        f"  conda create -n python{version} python={version.version} {conda}\n"
        f"or name one in {PYTHONS_VARIABLE} (executables or folders, separated by colons)."
    )


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, or the lasting reason why there is none, and the file that gave it."""

    mtime_ns: int
    size: int
    answer: Answer | str


class _Remembered(msgspec.Struct, frozen=True, kw_only=True):
    entries: dict[str, _Entry]
    format: int = 1


@contextlib.contextmanager
def _remembering(env: Mapping[str, str]) -> Iterator[_Memory]:
    memory = _Memory(cache_folder(env) / "interpreters.json", env)
    try:
        yield memory
    finally:
        memory.save()


class _Memory:
    """Asks interpreters, and keeps their answers in a file for as long as they do not change."""

    def __init__(self, path: Path, env: Mapping[str, str]) -> None:
        self._path = path
        self._env = env
        self._entries = _load(path)
        self._changed = False

    def ask(self, path: Path) -> Answer | str:
        """Return the answer of an interpreter, or the reason why it gave none."""
        try:
            status = path.stat()
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        entry = self._entries.get(str(path))
        if entry and (entry.mtime_ns, entry.size) == (status.st_mtime_ns, status.st_size):
            return entry.answer
        answer, lasting = _ask(path, self._env)
        if lasting:
            self._entries[str(path)] = _Entry(
                mtime_ns=status.st_mtime_ns, size=status.st_size, answer=answer
            )
            self._changed = True
        return answer

    def save(self) -> None:
        """Write what was learnt; a folder that cannot be written costs time only."""
        if not self._changed:
            return
        try:
            _save(self._path, self._entries)
        except OSError as error:
            logger.debug("interpreters are not remembered: %s", error)


def _ask(path: Path, env: Mapping[str, str]) -> tuple[Answer | str, bool]:
    """Return the answer of an interpreter or why there is none, and whether that will last."""
    try:
        output = run([path, "-I", "-c", QUESTION], env=env).output
    except ProcessError as error:
        if "Unknown option: -I" in error.tail:
            return f"is older than Python {OLDEST}", True
        # a library that it lacks may be there tomorrow, so this is asked again
        last = (error.tail.strip().splitlines() or ["no output"])[-1]
        return f"does not run (status {error.returncode}: {last})", False
    except (MachineError, OSError) as error:
        return f"cannot be started: {error}", False
    for line in output.splitlines():
        if line.startswith(_MARK):
            with contextlib.suppress(msgspec.DecodeError):
                return msgspec.json.decode(line.removeprefix(_MARK), type=Answer), True
    return "is not a Python interpreter: it does not answer", False


def _load(path: Path) -> dict[str, _Entry]:
    try:
        remembered = msgspec.json.decode(path.read_bytes(), type=_Remembered)
    except (OSError, *UNREADABLE):
        return {}
    return remembered.entries if remembered.format == 1 else {}


def _save(path: Path, entries: dict[str, _Entry]) -> None:
    """Replace the file at once, without what has left the machine."""
    present = {name: entry for name, entry in sorted(entries.items()) if Path(name).exists()}
    replace_file(path, msgspec.json.encode(_Remembered(entries=present)))
