"""What holds a compile to older systems than this one: headers, and libraries to link."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.model.policies import policy_for

if TYPE_CHECKING:
    from wheelyard.machine.compilers import Compiler
    from wheelyard.machine.libc import Libc
    from wheelyard.model.cell import Machine
    from wheelyard.model.platform import PlatformFloor

SOURCES = Path(__file__).with_name("floor")
HEADERS = ("bits/c++config.h", "features.h", "sys/single_threaded.h")
LIBRARIES = "lib"


def floor_needed(floor: PlatformFloor, libc: Libc) -> bool:
    """Whether this system is newer than the oldest that a wheel has to load on."""
    return libc.name == "glibc" and libc.version > floor.glibc


def floor_sources() -> dict[str, Path]:
    """Return the files that the floor is made from, by their path in its folder."""
    files = sorted(path for path in SOURCES.rglob("*") if path.suffix in {".h", ".cc", ".py"})
    return {str(path.relative_to(SOURCES)): path for path in files}


def link_request(
    floor: PlatformFloor, machine: Machine, *, folder: Path, gxx: Path
) -> dict[str, object]:
    """Return what ``link_libraries.py`` is asked for; ``folder`` holds its sources."""
    versions = policy_for(floor.glibc, machine).versions
    return {
        "glibc": list(floor.glibc),
        "gxx": str(gxx),
        "out": str(folder / LIBRARIES),
        "static": str(folder / "static"),
        "versions": {name: sorted(found) for name, found in versions.items()},
    }


def prepare_link_libraries(
    floor: PlatformFloor, machine: Machine, *, folder: Path, compiler: Compiler, python: Path
) -> list[str | Path]:
    """Return the command that writes what is linked in place of the system's C and C++ libraries.

    It is for the system that compiles, which may be a container's.
    """
    (folder / LIBRARIES).mkdir()
    request = folder / "request.json"
    words = link_request(floor, machine, folder=folder, gxx=compiler.path)
    request.write_text(json.dumps(words, sort_keys=True), encoding="utf-8")
    return [python, "-I", "-S", folder / "link_libraries.py", request]
