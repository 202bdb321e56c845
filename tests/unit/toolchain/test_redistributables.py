"""Toolkits out of NVIDIA's archives, from a site that was written on the spot."""

from __future__ import annotations

import dataclasses
import io
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import FetchError, IntegrityError, LockError, MachineError, WheelyardError
from wheelyard.model.cell import CudaVersion
from wheelyard.model.lock import Lock
from wheelyard.model.redistributables import redist_lock_request
from wheelyard.network.indexes import IndexSettings
from wheelyard.network.routes import NVIDIA, InsteadOf
from wheelyard.network.settings import NetworkSettings
from wheelyard.toolchain.redistributables import (
    Redistributables,
    assemble_redistributables,
    resolve_redist_lock,
)
from wheelyard.toolchain.toolkit import Provider, provide_toolkit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.redist import Site

    from wheelyard.toolchain.interpreters import Interpreter
    from wheelyard.toolchain.values import Toolkit

REQUEST = redist_lock_request("12.4.1")
CUDA = CudaVersion(12, 4)


@pytest.fixture
def env() -> dict[str, str]:
    return {"PATH": os.environ["PATH"]}


def _mirrors(*urls: str) -> IndexSettings:
    mirrors = tuple(InsteadOf(of=NVIDIA, by=url) for url in urls)
    return IndexSettings(network=NetworkSettings(redist_urls=mirrors, direct="never", attempts=1))


@pytest.fixture
def lock(redist_url: str, env: dict[str, str]) -> Callable[[], Redistributables]:
    """Return a function that locks what the site has now."""

    def make() -> Redistributables:
        settings = _mirrors(redist_url)
        text = resolve_redist_lock(REQUEST, settings=settings, env=env)
        return Redistributables(lock=Lock(request=REQUEST, text=text), settings=settings, env=env)

    return make


@pytest.fixture
def assemble(tmp_path: Path, env: dict[str, str]) -> Callable[..., Toolkit]:
    def run(redist: Redistributables, machine: str = "x86_64") -> Toolkit:
        cache = tmp_path / "cache"
        return assemble_redistributables(redist, machine=machine, cache=cache, env=env)

    return run


def _left(cache: Path) -> list[str]:
    """Return what a failure left that somebody could take for a toolkit or an archive."""
    left = [*cache.glob("toolkits/*"), *cache.glob("sources/sha256/*/*")]
    return [path.name for path in left if not path.name.endswith(".lock")]


def test_archives_become_one_tree_that_says_which_lock_it_is(
    lock: Callable[[], Redistributables], assemble: Callable[..., Toolkit]
) -> None:
    redist = lock()
    toolkit = assemble(redist)
    assert (toolkit.cuda, toolkit.provider) == (CUDA, "redistributable")
    assert toolkit.digest == f"sha256:{redist.lock.sha256}"
    assert (toolkit.path / "include" / "cuda_runtime.h").read_bytes() == b"runtime"
    assert (toolkit.path / "include" / "cuda" / "__cccl_config").is_file()
    assert (toolkit.path / "lib64" / "libcudadevrt.a").is_file()
    assert os.access(toolkit.path / "bin" / "nvcc", os.X_OK)
    assert sorted(path.name for path in toolkit.path.iterdir()) == [
        *("bin", "include", "lib", "lib64", "licenses", "nvvm"),
    ]
    licence = toolkit.path / "licenses" / "cuda_nvcc" / "LICENSE"
    assert licence.read_bytes() == b"licence of cuda_nvcc\n"


def test_other_machine_gets_its_own_archives(
    lock: Callable[[], Redistributables], assemble: Callable[..., Toolkit], tmp_path: Path
) -> None:
    assert assemble(lock(), "aarch64").path != assemble(lock()).path
    names = {path.name for path in (tmp_path / "cache/sources/sha256").glob("*/*.tar.xz")}
    assert "cuda_nvcc-linux-sbsa-12.4.131-archive.tar.xz" in names


def test_toolkit_is_assembled_once_and_needs_no_site_then(
    lock: Callable[[], Redistributables], assemble: Callable[..., Toolkit], redist_site: Site
) -> None:
    redist = lock()
    path = assemble(redist).path
    (path / "mark").touch()
    for archive in redist_site.folder.rglob("*.tar.xz"):
        archive.unlink()
    assert assemble(redist).path == path
    assert (path / "mark").exists()


def test_folder_with_a_blank_in_its_name_is_no_hindrance(
    lock: Callable[[], Redistributables], tmp_path: Path, env: dict[str, str]
) -> None:
    cache = tmp_path / "a cache"
    toolkit = assemble_redistributables(lock(), machine="x86_64", cache=cache, env=env)
    assert (toolkit.path / "bin" / "nvcc").is_file()


def _spoil(path: Path, content: bytes) -> None:
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        pytest.param(
            lambda path: _spoil(path, path.read_bytes()[:-1] + b"!"),
            IntegrityError,
            "expected: sha256",
            id="wrong-byte",
        ),
        pytest.param(
            lambda path: _spoil(path, path.read_bytes() + b"\0"), IntegrityError, "", id="longer"
        ),
        pytest.param(
            lambda path: _spoil(path, path.read_bytes()[:-9]), WheelyardError, "", id="shorter"
        ),
        pytest.param(
            lambda path: _spoil(path, b"<!DOCTYPE html><title>Sign in</title>"),
            WheelyardError,
            "",
            id="html",
        ),
        pytest.param(lambda path: path.unlink(), FetchError, "404", id="not-there"),
    ],
)
def test_archive_that_is_not_the_locked_one_is_refused_and_not_kept(
    lock: Callable[[], Redistributables],
    assemble: Callable[..., Toolkit],
    redist_site: Site,
    tmp_path: Path,
    change: Callable[[Path], None],
    error: type[WheelyardError],
    message: str,
) -> None:
    redist = lock()
    archive = redist_site.folder / str(redist_site.entry("cuda_cccl")["relative_path"])
    change(archive)
    with pytest.raises(error) as caught:
        assemble(redist)
    assert archive.name in str(caught.value)
    assert message in str(caught.value)
    assert _left(tmp_path / "cache") == []


def test_archive_comes_from_the_next_mirror_when_one_has_another_file(
    lock: Callable[[], Redistributables],
    assemble: Callable[..., Toolkit],
    redist_url: str,
    dishonest_redist_url: str,
) -> None:
    redist = lock()
    both = dataclasses.replace(redist, settings=_mirrors(dishonest_redist_url, redist_url))
    assert (assemble(both).path / "bin" / "nvcc").is_file()


def _relock(site: Site, lock: Callable[[], Redistributables]) -> Redistributables:
    site.publish()
    return lock()


@pytest.mark.parametrize(
    ("component", "files", "message"),
    [
        pytest.param(
            "cuda_nvcc",
            {"nvvm/bin/cicc": None},
            r"of locks/redist/12\.4\.1\.toml is not complete: no nvvm/bin/cicc",
            id="no-cicc",
        ),
        pytest.param(
            "cuda_nvcc", {"bin/nvcc.profile": None}, "no bin/nvcc.profile", id="no-profile"
        ),
        pytest.param(
            "cuda_nvcc",
            {"bin/nvcc": b"#!/bin/sh\necho release 12.4, V12.4.99\n"},
            r"says 12\.4\.99, the lock says 12\.4\.131",
            id="other-nvcc",
        ),
        pytest.param(
            "cuda_nvcc", {"bin/nvcc": b"\x7fELF of elsewhere"}, "does not run", id="foreign-program"
        ),
        pytest.param(
            "cuda_nvcc",
            {"bin/nvcc.profile": b"echo '#$ INCLUDES=\"-I/nowhere/include\"'\n"},
            "does not find cuda_runtime.h; its nvcc.profile makes it look .*/nowhere/include",
            id="profile-looks-elsewhere",
        ),
        pytest.param(
            "cuda_cudart", {"lib/libcudadevrt.a": None}, "does not find libcudadevrt.a", id="no-lib"
        ),
    ],
)
def test_toolkit_that_would_not_compile_is_refused_and_not_kept(
    lock: Callable[[], Redistributables],
    assemble: Callable[..., Toolkit],
    change_component: Callable[..., None],
    tmp_path: Path,
    component: str,
    files: dict[str, bytes | None],
    message: str,
) -> None:
    change_component(component, files)
    with pytest.raises(MachineError, match=message):
        assemble(lock())
    assert not [path for path in (tmp_path / "cache/toolkits").iterdir() if path.is_dir()]


def test_two_components_may_bring_the_same_file(
    lock: Callable[[], Redistributables],
    assemble: Callable[..., Toolkit],
    change_component: Callable[..., None],
) -> None:
    change_component("cuda_cccl", {"include/cuda_runtime.h": b"runtime"})
    assert assemble(lock()).path.is_dir()


@pytest.mark.parametrize(
    "name", ["include/cuda_runtime.h", "include/cuda_runtime.h/file", "include/cuda"]
)
def test_two_components_that_differ_in_a_file_are_refused(
    lock: Callable[[], Redistributables],
    assemble: Callable[..., Toolkit],
    change_component: Callable[..., None],
    name: str,
) -> None:
    change_component("cuda_profiler_api", {name: b"other"})
    with pytest.raises(IntegrityError, match="do not belong to one toolkit"):
        assemble(lock())


@pytest.mark.parametrize(
    ("member", "message"),
    [
        pytest.param(tarfile.TarInfo("../../bin/nvcc"), "outside the folder", id="climbs"),
        pytest.param(tarfile.TarInfo("/etc/x"), "outside the folder", id="absolute"),
    ],
)
def test_archive_that_climbs_out_is_not_unpacked(
    lock: Callable[[], Redistributables],
    assemble: Callable[..., Toolkit],
    redist_site: Site,
    tmp_path: Path,
    member: tarfile.TarInfo,
    message: str,
) -> None:
    path = redist_site.folder / str(redist_site.entry("cuda_cccl")["relative_path"])
    with tarfile.open(path, "w:xz") as archive:
        archive.addfile(member, io.BytesIO(b""))
    redist_site.remember("cuda_cccl")
    with pytest.raises(IntegrityError, match="is not unpacked"):
        assemble(_relock(redist_site, lock))
    assert not [path for path in (tmp_path / "cache/toolkits").iterdir() if path.is_dir()]


@pytest.fixture
def provide(
    tmp_path: Path, interpreter: Interpreter, env: dict[str, str]
) -> Callable[..., Toolkit]:
    def run(
        redist: Redistributables | None, provider: Provider = "auto", **variables: str
    ) -> Toolkit:
        return provide_toolkit(
            CUDA,
            provider=provider,
            prefer_installed=False,
            lock=None,
            redist=redist,
            interpreter=interpreter,
            cache=tmp_path / "cache",
            env={**env, "PATH": os.environ["PATH"], **variables},
            uv_env={},
        )

    return run


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Write an installed CUDA 12.4, first on PATH or named by CUDA_HOME."""
    path = tmp_path / "cuda-12.4"
    for name in ("bin/nvcc", "include/cuda_runtime.h"):
        (path / name).parent.mkdir(parents=True)
        (path / name).touch(mode=0o755)
    (path / "version.json").write_text('{"cuda": {"version": "12.4.0"}}', encoding="ascii")
    return path


def _first(folder: Path) -> str:
    return f"{folder / 'bin'}:{os.environ['PATH']}"


def test_archives_come_before_a_toolkit_that_merely_is_there(
    lock: Callable[[], Redistributables], provide: Callable[..., Toolkit], installed: Path
) -> None:
    assert provide(lock(), PATH=_first(installed)).provider == "redistributable"


def test_toolkit_that_the_user_names_comes_before_the_archives(
    lock: Callable[[], Redistributables], provide: Callable[..., Toolkit], installed: Path
) -> None:
    assert provide(lock(), CUDA_HOME=str(installed)).provider == "installed"


def test_archives_are_taken_when_they_are_asked_for(
    lock: Callable[[], Redistributables], provide: Callable[..., Toolkit], installed: Path
) -> None:
    toolkit = provide(lock(), "redistributable", CUDA_HOME=str(installed))
    assert toolkit.provider == "redistributable"


def test_lock_that_is_asked_for_and_missing_is_named_with_the_command_that_makes_it(
    provide: Callable[..., Toolkit],
) -> None:
    with pytest.raises(LockError, match=r"make it with `wheelyard update redist 12\.4\.1`"):
        provide(None, "redistributable")


def test_lock_without_this_machine_is_passed_over_or_told(
    lock: Callable[[], Redistributables],
    provide: Callable[..., Toolkit],
    installed: Path,
    redist_site: Site,
    interpreter: Interpreter,
) -> None:
    other = {"x86_64": "linux-x86_64", "aarch64": "linux-sbsa"}[interpreter.machine]
    for component in redist_site.components.values():
        del component[other]
    redist = _relock(redist_site, lock)
    assert provide(redist, PATH=_first(installed)).provider == "installed"
    with pytest.raises(MachineError, match=rf"has no archives for {interpreter.machine}"):
        provide(redist, "redistributable")
