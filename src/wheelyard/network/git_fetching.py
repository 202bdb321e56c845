"""One pinned commit into a bare repository, over whichever route brings it whole."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.errors import ProcessError
from wheelyard.network.children import git_environment
from wheelyard.network.failover import RouteError, Way, first_that_works
from wheelyard.network.health import Health
from wheelyard.network.masking import mask_url
from wheelyard.network.routes import Route
from wheelyard.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import requests

    from wheelyard.network.indexes import IndexSettings
    from wheelyard.network.settings import NetworkSettings
    from wheelyard.progress import Transfers

logger = logging.getLogger(__name__)

# What servers (and git itself, of servers that only hand out files) say when a single commit
# cannot be had, but the whole history may hold it.
_REFUSED = re.compile(
    r"unadvertised object|not our ref|shallow|couldn't find remote ref|no such remote ref",
    re.IGNORECASE,
)
_PASSES = re.compile(
    r"could not resolve|couldn't connect|failed to connect|timed out|connection (?:refused|reset)"
    r"|early EOF|RPC failed|too slow|unexpected disconnect|hung up|was stopped"
    r"|error: (?:408|425|429|5\d\d)",
    re.IGNORECASE,
)
_WRONG = re.compile(
    r"fsck error|is this a git repository|bad pack|all necessary objects|inflate|corrupt"
    r"|protocol error|mismatch|bad line length|invalid|index-pack failed|bad object",
    re.IGNORECASE,
)
_PROGRESS = re.compile(r"^(?:remote: )?[A-Z][a-z]+(?: [a-z]+)*:? +\d+(?:%|,|$)")
_RECEIVED = re.compile(
    r"^(?:Receiving|Unpacking) objects: .*?, (?P<number>[\d.]+) (?P<unit>bytes|KiB|MiB|GiB)"
)
_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_AFTER_THE_NETWORK = re.compile(
    r"^(?:Resolving deltas|Checking connectivity|(?:Receiving|Unpacking) objects: 100%)"
)
_UNAUTHORIZED = 401
_LONGEST_LOCAL_WORK = 1800.0
# The straight way may need the server to count and compress first, without a word.
_DIRECT_PATIENCE = 6
_ADVERTISEMENT = "application/x-git-upload-pack-advertisement"
_OWN_CONNECTION = r"^http\.(.*\.)?(proxy|sslcainfo|sslcapath|sslcert|sslverify|proxysslcainfo)$"


def bring_commit(
    url: str,
    commit: str,
    *,
    repository: Path,
    lock: int,
    settings: IndexSettings,
    env: Mapping[str, str],
    transfers: Transfers,
) -> None:
    """Fetch ``commit`` of ``url`` into ``repository``, or raise ``AllFailedError``."""
    from wheelyard.network.session import open_session  # noqa: PLC0415 - local ones need none

    network = settings.network
    health = Health(network.health_path)
    routes = health.sort(network.routes(url), lambda route: route.server)
    with open_session(settings, env) as session, transfers.transfer(url, None) as report:
        fetch = functools.partial(
            _fetch_route,
            commit=commit,
            repository=repository,
            lock=lock,
            session=session,
            network=network,
            env=env,
            report=report,
        )
        ways = [
            Way(name=route.url, server=route.server, attempt=functools.partial(fetch, route))
            for route in routes
        ]
        first_that_works(ways, attempts=network.attempts, health=health)


def reference(commit: str) -> str:
    return f"refs/wheelyard/{commit}"


def _fetch_route(
    route: Route,
    last_resort: bool,  # noqa: FBT001 - as `Way` has it
    *,
    commit: str,
    repository: Path,
    lock: int,
    session: requests.Session,
    network: NetworkSettings,
    env: Mapping[str, str],
    report: Callable[[int], None],
) -> None:
    """Fetch the one commit over one route, or, where nothing better is left, its history."""
    url = route.url
    if route.detour is not None and not _has_own_connection(env):
        with _unless_asked_who_it_is():
            url = _advertised_url(route, session=session, network=network)
    sweep_repository(repository)
    fetch = functools.partial(
        _run_fetch,
        route,
        repository=repository,
        env=route_environment(route, env, url=url, network=network),
        lock=lock,
        network=network,
        bears_slowness=last_resort,
        report=report,
    )
    try:
        fetch("--depth=1", f"+{commit}:{reference(commit)}")
    except ProcessError as error:
        if not _REFUSED.search(error.tail):
            raise _explain(error) from error
        if not last_resort:
            msg = "gives no single commit"
            raise RouteError(msg, passes=True) from error
    else:
        return
    logger.info("%s gives no single commit; fetching its history", mask_url(url))
    _fetch_history(commit, repository=repository, fetch=fetch, env=env, lock=lock)


def _fetch_history(
    commit: str,
    *,
    repository: Path,
    fetch: Callable[..., None],
    env: Mapping[str, str],
    lock: int,
) -> None:
    history = ("+refs/heads/*:refs/origin/heads/*", "+refs/tags/*:refs/origin/tags/*")
    shallow = ("--unshallow",) if (repository / "shallow").exists() else ()
    try:
        fetch(*shallow, *history)
    except ProcessError as error:
        raise _explain(error) from error
    update = ["git", f"--git-dir={repository}", "update-ref", reference(commit), commit]
    try:
        run(update, env=git_environment(env), pass_fds=(lock,))
    except ProcessError as error:
        msg = (
            f"has no commit {commit} in its branches and tags. Its history may have been "
            "rewritten: pin another commit, or name a mirror that has it"
        )
        raise RouteError(msg) from error


def route_environment(
    route: Route, env: Mapping[str, str], *, url: str, network: NetworkSettings
) -> dict[str, str]:
    """Return the environment of a git that fetches over ``route``.

    A proxy or mirror is told no credentials that are not for itself, and may not lead elsewhere.
    """
    config = {"remote.origin.url": url, "fetch.unpackLimit": "1"}
    env = {**_certificate_variables(network), **env}
    if route.detour is None:
        return git_environment(env, url=url, config=config)
    config |= {
        "core.askPass": "",
        # a helper of the user may answer any host; an empty value forgets those set before
        "credential.helper": "",
        "http.cookieFile": "",
        "http.extraHeader": "",
        "http.followRedirects": "false",
    }
    bare = {name: value for name, value in env.items() if not name.endswith("ASKPASS")}
    bare |= _without_default_netrc(env)
    seconds = str(max(1, round(network.stall_timeout)))
    bare = {"GIT_HTTP_LOW_SPEED_LIMIT": "1", "GIT_HTTP_LOW_SPEED_TIME": seconds, **bare}
    return git_environment(bare, url=url, config=config, is_detour=True)


def _certificate_variables(network: NetworkSettings) -> dict[str, str]:
    path = network.certificate
    if not path:
        return {}
    return {"GIT_SSL_CAPATH" if Path(path).is_dir() else "GIT_SSL_CAINFO": path}


def _without_default_netrc(env: Mapping[str, str]) -> dict[str, str]:
    """Return what hides a netrc whose ``default`` entry git would tell to every server.

    Of the home folder, git then still reads its own configuration.
    """
    from wheelyard.network.session import read_netrc  # noqa: PLC0415 - local routes need none

    home = Path(env.get("HOME", "/"))
    found = read_netrc({"HOME": str(home)})
    if found is None or "default" not in found.hosts:
        return {}
    xdg = Path(env.get("XDG_CONFIG_HOME") or home / ".config", "git", "config")
    config = next((path for path in (home / ".gitconfig", xdg) if path.is_file()), None)
    chosen = env.get("GIT_CONFIG_GLOBAL") or str(config or "/dev/null")
    return {"HOME": "/nonexistent", "GIT_CONFIG_GLOBAL": chosen}


def sweep_repository(repository: Path) -> None:
    """Clean up after a git that was killed; the lock is held."""
    for pattern in ("*.lock", "refs/**/*.lock", "reftable/*.lock", "objects/pack/tmp_*"):
        for stale in repository.glob(pattern):
            stale.unlink()


@contextlib.contextmanager
def _unless_asked_who_it_is() -> Iterator[None]:
    """Leave the answer to git, which has ways of its own to say it."""
    try:
        yield
    except RouteError as error:
        if error.status != _UNAUTHORIZED:
            raise


def _has_own_connection(env: Mapping[str, str]) -> bool:
    """Whether the user told git alone how to connect: then only git can tell whether it can."""
    command = ["git", "config", "--get-regexp", _OWN_CONNECTION]
    try:
        return bool(run(command, env=git_environment(env)).output.strip())
    except ProcessError:
        return False


def _advertised_url(route: Route, *, session: requests.Session, network: NetworkSettings) -> str:
    """See that a git server answers, and return where: it may have redirected within itself.

    git itself would wait long, follow anywhere and say little.
    """
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    from wheelyard.network.asking import GIT_AGENT, ask, explain  # noqa: PLC0415

    tail = "/info/refs?service=git-upload-pack"
    question = Route(url=route.url + tail, original=route.original, detour=route.detour)
    headers = {"Git-Protocol": "version=2", **GIT_AGENT}
    with ask(session, question, settings=network, headers=headers) as response:
        kind = response.headers.get("Content-Type", "")
        try:
            beginning = response.raw.read1(256, decode_content=True)
        except (OSError, HTTPError) as error:
            raise explain(error, settings=network) from error
        if "html" in kind or beginning.lstrip()[:1] == b"<":
            msg = "sent an HTML page instead of a git repository"
            raise RouteError(msg, wrong=True)
        if not beginning:
            msg = "sent the head of an answer and nothing more"
            raise RouteError(msg, passes=True)
        if not kind.startswith((_ADVERTISEMENT, "text/plain")):
            msg = f"sent {kind or 'something'} instead of a git repository"
            raise RouteError(msg, wrong=True)
        return str(response.url).removesuffix(tail)


class _Watch:
    """Tells from git's progress whether bytes still come, and how fast."""

    def __init__(
        self,
        *,
        silence: float,
        slowest: float,
        report: Callable[[int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._silence = silence
        self._slowest = slowest
        self._report = report
        self._clock = clock
        self._heard = self._since = clock()
        self._received = self._before = 0
        self._is_local = False
        self._slow = ""

    def line(self, text: str) -> None:
        """Take in one line of git's output."""
        self._heard = self._clock()
        self._is_local = self._is_local or _AFTER_THE_NETWORK.match(text) is not None
        match = _RECEIVED.match(text)
        if match is None:
            return
        self._received = round(float(match["number"]) * _UNITS[match["unit"]])
        self._report(self._received)
        seconds = self._heard - self._since
        if seconds < self._silence:
            return
        rate = (self._received - self._before) / seconds
        if rate < self._slowest and not self._is_local:
            self._slow = f"git was stopped: too slow ({rate:.0f} bytes a second)"
        self._since, self._before = self._heard, self._received

    def reason(self) -> str:
        """Return why git is to be stopped, or nothing."""
        limit = _LONGEST_LOCAL_WORK if self._is_local else self._silence
        if self._clock() - self._heard > limit:
            return f"git was stopped: nothing came for {limit:g} s"
        return self._slow


def _run_fetch(
    route: Route,
    *arguments: str,
    repository: Path,
    env: Mapping[str, str],
    lock: int,
    network: NetworkSettings,
    bears_slowness: bool,
    report: Callable[[int], None],
) -> None:
    patience = 1 if route.detour is not None else _DIRECT_PATIENCE
    watch = _Watch(
        silence=network.stall_timeout * patience,
        slowest=network.slowest / (64 if bears_slowness else 1),
        report=report,
    )
    options = [argument for argument in arguments if argument.startswith("--")]
    references = [argument for argument in arguments if not argument.startswith("--")]
    fetch = ["fetch", "--progress", "--no-tags", "--no-write-fetch-head", *options, "origin"]
    run(
        ["git", f"--git-dir={repository}", *fetch, *references],
        env=env,
        pass_fds=(lock,),
        on_line=watch.line,
        give_up=watch.reason,
    )


def _explain(error: ProcessError) -> RouteError:
    """Say git's error in one line, and whether it may pass."""
    lines = [line.strip() for line in error.tail.splitlines() if line.strip()]
    telling = [line for line in lines if not _PROGRESS.match(line)]
    reason = "; ".join(telling[-4:]) or "git failed without a word"
    if "fsck error" in reason:
        return RouteError(reason, wrong=True)
    if _PASSES.search(reason):
        return RouteError(reason, passes=True, slow="too slow" in reason)
    return RouteError(reason, wrong=_WRONG.search(reason) is not None)
