"""How downloads and clones compare with curl and git on the same loopback server; ratios count.

Runs take turns, so that a busy moment of the machine hits everybody. ``nox -s bench`` runs it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, os.fspath(Path(__file__).parents[1] / "tests"))

from faults.proxy import FaultProxy
from faults.world import World

from wheelyard.model.source import GitSource, UrlSource
from wheelyard.network.download import download_url
from wheelyard.network.git import fetch_commit, repository_name
from wheelyard.network.indexes import IndexSettings
from wheelyard.network.routes import parse_detour
from wheelyard.network.settings import NetworkSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOST = "https://github.com/maker/large"


def main() -> None:
    """Measure and print; with ``--json FILE`` keep the figures too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--proxy", nargs=2, metavar=("REPO", "BASE"), help=argparse.SUPPRESS)
    parser.add_argument("--serve", nargs=2, metavar=("FILE", "CUTS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        _serve(Path(arguments.serve[0]), int(arguments.serve[1]))
        return
    if arguments.proxy:
        _serve_repository(Path(arguments.proxy[0]), base=arguments.proxy[1])
        return
    logging.basicConfig(level=logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="wheelyard-bench-") as name:
        folder = Path(name)
        source = _write_file(folder / "large.bin", arguments.megabytes << 20)
        figures = {
            "download": compare_downloads(folder, source, arguments.runs),
            "resume": resume(folder, source, cuts=20),
            "clone": compare_clones(folder, arguments.runs),
        }
    print(json.dumps(figures, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _write_file(path: Path, size: int) -> UrlSource:
    digest = hashlib.sha256()
    chunk = random.Random(1).randbytes(1 << 20)  # noqa: S311 - reproducible, no secret
    with path.open("wb") as stream:
        for number in range(size >> 20):
            part = number.to_bytes(8, "big") + chunk[8:]
            digest.update(part)
            stream.write(part)
    return UrlSource(url="", filename="large.bin", sha256=digest.hexdigest(), size=size)


def compare_downloads(folder: Path, source: UrlSource, runs: int) -> dict[str, object]:
    """Download one file with curl, with curl and sha256sum, and with wheelyard."""
    target = folder / "out" / source.filename
    curl = ["curl", "--silent", "--fail", "--output", str(target)]
    with _server(folder / source.filename, cuts=0) as url:
        ways: dict[str, Callable[[], object]] = {
            "curl": lambda: subprocess.run([*curl, url], check=True),
            "curl_then_sha256sum": lambda: (
                subprocess.run([*curl, url], check=True),
                subprocess.run(["sha256sum", target], check=True, stdout=subprocess.DEVNULL),  # noqa: S607
            ),
            "wheelyard": lambda: _download(source, url, target),
        }
        turns = _take_turns(ways, runs, before=lambda: _empty(target.parent))
    return _ratios(turns, size=source.size)


def resume(folder: Path, source: UrlSource, *, cuts: int) -> dict[str, object]:
    """Download a file whose server hangs up that many times."""
    target = folder / "out" / source.filename
    _empty(target.parent)
    with _server(folder / source.filename, cuts=cuts) as url:
        started = time.monotonic()
        _download(source, url, target)
        seconds = time.monotonic() - started
        sent = _sent(url)
    return {
        "cuts": cuts,
        "seconds": round(seconds, 2),
        "bytes_again_percent": round(100 * (sent - source.size) / source.size, 3),
    }


def compare_clones(folder: Path, runs: int) -> dict[str, object]:
    """Bring one commit of a large repository here with git, and through a prefix proxy with us."""
    upstream = folder / "upstream.git"
    commit = _write_repository(folder / "work", upstream)
    with _proxy(upstream, base="") as proxy, _proxy(upstream, base="https://github.com") as mirror:
        target = folder / "clone"
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C"}
        clone = ["clone", "--quiet", "--bare", "--depth=1", f"{mirror}/maker/large"]
        checked = ["-c", "transfer.fsckObjects=true", *clone]

        def git(arguments: list[str]) -> object:
            command = ["git", *arguments, str(target)]
            return subprocess.run(command, check=True, env=environment)

        ways: dict[str, Callable[[], object]] = {
            "git_clone": lambda: git(clone),
            "git_clone_with_fsck": lambda: git(checked),
            "wheelyard_through_proxy": lambda: _fetch(proxy, commit, target, environment),
        }
        turns = _take_turns(ways, runs, before=lambda: _empty(target))
        size = sum(path.stat().st_size for path in upstream.rglob("*") if path.is_file())
    return _ratios(turns, size=size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turn:
    """What one run took; ``cpu`` is that of this process and its children."""

    seconds: float
    cpu: float


def _take_turns(
    ways: dict[str, Callable[[], object]], runs: int, *, before: Callable[[], None]
) -> dict[str, list[Turn]]:
    turns: dict[str, list[Turn]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            before()
            os.sync()
            started, cpu = time.monotonic(), _cpu_seconds()
            way()
            seconds = time.monotonic() - started
            turns[name].append(Turn(seconds=seconds, cpu=_cpu_seconds() - cpu))
    return turns


def _cpu_seconds() -> float:
    return sum(os.times()[:4])


def _ratios(turns: dict[str, list[Turn]], *, size: int) -> dict[str, object]:
    """Give medians, and ratios to the first way: of medians, of the best runs, of CPU time."""
    walls = {name: [turn.seconds for turn in taken] for name, taken in turns.items()}
    cpus = {name: statistics.median(turn.cpu for turn in taken) for name, taken in turns.items()}
    first = next(iter(turns))
    return {
        name: {
            "seconds": [round(one, 3) for one in seconds],
            "megabytes_a_second": round(size / statistics.median(seconds) / 1e6, 1),
            "median_of_the_first": round(
                statistics.median(seconds) / statistics.median(walls[first]), 3
            ),
            "best_of_the_first": round(min(seconds) / min(walls[first]), 3),
            "cpu_of_the_first": round(cpus[name] / cpus[first], 3),
        }
        for name, seconds in walls.items()
    }


def _download(source: UrlSource, url: str, target: Path) -> None:
    download_url(
        dataclasses.replace(source, url=url),
        destination=target,
        settings=IndexSettings(network=NetworkSettings(attempts=3)),
        env={},
    )


def _fetch(proxy: str, commit: str, target: Path, environment: dict[str, str]) -> None:
    network = NetworkSettings(
        github_proxies=(parse_detour(proxy, origin="benchmark"),), direct="never"
    )
    fetch_commit(
        GitSource(url=HOST, commit=commit),
        repository=target / repository_name(HOST),
        env=environment,
        settings=IndexSettings(network=network),
    )


def _write_repository(work: Path, bare: Path) -> str:
    """Make a repository of 4000 files and about 100 MB, and pack it as servers do."""
    numbers = random.Random(2)  # noqa: S311 - reproducible, no secret
    for number in range(4000):
        path = work / f"{number % 40}" / f"file{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(numbers.randbytes(25_000))

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(work), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet", "--initial-branch=main")
    git("add", "--all")
    git("commit", "--quiet", "--message", "large")
    git("clone", "--quiet", "--bare", str(work), str(bare))
    for key in ("uploadpack.allowAnySHA1InWant", "uploadpack.allowFilter"):
        subprocess.run(["git", f"--git-dir={bare}", "config", key, "true"], check=True)  # noqa: S607
    subprocess.run(["git", f"--git-dir={bare}", "repack", "-adq"], check=True)  # noqa: S607
    return git("rev-parse", "HEAD")


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


@contextlib.contextmanager
def _server(path: Path, *, cuts: int) -> Iterator[str]:
    """Serve a file from a process of its own, which is no slower than the kernel."""
    with _child("--serve", str(path), str(cuts)) as url:
        yield url


@contextlib.contextmanager
def _proxy(repository: Path, *, base: str) -> Iterator[str]:
    """Serve a repository from a process of its own: a proxy in ours would share its time."""
    with _child("--proxy", str(repository), base) as url:
        yield url


@contextlib.contextmanager
def _child(*arguments: str) -> Iterator[str]:
    """Run a server of this file and yield the URL that it prints."""
    command = [sys.executable, __file__, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield child.stdout.readline().strip()
        finally:
            child.terminate()


def _serve_repository(repository: Path, *, base: str) -> None:
    world = World()
    world.repositories[HOST] = repository
    with contextlib.closing(FaultProxy(world, base=base)) as proxy:
        print(proxy.url, flush=True)
        threading.Event().wait()


def _sent(url: str) -> int:
    done = subprocess.run(
        ["curl", "--silent", f"{url}?sent"],  # noqa: S607
        check=True,
        capture_output=True,
        text=True,
    )
    return int(done.stdout)


def _serve(path: Path, cuts: int) -> None:
    """Answer ranges with sendfile; hang up ``cuts`` times, at equal distances."""
    size = path.stat().st_size
    tag = f'"{size}"'
    state = {"sent": 0, "cuts": cuts}
    every = size // (cuts + 1)

    def answer(connection: socket.socket) -> None:
        with connection, path.open("rb") as stream:
            request = connection.recv(1 << 16).decode()
            if "?sent" in request.partition("\n")[0]:
                body = str(state["sent"]).encode()
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
                connection.sendall(head.encode() + body)
                return
            match = re.search(r"^range: bytes=(\d+)-", request, re.IGNORECASE | re.MULTILINE)
            first = int(match[1]) if match else 0
            status = "206 Partial Content" if match else "200 OK"
            head = f"HTTP/1.1 {status}\r\nETag: {tag}\r\nContent-Length: {size - first}\r\n"
            head += f"Content-Range: bytes {first}-{size - 1}/{size}\r\n" if match else ""
            connection.sendall(f"{head}Connection: close\r\n\r\n".encode())
            last = size
            if state["cuts"]:
                state["cuts"] -= 1
                last = min(size, first + every)
            while first < last:
                count = os.sendfile(connection.fileno(), stream.fileno(), first, last - first)
                first += count
                state["sent"] += count

    with socket.create_server(("127.0.0.1", 0)) as server:
        print(f"http://127.0.0.1:{server.getsockname()[1]}/{path.name}", flush=True)
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_quietly, args=(answer, connection), daemon=True).start()


def _quietly(answer: Callable[[socket.socket], None], connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        answer(connection)


if __name__ == "__main__":
    main()
