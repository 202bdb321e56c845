"""Containers: the same rooms in an image's own system, driven by cibuildwheel or by the engine."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from wheelyard.errors import MachineError, ProcessError, UsageError
from wheelyard.machine.compilers import read_compiler
from wheelyard.machine.libc import read_libc
from wheelyard.machine.namespaces import SandboxLevel
from wheelyard.model.cell import CudaVersion
from wheelyard.run import Completed, run
from wheelyard.toolchain.interpreters import QUESTION, read_answer
from wheelyard.toolchain.values import Toolkit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from wheelyard.machine.compilers import Compiler
    from wheelyard.machine.libc import Libc
    from wheelyard.model.cell import Cell, Machine
    from wheelyard.toolchain.interpreters import Interpreter
    from wheelyard.toolchain.sandbox import Order, Room

ENGINE_VARIABLE = "CIBW_CONTAINER_ENGINE"
_PROGRAMS: tuple[Literal["docker", "podman"], ...] = ("podman", "docker")
_SOURCES = Path(__file__).with_name("container")
_ORDER = Path("/wy-order")
_PLATFORMS = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}
_PINNED = re.compile(r".+@sha256:[0-9a-f]{64}")
_MARK = "wheelyard-image "
_PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """A container engine, and what the user wants it to be called with."""

    name: Literal["docker", "podman"]
    create_args: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Engine:
        """Parse what cibuildwheel takes, for example ``podman; create_args: --runtime=runc``."""
        name, _, rest = (part.strip() for part in text.partition(";"))
        key, _, words = rest.partition(":")
        for known in _PROGRAMS:
            if name == known and key.strip().replace("-", "_") in {"", "create_args"}:
                return cls(name=known, create_args=tuple(shlex.split(words)))
        example = "podman; create_args: --memory=8g"
        msg = f"{text!r} is not a container engine. Write it as in {example!r}."
        raise UsageError(msg)

    @property
    def has_network(self) -> bool:
        """Whether the user's arguments say what network there is."""
        return any(word.startswith(("--network", "--net")) for word in self.create_args)


def find_engine(wanted: str | None, env: Mapping[str, str]) -> Engine:
    """Return the engine that was asked for, or the first that is installed."""
    text = wanted or env.get(ENGINE_VARIABLE)
    path = env.get("PATH", os.defpath)
    engine = Engine.parse(text) if text else None
    names = (engine.name,) if engine else _PROGRAMS
    found = next((name for name in names if shutil.which(name, path=path)), None)
    if found is None:
        msg = f"There is no {' or '.join(names)} on PATH ({path}). Install one, or build without."
        raise MachineError(msg)
    return engine or Engine(name=found)


class _CompilerAnswer(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    real_path: str
    banner: str
    version: str
    target: str


class _ImageAnswer(msgspec.Struct, frozen=True, kw_only=True):
    compiler: _CompilerAnswer
    interpreter: str
    libc: str
    toolkits: dict[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """A container image that was asked what it has for one Python."""

    reference: str
    """As it was asked for."""
    digest: str
    """For example ``sha256:0123...``: what is really run."""
    machine: Machine
    interpreter: Interpreter
    compiler: Compiler
    libc: Libc
    toolkits: tuple[Toolkit, ...]

    def __str__(self) -> str:
        return (
            self.reference
            if _PINNED.fullmatch(self.reference)
            else f"{self.reference}@{self.digest}"
        )

    def toolkit(self, cuda: CudaVersion) -> Toolkit:
        """Return the image's own toolkit of this CUDA."""
        for toolkit in self.toolkits:
            if toolkit.cuda == cuda:
                return toolkit
        found = ", ".join(f"{one.digest} at {one.path}" for one in self.toolkits) or "none"
        msg = (
            f"The image {self.reference} has no CUDA toolkit {cuda} (found: {found}). Leave out "
            "--toolkit image, and one of this machine is shown to the container."
        )
        raise MachineError(msg)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ContainerSandbox:
    """The rooms of a sandbox as mounts of a container, without a network."""

    engine: Engine
    image: Image
    env: Mapping[str, str]
    scratch: Path
    base: Path = Path("/wy")
    level: SandboxLevel = SandboxLevel.CONTAINER

    def run(self, order: Order) -> Completed:
        """Run a command; one that leaves a wheel is what cibuildwheel is there for."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.scratch) as name:
            folder = Path(name)
            for source in _SOURCES.glob("*.py"):
                shutil.copyfile(source, folder / source.name)
            (folder / "order.json").write_text(json.dumps(self._order(order)), encoding="utf-8")
            if order.wheels is not None:
                return self._build(order, folder)
            python = str(self.image.interpreter.executable)
            words = [python, "-I", "-S", f"{_ORDER}/carry_out.py", f"{_ORDER}/order.json"]
            return run(
                [
                    *_run_command(self.engine, self.image.machine, self._arguments(order, folder)),
                    self.image.digest.removeprefix("sha256:"),
                    *words,
                ],
                env=dict(self.env),
                log_path=order.log_path,
                on_line=order.on_line,
            )

    def _order(self, order: Order) -> dict[str, object]:
        return {
            "command": list(order.command),
            "cwd": str(order.cwd),
            "env": dict(order.env),
            "links": [
                [str(room.source), str(room.inside)]
                for room in order.rooms
                if room.of_system and room.source != room.inside
            ],
            "wheels": None if order.wheels is None else str(order.wheels),
            "written": [str(room.inside) for room in order.rooms if room.writable],
        }

    def _arguments(self, order: Order, folder: Path) -> list[str]:
        """Return what the engine creates the container with; the user's words come last."""
        rooms = [room for room in order.rooms if not room.of_system]
        devices = [room for room in rooms if room.source.is_relative_to("/dev")]
        words = [] if self.engine.has_network else ["--network=none"]
        words += [_mount(folder, _ORDER, writable=False)]
        words += [_mount_room(room) for room in sorted(rooms, key=_depth) if room not in devices]
        if devices:
            words += [
                "--gpus=all" if self.engine.name == "docker" else "--device=nvidia.com/gpu=all"
            ]
        return [*words, *self.engine.create_args]

    def _build(self, order: Order, folder: Path) -> Completed:
        project = folder / "project"
        project.mkdir()
        (project / "pyproject.toml").write_text(_PROJECT, encoding="utf-8")
        for name in ("backend.py", "carry_out.py"):
            shutil.copyfile(_SOURCES / name, project / name)
        machine = self.image.machine
        only = f"{self.image.interpreter.version.abi_tag}-manylinux_{machine}"
        command = [sys.executable, "-m", "cibuildwheel", "--only", only]
        command += ["--output-dir", str(folder / "wheels"), "."]
        return run(
            command,
            env=self._cibuildwheel_environment(self._arguments(order, folder)),
            cwd=project,
            log_path=order.log_path,
            on_line=order.on_line,
        )

    def _cibuildwheel_environment(self, arguments: Sequence[str]) -> dict[str, str]:
        kept = {name: value for name, value in self.env.items() if not name.startswith("CIBW_")}
        words = shlex.join(arguments)
        return kept | {
            "CIBW_BUILD_FRONTEND": "build; args: --no-isolation --skip-dependency-check",
            "CIBW_CONTAINER_ENGINE": (
                f"{self.engine.name}; create_args: {words}; disable_host_mount: true"
            ),
            "CIBW_DEPENDENCY_VERSIONS": "latest",
            f"CIBW_MANYLINUX_{self.image.machine.upper()}_IMAGE": self.image.digest.removeprefix(
                "sha256:"
            ),
            # the same auditwheel as of any other wheel repairs it
            "CIBW_REPAIR_WHEEL_COMMAND": "",
        }

    def call(self, command: Sequence[str | Path], *, folder: Path) -> Completed:
        """Run a program of the image on a folder, shown at its own place."""
        arguments = ["--network=none"] if not self.engine.has_network else []
        arguments += [_mount(folder, folder, writable=True), *self.engine.create_args]
        words = _run_command(self.engine, self.image.machine, arguments)
        return run(
            [*words, self.image.digest.removeprefix("sha256:"), *command], env=dict(self.env)
        )


def open_container(
    reference: str,
    cell: Cell,
    *,
    engine: Engine,
    env: Mapping[str, str],
    scratch: Path,
) -> ContainerSandbox:
    """Find the image, by its digest, and ask it what it has for the cell."""
    if importlib.util.find_spec("cibuildwheel") is None:
        msg = (
            "Containers are driven by cibuildwheel, which is not installed. "
            "Run pip install 'wheelyard[containers]'."
        )
        raise MachineError(msg)
    digest = _digest(reference, cell.machine, engine=engine, env=env)
    image = _ask(reference, digest, cell, engine=engine, env=env, scratch=scratch)
    return ContainerSandbox(engine=engine, image=image, env=env, scratch=scratch)


def _digest(reference: str, machine: Machine, *, engine: Engine, env: Mapping[str, str]) -> str:
    """Return the digest of the image's configuration, which names it whatever becomes of a tag."""
    inspect = [engine.name, "image", "inspect", "--format", "{{.Id}}", reference]
    try:
        found = run(inspect, env=env).output
    except ProcessError:
        try:
            run([engine.name, "pull", f"--platform={_PLATFORMS[machine]}", reference], env=env)
            found = run(inspect, env=env).output
        except ProcessError as error:
            msg = (
                f"There is no image {reference}, and {engine.name} did not get it: "
                f"{error.tail.strip()}"
            )
            raise MachineError(msg) from error
    return f"sha256:{found.strip().removeprefix('sha256:')}"


def _ask(
    reference: str,
    digest: str,
    cell: Cell,
    *,
    engine: Engine,
    env: Mapping[str, str],
    scratch: Path,
) -> Image:
    version = cell.python
    tag = f"cp{version.major}{version.minor}-{version.abi_tag}"
    python = f"/opt/python/{tag}/bin/python"
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        shutil.copyfile(_SOURCES / "probe.py", Path(folder, "probe.py"))
        arguments = ["--network=none"] if not engine.has_network else []
        arguments += [_mount(Path(folder), _ORDER, writable=False), *engine.create_args]
        words = [python, "-I", "-S", f"{_ORDER}/probe.py", QUESTION]
        command = _run_command(engine, cell.machine, arguments)
        try:
            output = run([*command, digest.removeprefix("sha256:"), *words], env=env).output
        except ProcessError as error:
            msg = (
                f"The image {reference} did not tell what it has: {error.tail.strip()}\n"
                f"It needs the interpreter {python}, as the manylinux images have it."
            )
            raise MachineError(msg) from error
    text = next((line for line in output.splitlines() if line.startswith(_MARK)), _MARK)
    try:
        answer = msgspec.json.decode(text.removeprefix(_MARK), type=_ImageAnswer)
    except msgspec.DecodeError as error:
        msg = f"The image {reference} did not tell what it has ({error}): {output[-500:]}"
        raise MachineError(msg) from error
    return _image(reference, digest, answer, python=Path(python), machine=cell.machine)


def _image(
    reference: str, digest: str, answer: _ImageAnswer, *, python: Path, machine: Machine
) -> Image:
    compiler, libc = answer.compiler, read_libc(answer.libc)
    return Image(
        reference=reference,
        digest=digest,
        machine=machine,
        interpreter=read_answer(answer.interpreter, executable=python, libc=libc),
        compiler=read_compiler(
            Path(compiler.path),
            real_path=Path(compiler.real_path),
            banner=compiler.banner,
            version=compiler.version,
            target=compiler.target,
        ),
        libc=libc,
        toolkits=tuple(_toolkits(answer.toolkits)),
    )


def _toolkits(found: Mapping[str, str]) -> Iterable[Toolkit]:
    for path, version in found.items():
        cuda = CudaVersion.parse(version.rpartition(".")[0])
        yield Toolkit(path=Path(path), cuda=cuda, provider="image", digest=version)


def _run_command(engine: Engine, machine: Machine, arguments: Sequence[str]) -> list[str]:
    platform = f"--platform={_PLATFORMS[machine]}"
    return [engine.name, "run", "--rm", platform, *arguments]


def _depth(room: Room) -> int:
    return len(room.inside.parts)


def _mount_room(room: Room) -> str:
    return _mount(room.source, room.inside, writable=room.writable)


def _mount(source: Path, inside: Path, *, writable: bool) -> str:
    if "," in f"{source}{inside}":
        msg = f"{source} has a comma in its path, which container engines cannot mount."
        raise MachineError(msg)
    return f"--mount=type=bind,source={source},target={inside}{'' if writable else ',readonly'}"
