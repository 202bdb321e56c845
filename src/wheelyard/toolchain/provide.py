"""Bring together everything that a job's compile, or its wheel, will meet; see that it fits."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from wheelyard.errors import UsageError
from wheelyard.machine.compilers import find_gxx
from wheelyard.machine.libc import find_libc
from wheelyard.machine.namespaces import SandboxLevel
from wheelyard.toolchain.containers import ContainerSandbox
from wheelyard.toolchain.floors import floor_needed
from wheelyard.toolchain.interpreters import find_interpreter
from wheelyard.toolchain.preflight import check_toolchain
from wheelyard.toolchain.requirements import provide_requirements
from wheelyard.toolchain.toolkit import Provider, provide_toolkit
from wheelyard.toolchain.tools import provide_tools
from wheelyard.toolchain.torch_environment import (
    adopt_foreign_torch,
    find_foreign_torch,
    provide_torch,
)
from wheelyard.toolchain.values import Runtime, Toolchain, Toolkit, TorchEnvironment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from wheelyard.model.cell import Cell
    from wheelyard.model.lock import Lock
    from wheelyard.model.platform import PlatformFloor
    from wheelyard.toolchain.interpreters import Interpreter
    from wheelyard.toolchain.redistributables import Redistributables
    from wheelyard.toolchain.sandbox import Sandbox


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeRequest:
    """What a cell's wheel needs, with the lock that says it in advance."""

    cell: Cell
    torch_lock: Lock | None
    """``None`` for a torch that is there already."""
    foreign_python: Path | None
    sandbox: Sandbox
    cache: Path
    env: Mapping[str, str]
    uv_env: Mapping[str, str]

    @property
    def container(self) -> ContainerSandbox | None:
        """The container whose compiler and interpreter are used, if there is one."""
        return self.sandbox if isinstance(self.sandbox, ContainerSandbox) else None

    @property
    def copy(self) -> bool:
        """Whether nothing keeps a build from writing into what it is shown."""
        return self.sandbox.level is SandboxLevel.NONE


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ToolchainRequest(RuntimeRequest):
    """What a cell's compile needs, with the locks that say it in advance."""

    toolkit_lock: Lock | None
    """``None`` where the index has no complete toolkit of this CUDA."""
    redist: Redistributables | None
    """``None`` where the farm has no lock of NVIDIA's archives for this CUDA."""
    build_lock: Lock
    toolkit_provider: Provider
    compile_cache: str | None
    """The program that remembers what compilers made."""
    gcc_major: int | None
    floor: PlatformFloor
    """The oldest systems that the wheel has to load on."""


def provide_runtime(request: RuntimeRequest) -> Runtime:
    """Find or make interpreter and torch: all that trying a finished wheel takes."""
    if request.container is None:
        interpreter = find_interpreter(request.cell.python, request.env)
    else:
        interpreter = request.container.image.interpreter
    torch = _torch(request, interpreter)
    return Runtime(interpreter=interpreter, torch=torch, sandbox=request.sandbox)


def provide_toolchain(
    request: ToolchainRequest, *, say: Callable[[str], None] = lambda _text: None
) -> Toolchain:
    """Find or make interpreter, compiler, toolkit, torch and requirements; cheap things first."""
    container = request.container
    if request.toolkit_provider == "image" and container is None:
        msg = "--toolkit image is the toolkit of a container: name its image with --container."
        raise UsageError(msg)
    compiler = find_gxx(request.env) if container is None else container.image.compiler
    runtime = provide_runtime(request)
    interpreter, torch = runtime.interpreter, runtime.torch
    toolkit = _toolkit(request, interpreter)
    preflight = check_toolchain(
        request.cell,
        toolkit=toolkit,
        torch=torch,
        compiler=compiler,
        gcc_major=request.gcc_major,
    )
    libc = find_libc() if container is None else container.image.libc
    held_to = request.floor if floor_needed(request.floor, libc) else None
    for warning in preflight.warnings:
        say(f"note: {warning}")
    return Toolchain(
        interpreter=interpreter,
        toolkit=toolkit,
        torch=torch,
        requirements=provide_requirements(
            request.build_lock.text,
            interpreter=interpreter,
            cache=request.cache,
            env=request.uv_env,
            copy=request.copy,
        ),
        tools=provide_tools(
            compiler,
            cache=request.cache,
            env=request.env,
            compile_cache=request.compile_cache,
            floor=held_to,
            container=container,
        ),
        compiler=compiler,
        held_to=held_to,
        sandbox=request.sandbox,
    )


def _toolkit(request: ToolchainRequest, interpreter: Interpreter) -> Toolkit:
    cuda = request.cell.torch.cuda
    if request.toolkit_provider == "image" and request.container is not None:
        return request.container.image.toolkit(cuda)
    return provide_toolkit(
        cuda,
        provider=request.toolkit_provider,
        prefer_installed=request.torch_lock is None,
        lock=request.toolkit_lock,
        redist=request.redist,
        interpreter=interpreter,
        cache=request.cache,
        env=request.env,
        uv_env=request.uv_env,
    )


def _torch(request: RuntimeRequest, interpreter: Interpreter) -> TorchEnvironment:
    if request.torch_lock is None:
        assert request.foreign_python is not None
        _, _, site = find_foreign_torch(request.foreign_python, env=request.env)
        return adopt_foreign_torch(request.cell, site=site, cache=request.cache)
    return provide_torch(
        request.cell,
        lock=request.torch_lock,
        interpreter=interpreter,
        cache=request.cache,
        env=request.uv_env,
        copy=request.copy,
    )
