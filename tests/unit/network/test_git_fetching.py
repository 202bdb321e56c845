from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import FetchError, IntegrityError, ProcessError
from wheelyard.model.source import GitSource
from wheelyard.network.git import fetch_commit, repository_name
from wheelyard.network.git_fetching import _explain, _Watch, route_environment
from wheelyard.network.indexes import IndexSettings
from wheelyard.network.routes import PrefixProxy, Route, parse_detour
from wheelyard.network.settings import NetworkSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.network.conftest import Repository, Server

URL = "https://github.com/o/r"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(clock: Clock) -> _Watch:
    return _Watch(silence=10.0, slowest=1000.0, report=lambda _bytes: None, clock=clock)


def test_silent_git_is_stopped(watch: _Watch, clock: Clock) -> None:
    clock.now = 9.0
    watch.line("remote: Counting objects: 5% (1/20)")
    clock.now = 18.0
    assert watch.reason() == ""
    clock.now = 19.5
    assert watch.reason() == "git was stopped: nothing came for 10 s"


def test_dripping_git_is_stopped(watch: _Watch, clock: Clock) -> None:
    for second in range(1, 12):
        clock.now = float(second)
        watch.line(f"Receiving objects:   1% (1/200), {second * 100} bytes | 100 bytes/s")
    assert watch.reason() == "git was stopped: too slow (100 bytes a second)"


def test_git_may_think_long_once_everything_is_here(watch: _Watch, clock: Clock) -> None:
    clock.now = 1.0
    watch.line("Receiving objects: 100% (200/200), 12.50 MiB | 4.00 MiB/s, done.")
    clock.now = 600.0
    assert watch.reason() == ""


def test_received_bytes_are_told() -> None:
    told: list[int] = []
    watch = _Watch(silence=10.0, slowest=1.0, report=told.append)
    watch.line("Receiving objects:  45% (450/1000), 1.50 MiB | 2.40 MiB/s")
    watch.line("Unpacking objects:  50% (1/2), 300 bytes | 300.00 KiB/s")
    assert told == [3 << 19, 300]


@pytest.mark.parametrize(
    ("said", "passes", "wrong"),
    [
        ("fatal: unable to access 'x': Could not resolve host: x", True, False),
        ("error: RPC failed; curl 18\nfatal: early EOF\nfatal: index-pack failed", True, False),
        ("fatal: unable to access: The requested URL returned error: 503", True, False),
        ("fatal: unable to access: The requested URL returned error: 404", False, False),
        ("error: object 1: badName\nfatal: fsck error in packed object", False, True),
        ("fatal: x/info/refs not valid: is this a git repository?", False, True),
        ("fatal: pack is corrupted (SHA1 mismatch)", False, True),
        ("fatal: remote error: access denied", False, False),
    ],
)
def test_gits_words_say_whether_it_may_pass(said: str, *, passes: bool, wrong: bool) -> None:
    progress = "Receiving objects:  45% (450/1000), 1.50 MiB | 2.40 MiB/s\n"
    error = _explain(ProcessError("", returncode=1, tail=progress + said, log_path=None))
    assert (error.passes, error.wrong) == (passes, wrong)
    assert "Receiving" not in error.reason


def config_of(child: dict[str, str]) -> dict[str, str]:
    count = int(child["GIT_CONFIG_COUNT"])
    return {
        child[f"GIT_CONFIG_KEY_{number}"]: child[f"GIT_CONFIG_VALUE_{number}"]
        for number in range(count)
    }


def test_proxy_is_told_nothing_and_may_not_lead_elsewhere() -> None:
    env = {"GIT_ASKPASS": "/ask", "SSH_ASKPASS": "/ask", "HOME": "/h"}
    detour = PrefixProxy(url="http://proxy.example/")
    around = Route(url=f"http://proxy.example/{URL}", original=URL, detour=detour)
    network = NetworkSettings(certificate="/ca.pem", stall_timeout=7)
    child = route_environment(around, env, url=around.url, network=network)
    config = config_of(child)
    assert not [name for name in child if name.endswith("ASKPASS")]
    assert child["GIT_ALLOW_PROTOCOL"] == "http"
    assert child["GIT_HTTP_LOW_SPEED_TIME"] == "7"
    assert child["GIT_SSL_CAINFO"] == "/ca.pem"
    assert config["http.followRedirects"] == "false"
    for name in ("credential.helper", "http.extraHeader", "http.cookieFile", "core.askPass"):
        assert config[name] == ""
    straight = Route(url=URL, original=URL)
    child = route_environment(straight, env, url=URL, network=network)
    assert child["GIT_ASKPASS"] == "/ask"
    assert "credential.helper" not in config_of(child)


class Cache:
    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.env = env

    def fetch(self, commit: str, *rules: str, direct: str = "never") -> None:
        network = NetworkSettings(
            github_proxies=tuple(parse_detour(rule, origin="test") for rule in rules),
            direct=direct,  # type: ignore[arg-type]
            attempts=2,
            stall_timeout=0.5,
        )
        fetch_commit(
            GitSource(url=URL, commit=commit),
            repository=self.repository,
            env=self.env,
            settings=IndexSettings(network=network),
        )

    @property
    def repository(self) -> Path:
        return self.folder / repository_name(URL)

    def has(self, commit: str) -> bool:
        command = ["git", f"--git-dir={self.repository}", "cat-file", "-e", commit]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.fixture
def cache(tmp_path: Path, env: dict[str, str]) -> Cache:
    return Cache(tmp_path / "cache", env)


@pytest.fixture
def mirror(
    make_repository: Callable[[str], Repository], server: Server, tmp_path: Path
) -> tuple[str, str]:
    """Return a commit, and the rule for a mirror that hands out the repository as mere files."""
    upstream = make_repository("project")
    commit = upstream.commit(setup__py="1")
    bare = tmp_path / "mirror" / "r"
    upstream.git("clone", "--quiet", "--bare", str(upstream.path), str(bare))
    subprocess.run(
        ["git", f"--git-dir={bare}", "update-server-info"], check=True, env=dict(os.environ)
    )
    for path in bare.rglob("*"):
        if path.is_file():
            server.answer(
                f"/m/r/{path.relative_to(bare)}", path.read_bytes(), content_type="text/plain"
            )
    server.answer(
        "/m/r/info/refs?service=git-upload-pack",
        (bare / "info" / "refs").read_bytes(),
        content_type="text/plain",
    )
    return commit, f"{URL}={server.url}/m/r"


def test_commit_comes_from_a_mirror(cache: Cache, mirror: tuple[str, str]) -> None:
    commit, rule = mirror
    cache.fetch(commit, rule)
    assert cache.has(commit)


def test_page_in_place_of_a_repository_is_refused_by_name_and_the_next_is_asked(
    cache: Cache, mirror: tuple[str, str], server: Server
) -> None:
    commit, rule = mirror
    path = "/login/https://github.com/o/r/info/refs?service=git-upload-pack"
    server.answer(path, "<html>Log in</html>", content_type="text/html")
    cache.fetch(commit, f"{server.url}/login/", rule)
    assert cache.has(commit)
    with pytest.raises(IntegrityError) as caught:
        cache.fetch("1" * 40, f"{server.url}/login/")
    assert f"{server.url}/login/{URL}: sent an HTML page instead" in str(caught.value)


def test_every_way_has_a_line_in_the_error(cache: Cache, server: Server) -> None:
    with pytest.raises(FetchError) as caught:
        cache.fetch("1" * 40, f"{server.url}/a/", "http://127.0.0.1:9/b/")
    message = str(caught.value)
    assert f"  {server.url}/a/{URL}: answers 404 Not Found" in message
    assert f"  http://127.0.0.1:9/b/{URL}: " in message
    assert "refused" in message
    assert "docs/network.md" in message
