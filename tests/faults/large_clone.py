"""Clone a real repository with a submodule through the prefix proxy, with git and with wheelyard.

Run by hand, with bare repositories of this machine; prints the seconds and bytes of each way:

    PYTHONPATH=tests python -m faults.large_clone --commit COMMIT --submodule PATH \\
        https://github.com/OWNER/NAME=REPO_DIR https://github.com/OWNER/SUBMODULE=REPO_DIR
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from faults.proxy import FaultProxy
from faults.upstream import FORGE
from faults.world import World

from wheelyard.model.source import GitSource
from wheelyard.network.git import checkout
from wheelyard.network.indexes import IndexSettings
from wheelyard.network.routes import parse_detour
from wheelyard.network.settings import NetworkSettings
from wheelyard.sources.fetch import fetch_source
from wheelyard.sources.tree import tree_digest
from wheelyard.sources.unpack import unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """What is cloned, from where."""

    source: GitSource
    proxy: FaultProxy
    mirror: FaultProxy
    """The same server with plain paths, in the forge's place."""
    env: Mapping[str, str]

    def git_direct(self, folder: Path) -> Path:
        return self._git(folder, self.mirror.url)

    def git_through_the_proxy(self, folder: Path) -> Path:
        return self._git(folder, f"{self.proxy.url}/{FORGE}")

    def wheelyard_through_the_proxy(self, folder: Path) -> Path:
        network = NetworkSettings(
            github_proxies=(parse_detour(self.proxy.url, origin="test"),), direct="never"
        )
        fetched = fetch_source(
            self.source,
            cache=folder / "cache",
            farm=folder,
            settings=IndexSettings(network=network),
            env=self.env,
        )
        start = time.monotonic()
        tree = folder / "tree"
        unpack_tree = functools.partial(unpack, strip_top=False)
        checkout(self.source, repository=fetched.path, tree=tree, unpack=unpack_tree, env=self.env)
        print(f"  of which the export {time.monotonic() - start:.2f} s")  # noqa: T201
        return tree

    def _git(self, folder: Path, base: str) -> Path:
        """Fetch the one commit and those of its submodules, as somebody would by hand."""
        tree = folder / "tree"
        git = functools.partial(_run_git, base=base, env=self.env)
        _fetch_commit(git, tree, self.source.url, self.source.commit)
        for path in self.source.submodules:
            commit = git(tree, "rev-parse", f"HEAD:{path}")
            listed = git(tree, "config", "--file=.gitmodules", "--get-regexp", r"\.path$")
            key = next(line.split()[0] for line in listed.splitlines() if line.endswith(f" {path}"))
            name = key.removesuffix(".path")
            url = git(tree, "config", "--file=.gitmodules", f"{name}.url")
            _fetch_commit(git, tree / path, url, commit)
        return tree


def _fetch_commit(git: Callable[..., str], tree: Path, url: str, commit: str) -> None:
    tree.mkdir(exist_ok=True)
    git(tree, "init", "--quiet")
    git(tree, "fetch", "--quiet", "--depth=1", url, commit)
    git(tree, "checkout", "--quiet", "FETCH_HEAD")


def _run_git(folder: Path, *arguments: str, base: str, env: Mapping[str, str]) -> str:
    command = ["git", "-c", f"url.{base}.insteadOf={FORGE}", "-C", os.fspath(folder), *arguments]
    return subprocess.run(
        command, env=env, check=True, text=True, stdout=subprocess.PIPE
    ).stdout.strip()


def main() -> None:
    options = _parse()
    world = World()
    for pair in options.repositories:
        url, _, folder = pair.partition("=")
        world.repositories[url] = Path(folder)
    source = GitSource(
        url=next(iter(world.repositories)),
        commit=options.commit,
        submodules=tuple(options.submodule),
    )
    with (
        contextlib.closing(FaultProxy(world)) as proxy,
        contextlib.closing(FaultProxy(world, base=FORGE)) as mirror,
        tempfile.TemporaryDirectory() as home,
    ):
        env = {"PATH": os.environ["PATH"], "HOME": home, "LC_ALL": "C"}
        bench = Bench(source=source, proxy=proxy, mirror=mirror, env=env)
        digests = _run(bench, runs=options.runs)
    if len(digests) != 1:
        sys.exit("the trees differ")
    print(f"one tree, whichever way: {digests.pop()}")  # noqa: T201


def _run(bench: Bench, *, runs: int) -> set[str]:
    ways = (bench.git_direct, bench.git_through_the_proxy, bench.wheelyard_through_the_proxy)
    digests: set[str] = set()
    seconds: dict[str, list[float]] = {way.__name__: [] for way in ways}
    sent: dict[str, int] = {}
    for _ in range(runs):
        for way in ways:  # in turn, so that a busy moment of the machine hits them all
            before = _sent(bench)
            seconds[way.__name__].append(_timed(way, digests))
            sent[way.__name__] = _sent(bench) - before
    for name, times in seconds.items():
        line = f"{name:30} {statistics.median(times):7.2f} s {sent[name] / 1e6:8.1f} MB"
        print(line, [round(one, 2) for one in times])  # noqa: T201
    return digests


def _timed(way: Callable[[Path], Path], digests: set[str]) -> float:
    with _folder() as folder:
        start = time.monotonic()
        tree = way(folder)
        seconds = time.monotonic() - start
        for name in [*tree.rglob(".git")]:
            shutil.rmtree(name) if name.is_dir() else name.unlink()
        digests.add(tree_digest(tree))
    return seconds


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _sent(bench: Bench) -> int:
    return sum(asked.sent for server in (bench.proxy, bench.mirror) for asked in server.asked)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--commit", required=True)
    parser.add_argument("--submodule", action="append", default=[])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("repositories", nargs="+", metavar="URL=REPO_DIR")
    return parser.parse_args()


if __name__ == "__main__":
    main()
