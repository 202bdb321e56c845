"""A project as upstream publishes it: repository, submodule, sdist, release file, manifest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import subprocess
from typing import TYPE_CHECKING

from faults.world import World

if TYPE_CHECKING:
    from pathlib import Path

FORGE = "https://github.com"
PROJECT_URL = f"{FORGE}/maker/project"
PART_URL = f"{FORGE}/maker/part"
OTHER_PROJECT_URL = f"{FORGE}/other/project"
OTHER_PART_URL = f"{FORGE}/other/part"
SUBMODULE = "third_party/part"
RELEASE_URL = f"{PROJECT_URL}/releases/download/v1.0/probe-1.0-cp312-cp312-linux_x86_64.whl"
INDEX = "https://index.example"
SDIST_NAME = "wy_probe-1.0.tar.gz"
SDIST_URL = f"{INDEX}/files/{SDIST_NAME}"
REDIST = "https://developer.download.nvidia.com/compute/cuda/redist"
CUDA_RELEASE = "12.6.3"
MANIFEST_URL = f"{REDIST}/redistrib_{CUDA_RELEASE}.json"
COMPONENT_PATH = "cuda_nvcc/linux-x86_64/cuda_nvcc-linux-x86_64-12.6.85-archive.tar.xz"
SIZE = 300_000


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Upstream:
    """The world, and the pins of what is in it."""

    world: World
    commit: str
    part_commit: str
    next_commit: str
    other_commit: str
    """What the tag and the branch of the same names say in the other repository."""
    sdist: bytes
    release: bytes
    manifest: bytes
    component: bytes


def make_upstream(folder: Path) -> Upstream:
    """Make everything below ``folder``; the same bytes and commits every time."""
    world = World()
    part = _import(world, folder, PART_URL, "part", seed=1)
    commit = _import(world, folder, PROJECT_URL, "project", seed=2, part=part)
    other_part = _import(world, folder, OTHER_PART_URL, "other part", seed=3)
    other = _import(world, folder, OTHER_PROJECT_URL, "other", seed=4, part=other_part)
    sdist, release, component = (_noise(seed) for seed in (5, 6, 7))
    world.files[f"{INDEX}/simple/wy-probe/"] = _index_page(sdist)
    world.files[SDIST_URL] = sdist
    world.files[RELEASE_URL] = release
    world.files[f"{REDIST}/{COMPONENT_PATH}"] = component
    manifest = world.files[MANIFEST_URL] = _manifest(component)
    return Upstream(
        world=world,
        commit=commit,
        part_commit=part,
        next_commit=_git(world.repositories[PROJECT_URL], "rev-parse", "main"),
        other_commit=other,
        sdist=sdist,
        release=release,
        manifest=manifest,
        component=component,
    )


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _noise(seed: int, size: int = SIZE) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311 - not a secret


def _import(
    world: World, folder: Path, url: str, what: str, *, seed: int, part: str | None = None
) -> str:
    """Make a bare repository with three commits; return the second, which is tagged.

    They have one large file in common, and another that each has for itself.
    """
    repository = folder / f"{url.removeprefix('https://')}.git"
    _git(folder, "init", "--quiet", "--bare", "--initial-branch=main", os.fspath(repository))
    commits = [_commit(number, what, seed=seed, part=part) for number in (1, 2, 3)]
    tag = b"reset refs/tags/v1.0\nfrom :2\n\n"
    _git(repository, "fast-import", "--quiet", given=b"".join([*commits, tag]))
    world.repositories[url] = repository
    return _git(repository, "rev-parse", "v1.0")


def _commit(number: int, what: str, *, seed: int, part: str | None) -> bytes:
    lines = f"commit refs/heads/main\nmark :{number}\ncommitter A <a@b> {number} +0000\n".encode()
    lines += _data(b"change") + (f"from :{number - 1}\n".encode() if number > 1 else b"")
    files = {
        "what.txt": f"{what} {number}\n".encode(),
        "noise": _noise(seed * 10 + number),
        "shared": _noise(seed),
    }
    if part is not None:
        modules = f'[submodule "part"]\n\tpath = {SUBMODULE}\n\turl = {PART_URL}\n'
        files[".gitmodules"] = modules.encode()
        lines += f"M 160000 {part} {SUBMODULE}\n".encode()
    for name, content in files.items():
        lines += f"M 100644 inline {name}\n".encode() + _data(content)
    return lines + b"\n"


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)


def _index_page(sdist: bytes) -> bytes:
    link = f'<a href="../../files/{SDIST_NAME}#sha256={sha256(sdist)}">{SDIST_NAME}</a>'
    return f"<!DOCTYPE html><html><body>{link}</body></html>".encode()


def _manifest(component: bytes) -> bytes:
    names = ("cuda_cccl", "cuda_cudart", "cuda_nvcc", "cuda_profiler_api")
    entries = {name: _manifest_entry(name, component) for name in names}
    head = {"release_date": "2024-11-20", "release_label": CUDA_RELEASE}
    return json.dumps({**head, **entries}, indent=2).encode()


def _manifest_entry(name: str, content: bytes) -> dict[str, object]:
    file = {
        "relative_path": COMPONENT_PATH.replace("cuda_nvcc", name),
        "sha256": sha256(content),
        "md5": "0" * 32,
        "size": str(len(content)),
    }
    return {"name": name, "license": "none", "version": "12.6.85", "linux-x86_64": file}


def _git(folder: Path, *arguments: str, given: bytes = b"") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    env = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "LC_ALL": "C"}
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=env, input=given, check=True, stdout=subprocess.PIPE
    )
    return done.stdout.decode().strip()
