"""Everything that wheelyard fetches, through its own public functions, from the routes given."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from faults.upstream import (
    COMPONENT_PATH,
    CUDA_RELEASE,
    INDEX,
    MANIFEST_URL,
    PART_URL,
    PROJECT_URL,
    REDIST,
    RELEASE_URL,
    SDIST_NAME,
    SDIST_URL,
    SUBMODULE,
    Upstream,
    sha256,
)

from wheelyard.model.redistributables import read_manifest, redist_lock_request, redist_text
from wheelyard.model.source import GitSource, SdistSource, UrlSource
from wheelyard.network.indexes import IndexSettings, with_network
from wheelyard.network.routes import NVIDIA, InsteadOf, parse_detour
from wheelyard.network.settings import NetworkSettings
from wheelyard.sources.fetch import fetch_source
from wheelyard.toolchain.redistributables import resolve_redist_lock

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal["clone", "submodule", "sdist", "index", "release", "component", "manifest"]
KINDS: tuple[Kind, ...] = get_args(Kind)
GIT: frozenset[Kind] = frozenset({"clone", "submodule"})
PAGES: frozenset[Kind] = frozenset({"index", "manifest"})
"""What is small, read at once and pinned by nothing of its own."""
MANIFEST_NAME = Path(MANIFEST_URL).name
TARGETS: dict[Kind, str] = {
    "clone": f"{PROJECT_URL}/*",
    "submodule": f"{PART_URL}/*",
    "sdist": SDIST_URL,
    "index": f"{INDEX}/simple/*",
    "component": f"{REDIST}/{COMPONENT_PATH}",
    "release": RELEASE_URL,
    "manifest": MANIFEST_URL,
}
"""The URLs upstream that a fault is put on."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Fetcher:
    """Fetches with one cache, in one environment."""

    upstream: Upstream
    cache: Path
    env: dict[str, str]
    certificate: str = ""

    def settings(self, routes: Sequence[str]) -> IndexSettings:
        """Return short patience, and the servers at ``routes`` as the only ways to everything."""
        network = NetworkSettings(
            github_proxies=tuple(parse_detour(url, origin="test") for url in routes),
            python_indexes=tuple(f"{url}/{INDEX}/simple" for url in routes),
            redist_urls=tuple(InsteadOf(of=NVIDIA, by=f"{url}/{REDIST}/") for url in routes),
            direct="never",
            connect_timeout=0.8,
            stall_timeout=0.8,
            attempts=2,
            certificate=self.certificate,
            origins={"certificate": "test"},
        )
        return with_network(IndexSettings(), network)

    def elsewhere(self, name: str) -> Fetcher:
        """Return one with another cache."""
        return dataclasses.replace(self, cache=self.cache.with_name(name))

    def fetch(self, kind: Kind, routes: Sequence[str]) -> dict[str, bytes]:
        """Bring it here; return what the rest of wheelyard would then read, by name."""
        return self.fetch_with(kind, self.settings(routes))

    def fetch_with(self, kind: Kind, settings: IndexSettings) -> dict[str, bytes]:
        match kind:
            case "clone" | "submodule":
                return self._clone(settings, submodules=(SUBMODULE,) if kind == "submodule" else ())
            case "sdist" | "index":
                return self._sdist(settings)
            case "release":
                return self._file(RELEASE_URL, self.upstream.release, settings)
            case "component":
                return self._file(f"{REDIST}/{COMPONENT_PATH}", self.upstream.component, settings)
            case "manifest":
                request = redist_lock_request(CUDA_RELEASE)
                lock = resolve_redist_lock(request, settings=settings, env=self.env)
                return {MANIFEST_NAME: lock.encode()}

    def expected(self, kind: Kind) -> dict[str, bytes]:
        up = self.upstream
        match kind:
            case "clone":
                return {up.commit: b"project 2\n"}
            case "submodule":
                return {up.commit: b"project 2\n", up.part_commit: b"part 2\n"}
            case "sdist" | "index":
                return {SDIST_NAME: up.sdist}
            case "component":
                return {Path(COMPONENT_PATH).name: up.component}
            case "release":
                return {Path(RELEASE_URL).name: up.release}
            case "manifest":
                request = redist_lock_request(CUDA_RELEASE)
                digest = sha256(up.manifest)
                file = read_manifest(up.manifest, request, sha256=digest, origin="test")
                return {MANIFEST_NAME: redist_text(request, file).encode()}

    def _clone(self, settings: IndexSettings, *, submodules: tuple[str, ...]) -> dict[str, bytes]:
        source = GitSource(url=PROJECT_URL, commit=self.upstream.commit, submodules=submodules)
        self._fetch_source(source, settings)
        found = {}
        for folder in self.repositories():
            for commit in (self.upstream.commit, self.upstream.part_commit):
                done = git(folder, "cat-file", "blob", f"{commit}:what.txt")
                if done.returncode == 0 and is_complete(folder, commit):
                    found[commit] = done.stdout
        return found

    def sdist_source(self) -> SdistSource:
        content = self.upstream.sdist
        return SdistSource(
            name="wy-probe", filename=SDIST_NAME, sha256=sha256(content), size=len(content)
        )

    def _sdist(self, settings: IndexSettings) -> dict[str, bytes]:
        path = self._fetch_source(self.sdist_source(), settings)
        return {path.name: path.read_bytes()}

    def _file(self, url: str, content: bytes, settings: IndexSettings) -> dict[str, bytes]:
        source = UrlSource(
            url=url, filename=Path(url).name, sha256=sha256(content), size=len(content)
        )
        path = self._fetch_source(source, settings)
        return {path.name: path.read_bytes()}

    def _fetch_source(
        self, source: SdistSource | GitSource | UrlSource, settings: IndexSettings
    ) -> Path:
        return fetch_source(
            source, cache=self.cache, farm=self.cache, settings=settings, env=self.env
        ).path

    def repositories(self) -> list[Path]:
        return [path.parent for path in self.cache.glob("sources/git/*/HEAD")]

    def wrong_things_kept(self) -> list[str]:
        """Scan the whole cache for anything that the rest of wheelyard would take for verified."""
        wrong = []
        for folder in self.repositories():
            wrong += _wrong_in_repository(folder)
        for path in self.cache.rglob("*"):
            part = path.relative_to(self.cache).parts
            if not path.is_file() or path.name.startswith(".") or part[:2] == ("sources", "git"):
                continue
            if part[:2] == ("sources", "sha256") and sha256(path.read_bytes()) == part[2]:
                continue
            wrong.append(str(path))
        return wrong


def git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = ["git", f"--git-dir={folder}", *arguments]
    return subprocess.run(command, check=False, capture_output=True)


def is_complete(folder: Path, commit: str) -> bool:
    """Whether every object of the commit's tree is here."""
    listed = git(folder, "rev-list", "--objects", "--no-walk", "--missing=error", commit)
    return listed.returncode == 0


def _wrong_in_repository(folder: Path) -> list[str]:
    """Return references that do not hold what they are named after, and damaged objects."""
    checked = git(folder, "fsck", "--full", "--no-dangling")
    wrong = [] if checked.returncode == 0 else [f"{folder}: {checked.stderr.decode()}"]
    listed = git(folder, "for-each-ref", "--format=%(refname) %(objectname)").stdout.decode()
    for line in listed.splitlines():
        name, commit = line.split()
        is_pinned = name.rpartition("/")[2] == commit and is_complete(folder, commit)
        if name.startswith("refs/wheelyard/") and not is_pinned:
            wrong.append(f"{folder}: {line}")
    return wrong
