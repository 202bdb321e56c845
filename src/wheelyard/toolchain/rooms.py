"""The rooms that every sandboxed Python of a job has: interpreter, torch, toolkit, requirements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.toolchain.sandbox import Room

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wheelyard.toolchain.interpreters import Interpreter
    from wheelyard.toolchain.values import Places, Toolchain

_SYSTEM = (Path("/usr"), Path("/bin"), Path("/lib"), Path("/lib64"))


def build_rooms(toolchain: Toolchain, places: Places, *, scratch: Path) -> tuple[Room, ...]:
    """Return what a compile sees, all of it read-only; ``scratch`` is a folder of this job."""
    environment = make_environment(
        scratch / "environment", interpreter=toolchain.interpreter, places=places
    )
    return (
        *interpreter_rooms(toolchain.interpreter, places, environment=environment),
        Room(source=toolchain.torch.site, inside=places.torch),
        Room(source=toolchain.torch.links, inside=places / "links"),
        Room(
            source=toolchain.toolkit.path,
            inside=places.toolkit,
            of_system=toolchain.toolkit.provider == "image",
        ),
        Room(source=toolchain.requirements, inside=places.requirements),
        Room(source=toolchain.tools, inside=places.tools),
        *_compiler_rooms(toolchain),
    )


def interpreter_rooms(
    interpreter: Interpreter, places: Places, *, environment: Path
) -> tuple[Room, ...]:
    """Return the interpreter's prefix and the virtual environment in front of it.

    The prefix is shown at its own place too: a Python with a shared libpython looks for it there.
    """
    prefix = interpreter.base_prefix
    at_home = () if _is_shown(prefix) else (Room(source=prefix, inside=prefix, of_system=True),)
    return (
        *at_home,
        Room(source=prefix, inside=places.python, of_system=True),
        Room(source=environment, inside=places.environment),
    )


def _compiler_rooms(toolchain: Toolchain) -> tuple[Room, ...]:
    """Show a compiler that is kept outside the system's own folders, at its own place."""
    prefix = toolchain.compiler.path.parent.parent
    return () if _is_shown(prefix) else (Room(source=prefix, inside=prefix, of_system=True),)


def _is_shown(prefix: Path) -> bool:
    """Whether the sandbox shows this folder anyway, as one of the system's own."""
    return prefix == Path("/") or any(prefix.is_relative_to(folder) for folder in _SYSTEM)


def make_environment(
    folder: Path,
    *,
    interpreter: Interpreter,
    places: Places,
    path_entries: Sequence[Path] = (),
) -> Path:
    """Lay out a virtual environment of the interpreter as the sandbox shows it.

    ``path_entries`` are folders of the sandbox that are searched behind its site-packages.
    """
    version = interpreter.version
    name = f"python{version}"
    packages = folder / "lib" / name / "site-packages"
    packages.mkdir(parents=True, exist_ok=True)
    (folder / "bin").mkdir(exist_ok=True)
    target = places.python / "bin" / name
    for link in ("python", "python3"):
        if not (folder / "bin" / link).is_symlink():
            (folder / "bin" / link).symlink_to(target)
    text = f"home = {places.python / 'bin'}\ninclude-system-site-packages = false\n"
    (folder / "pyvenv.cfg").write_text(text, encoding="utf-8")
    if path_entries:
        lines = "".join(f"{entry}\n" for entry in path_entries)
        (packages / "wheelyard.pth").write_text(lines, encoding="utf-8")
    return folder


def python_environment(places: Places, *programs: Path) -> dict[str, str]:
    """Return the variables that every sandboxed Python has; ``programs`` come last on PATH."""
    folders = [
        places.tools,
        places.environment / "bin",
        places.requirements / "bin",
        places.toolkit / "bin",
        *programs,
        Path("/usr/bin"),
        Path("/bin"),
    ]
    return {
        "LC_ALL": "C.UTF-8",
        "PATH": ":".join(dict.fromkeys(str(folder) for folder in folders)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "PYTHONPATH": f"{places.requirements}:{places.torch}",
        "PYTHONUNBUFFERED": "1",
        "TZ": "UTC",
    }
