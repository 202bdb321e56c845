"""Ask a project's setup.py what it would build, in the sandbox of a build."""

from __future__ import annotations

import dataclasses
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from wheelyard.drafting.headers import Headers, find_headers, system_folders
from wheelyard.errors import BuildError, ProcessError
from wheelyard.toolchain.preflight import header_folders
from wheelyard.toolchain.sandbox import Order, Room
from wheelyard.toolchain.values import Places
from wheelyard.wheels.build import build_environment, prepare_output, rooms_of_build

if TYPE_CHECKING:
    from wheelyard.sources.values import PatchedSource
    from wheelyard.toolchain.values import Toolchain
    from wheelyard.wheels.build import BuildRequest

_ANSWER = "answer.json"
_LAST_LINES = 8


class AskedExtension(msgspec.Struct, frozen=True, kw_only=True):
    """An extension module that a build would make."""

    name: str
    sources: tuple[str, ...]
    include_dirs: tuple[str, ...]
    arguments: tuple[str, ...]
    """Of all its compilers."""

    @property
    def device_sources(self) -> tuple[str, ...]:
        return tuple(name for name in self.sources if PurePosixPath(name).suffix == ".cu")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What setup.py would build, with everything that is set for it in the sandbox."""

    extensions: tuple[AskedExtension, ...]
    makes_libraries: bool
    """Whether the extensions are libraries that torch loads, not modules that Python imports."""
    top_levels: tuple[str, ...]
    """Of its packages and modules; extensions may add some."""
    requires: tuple[str, ...]
    entry_points: tuple[str, ...]
    scripts: tuple[str, ...]
    name: str
    version: str
    description: str
    url: str
    license: str
    python_requires: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """The answer, and what the units that it names include."""

    answer: Answer
    headers: Headers


def ask_setup(patched: PatchedSource, request: BuildRequest) -> Asked:
    """Run setup.py up to where its configuration is read; raise ``BuildError`` if it stops."""
    places = Places(base=request.toolchain.sandbox.base)
    output = prepare_output(request, places)
    script = Path(__file__).with_name("ask_setup.py")
    python = str(places.environment / "bin" / "python")
    inside = places / script.name
    try:
        request.toolchain.sandbox.run(
            Order(
                command=(python, str(inside), str(places.build / _ANSWER)),
                rooms=(
                    *rooms_of_build(patched, request, places, output),
                    Room(source=script, inside=inside),
                ),
                env=build_environment(request, places),
                cwd=places.source,
                log_path=request.log_path,
            )
        )
    except ProcessError as error:
        last = "\n".join(error.tail.rstrip().splitlines()[-_LAST_LINES:])
        msg = (
            f"setup.py stops before it says what it would build:\n{last}\n"
            f"Whole log: {request.log_path}"
        )
        raise BuildError(msg) from error
    answer = msgspec.json.decode((output / _ANSWER).read_bytes(), type=Answer)
    return Asked(
        answer=answer, headers=_headers(answer, patched.tree, request.toolchain, places=places)
    )


def _headers(answer: Answer, tree: Path, toolchain: Toolchain, *, places: Places) -> Headers:
    units = [name for item in answer.extensions for name in item.sources]
    folders = [name for item in answer.extensions for name in item.include_dirs]
    return find_headers(
        dict.fromkeys(str(below_tree(name, places)) for name in units),
        tree=tree,
        folders=dict.fromkeys(tree / below_tree(name, places) for name in folders),
        places=_bringers(toolchain),
    )


def below_tree(path: str, places: Places) -> PurePosixPath:
    """Return a path of the sandbox as it lies in the source tree; others stay as they are."""
    inside = PurePosixPath(path)
    source = PurePosixPath(places.source)
    return inside.relative_to(source) if inside.is_relative_to(source) else inside


def _bringers(toolchain: Toolchain) -> dict[str, tuple[Path, ...]]:
    torch = toolchain.torch.site / "torch" / "include"
    toolkit = toolchain.toolkit.path / "include"
    return {
        "torch": (torch, torch / "torch" / "csrc" / "api" / "include"),
        "CUDA wheels of torch": header_folders(toolchain.torch),
        "CUDA toolkit": (toolkit, toolkit / "cccl"),
        "Python": (toolchain.interpreter.include,),
        "build requirements": tuple(sorted(toolchain.requirements.glob("*/include"))),
        "system": system_folders(),
    }
