"""Pinned commits of git repositories: fetched into a bare cache, exported without any filter."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import re
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from wheelyard.errors import FetchError, IntegrityError, ProcessError
from wheelyard.files import disk_errors
from wheelyard.locking import held
from wheelyard.network.children import git_environment, git_protocol
from wheelyard.network.failover import AllFailedError
from wheelyard.network.git_fetching import bring_commit, reference, sweep_repository
from wheelyard.network.indexes import IndexSettings
from wheelyard.network.masking import mask_url
from wheelyard.progress import QUIET
from wheelyard.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wheelyard.model.source import GitSource
    from wheelyard.progress import Transfers

logger = logging.getLogger(__name__)

NOTHING_CONFIGURED = IndexSettings()

# $GIT_DIR/info/attributes is stronger than any .gitattributes of the tree: what is exported is
# what was committed, whatever filters, line ends or placeholders the tree asks for.
_ATTRIBUTES = (
    "* -text !eol -crlf -ident -filter !working-tree-encoding -export-ignore -export-subst\n"
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Pinned:
    """One repository of a source: the project itself, or a submodule at its path in the tree."""

    path: PurePosixPath
    url: str
    commit: str
    repository: Path


def repository_name(url: str) -> str:
    """Return the name of the bare cache of ``url``, the same whoever's credentials are in it."""
    parts = urlsplit(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return hashlib.sha256(bare.encode()).hexdigest()


def fetch_commit(
    source: GitSource,
    *,
    repository: Path,
    env: Mapping[str, str],
    offline: bool = False,
    settings: IndexSettings = NOTHING_CONFIGURED,
    transfers: Transfers = QUIET,
) -> None:
    """Bring the pinned commit into the bare ``repository``, and its submodules beside it.

    The commits of the submodules follow from the tree; each has a bare cache of its own in
    ``repository``'s folder, so that projects which share a submodule share its cache.
    """
    fetch = functools.partial(
        _fetch,
        settings=dataclasses.replace(settings, offline=offline or settings.offline),
        env=env,
        transfers=transfers,
    )
    root_protocol = git_protocol(source.url)
    pinned = [_root(source, repository)]
    fetch(pinned[0])
    for path in source.submodules:
        submodule = _resolve_submodule(PurePosixPath(path), pinned, env=env)
        if git_protocol(submodule.url) not in {root_protocol, "https", "ssh"}:
            msg = (
                f"The submodule {path!r} of {mask_url(source.url)} wants "
                f"{mask_url(submodule.url)!r}: only {root_protocol}, https and ssh are allowed."
            )
            raise FetchError(msg)
        fetch(submodule)
        pinned.append(submodule)


def checkout(
    source: GitSource,
    *,
    repository: Path,
    tree: Path,
    unpack: Callable[[Path, Path], None],
    env: Mapping[str, str],
) -> None:
    """Export the pinned commit and its submodules into ``tree``, without a connection.

    ``unpack`` puts the entries of a tar archive (first argument) into a folder (second).
    """
    pinned = [_root(source, repository)]
    for path in source.submodules:
        pinned.append(_resolve_submodule(PurePosixPath(path), pinned, env=env))
    with tempfile.TemporaryDirectory(dir=tree.parent, prefix=".export-") as folder:
        archive = Path(folder) / "tree.tar"
        for one in pinned:
            arguments = ("archive", "--format=tar", f"--output={archive}", one.commit)
            try:
                _git(one.repository, *arguments, env=git_environment(env))
            except ProcessError as error:
                raise _damaged(one, error) from error
            unpack(archive, tree / one.path)


def _root(source: GitSource, repository: Path) -> _Pinned:
    path = PurePosixPath()
    return _Pinned(path=path, url=source.url, commit=source.commit, repository=repository)


def _fetch(
    pinned: _Pinned, *, settings: IndexSettings, env: Mapping[str, str], transfers: Transfers
) -> None:
    """Make sure that the bare cache holds the commit, whole."""
    repository = pinned.repository
    local_env = git_environment(env)
    if repository.is_dir() and _has_commit(pinned, local_env):
        return
    if settings.offline:
        msg = (
            f"The commit {pinned.commit} of {mask_url(pinned.url)} is not in {repository}, and "
            "wheelyard is offline. Fetch it on a machine with network and copy that folder."
        )
        raise FetchError(msg)
    with held(repository.with_name(f"{repository.name}.lock")) as lock:
        with disk_errors(repository):
            _prepare(repository, env=local_env, lock=lock)
        if _has_commit(pinned, local_env):
            return
        logger.info("Fetching %s at %s", mask_url(pinned.url), pinned.commit)
        try:
            bring_commit(
                pinned.url,
                pinned.commit,
                repository=repository,
                lock=lock,
                settings=settings,
                env=env,
                transfers=transfers,
            )
        except AllFailedError as error:
            raise _fetch_error(pinned, error) from error


def _prepare(repository: Path, *, env: Mapping[str, str], lock: int) -> None:
    """Make the bare cache, or clean up after a git that was killed; the lock is held."""
    init = ("init", "--quiet", "--bare", "--template=", "--object-format=sha1")
    _git_anywhere(*init, repository, env=env, lock=lock)
    sweep_repository(repository)
    (repository / "info").mkdir(exist_ok=True)
    (repository / "info" / "attributes").write_text(_ATTRIBUTES, encoding="utf-8")


def _has_commit(pinned: _Pinned, env: Mapping[str, str]) -> bool:
    """Whether a fetch of the commit ended well, which is when its reference was made."""
    arguments = ("rev-parse", "--quiet", "--verify", f"{reference(pinned.commit)}^{{commit}}")
    try:
        return _git(pinned.repository, *arguments, env=env).strip() == pinned.commit
    except ProcessError:
        return False


def _resolve_submodule(
    path: PurePosixPath, pinned: list[_Pinned], *, env: Mapping[str, str]
) -> _Pinned:
    """Find the commit in the tree that holds the submodule, and the URL in its .gitmodules."""
    parents = [one for one in pinned if path != one.path and path.is_relative_to(one.path)]
    if not parents or ".." in path.parts:
        msg = f"{str(path)!r} is no submodule path. Correct `submodules` in the recipe."
        raise FetchError(msg)
    parent = max(parents, key=lambda one: len(one.path.parts))
    inner = path.relative_to(parent.path)
    child_env = git_environment(env)
    where = f"{mask_url(parent.url)} at {parent.commit}"
    listed = _git(parent.repository, "ls-tree", parent.commit, "--", str(inner), env=child_env)
    commit = re.search(r"^160000 commit ([0-9a-f]{40,64})\t", listed, re.MULTILINE)
    if commit is None:
        msg = f"{where} has no submodule at {str(inner)!r}. Correct `submodules` in the recipe."
        raise FetchError(msg)
    written = _read_gitmodules(parent, env=child_env).get(inner)
    if written is None:
        msg = f"The .gitmodules of {where} has no URL for {str(inner)!r}. Take another commit."
        raise FetchError(msg)
    url = resolve_submodule_url(parent.url, written)
    repository = parent.repository.with_name(repository_name(url))
    return _Pinned(path=path, url=url, commit=commit[1], repository=repository)


def _read_gitmodules(parent: _Pinned, *, env: Mapping[str, str]) -> dict[PurePosixPath, str]:
    """Return the URL of each submodule by its path."""
    blob = f"--blob={parent.commit}:.gitmodules"
    try:
        output = _git(parent.repository, "config", blob, "--null", "--list", env=env)
    except ProcessError:
        return {}
    values = dict(entry.partition("\n")[::2] for entry in output.split("\0"))
    return {
        PurePosixPath(path): values.get(f"{key.removesuffix('.path')}.url", "")
        for key, path in values.items()
        if key.startswith("submodule.") and key.endswith(".path")
    }


def resolve_submodule_url(parent: str, url: str) -> str:
    """Return a submodule's URL, which may be relative to its parent's (``../other.git``)."""
    if not url or url.startswith("-"):
        msg = f"A submodule of {mask_url(parent)} has the URL {url!r}. Take another commit."
        raise FetchError(msg)
    if not url.startswith(("./", "../")):
        return url
    scheme, separator, base = parent.rstrip("/").rpartition("://")
    while url.startswith(("./", "../")):
        step, _, url = url.partition("/")
        if step == "..":
            cut = max(base.rfind("/"), base.rfind(":") if not separator else -1)
            if cut < 0:
                msg = f"A submodule's URL climbs out of {mask_url(parent)}. Take another commit."
                raise FetchError(msg)
            base = base[: cut + 1] if base[cut] == ":" else base[:cut]
    glue = "" if base.endswith(":") else "/"
    return f"{scheme}{separator}{base}{glue}{url}"


def _fetch_error(pinned: _Pinned, failed: AllFailedError) -> FetchError | IntegrityError:
    """Say what was asked for a commit and why each answer was none, as one error."""
    if failed.wrong:
        msg = (
            f"git refuses what {mask_url(pinned.url)} sent for {pinned.commit}:\n{failed}\n"
            "Take another commit, or a mirror that sends the right objects."
        )
        return IntegrityError(msg)
    msg = (
        f"git cannot fetch {pinned.commit} from {mask_url(pinned.url)}:\n{failed}\n"
        "Check that the address can be reached from here; docs/network.md says how to name a "
        "proxy or mirror. git's own `http.proxy` and `url.<base>.insteadOf` are honoured."
    )
    return FetchError(msg)


def _damaged(pinned: _Pinned, error: ProcessError) -> FetchError:
    msg = (
        f"git cannot export {pinned.commit} of {mask_url(pinned.url)}:\n{error.tail.strip()}\n"
        f"If the cache is damaged, remove {pinned.repository} and run `wheelyard fetch` again."
    )
    return FetchError(msg)


def _git(repository: Path, *arguments: str, env: Mapping[str, str], lock: int | None = None) -> str:
    return _git_anywhere(f"--git-dir={repository}", *arguments, env=env, lock=lock)


def _git_anywhere(*arguments: str | Path, env: Mapping[str, str], lock: int | None = None) -> str:
    """Run git; a given lock stays held until git has ended, even if this process is killed."""
    pass_fds = () if lock is None else (lock,)
    return run(["git", *arguments], env=env, pass_fds=pass_fds).output
