from __future__ import annotations

import fcntl
import functools
import http.server
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import FetchError, IntegrityError
from wheelyard.model.source import GitSource
from wheelyard.network.git import checkout, fetch_commit, repository_name, resolve_submodule_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.unit.network.conftest import Repository


def unpack(archive: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="tar")


class Cache:
    """A bare cache for one project at a time."""

    def __init__(self, root: Path, env: dict[str, str]) -> None:
        self.root = root
        self.env = env

    def repository(self, source: GitSource) -> Path:
        return self.root / repository_name(source.url)

    def fetch(self, source: GitSource, *, offline: bool = False) -> None:
        repository = self.repository(source)
        fetch_commit(source, repository=repository, env=self.env, offline=offline)

    def checkout(self, source: GitSource, tree: Path) -> dict[str, bytes]:
        checkout(source, repository=self.repository(source), tree=tree, unpack=unpack, env=self.env)
        files = (path for path in tree.rglob("*") if path.is_file())
        return {str(path.relative_to(tree)): path.read_bytes() for path in files}

    def commits(self, source: GitSource) -> list[str]:
        command = ["git", f"--git-dir={self.repository(source)}", "cat-file"]
        command += ["--batch-all-objects", "--batch-check=%(objecttype) %(objectname)"]
        listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return [line.split()[1] for line in listed.splitlines() if line.startswith("commit ")]


@pytest.fixture
def cache(tmp_path: Path, env: dict[str, str]) -> Cache:
    return Cache(tmp_path / "cache", env)


def source_of(repository: Repository, commit: str, *submodules: str) -> GitSource:
    return GitSource(url=str(repository.path), commit=commit, submodules=submodules)


def test_only_the_pinned_commit_is_fetched(
    cache: Cache, make_repository: Callable[[str], Repository], tmp_path: Path
) -> None:
    upstream = make_repository("project")
    upstream.commit(setup__py="1")
    pinned = upstream.commit(setup__py="2")
    upstream.commit(setup__py="3")
    source = source_of(upstream, pinned)
    cache.fetch(source)
    assert cache.commits(source) == [pinned]
    assert cache.checkout(source, tmp_path / "tree") == {"setup.py": b"2"}


def test_fetched_commit_needs_no_connection_any_more(
    cache: Cache, make_repository: Callable[[str], Repository]
) -> None:
    upstream = make_repository("project")
    source = source_of(upstream, upstream.commit(setup__py="1"))
    with pytest.raises(FetchError, match=r"offline.*copy that folder"):
        cache.fetch(source, offline=True)
    assert not cache.root.exists()
    cache.fetch(source)
    upstream.path.rename(upstream.path.with_name("gone"))
    cache.fetch(source, offline=True)


def test_second_version_goes_into_the_same_cache(
    cache: Cache, make_repository: Callable[[str], Repository], tmp_path: Path
) -> None:
    upstream = make_repository("project")
    first = source_of(upstream, upstream.commit(setup__py="1"))
    second = source_of(upstream, upstream.commit(setup__py="2"))
    cache.fetch(first)
    cache.fetch(second)
    assert cache.checkout(first, tmp_path / "first") == {"setup.py": b"1"}
    assert cache.checkout(second, tmp_path / "second") == {"setup.py": b"2"}


def test_missing_repository_is_named(cache: Cache, tmp_path: Path) -> None:
    source = GitSource(url=str(tmp_path / "none"), commit="1" * 40)
    with pytest.raises(FetchError, match=rf"git cannot fetch {'1' * 40} from {tmp_path}/none"):
        cache.fetch(source)


def test_commit_that_upstream_lacks_is_named(
    cache: Cache, make_repository: Callable[[str], Repository]
) -> None:
    upstream = make_repository("project")
    upstream.commit(setup__py="1")
    with pytest.raises(FetchError, match=f"has no commit {'1' * 40} in its branches and tags"):
        cache.fetch(source_of(upstream, "1" * 40))


@pytest.fixture
def plain_files_url(tmp_path: Path) -> Iterator[str]:
    """Serve the upstream folder as mere files, so that git cannot ask for a single commit."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "upstream"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_history_is_fetched_from_a_server_that_gives_no_single_commit(
    cache: Cache, make_repository: Callable[[str], Repository], tmp_path: Path, plain_files_url: str
) -> None:
    upstream = make_repository("project")
    pinned = upstream.commit(setup__py="1")
    latest = upstream.commit(setup__py="2")
    upstream.git("update-server-info")
    source = GitSource(url=f"{plain_files_url}/project/.git", commit=pinned)
    cache.fetch(source)
    assert sorted(cache.commits(source)) == sorted([pinned, latest])
    assert cache.checkout(source, tmp_path / "tree") == {"setup.py": b"1"}
    with pytest.raises(FetchError, match="has no commit"):
        cache.fetch(GitSource(url=source.url, commit="1" * 40))


@pytest.fixture
def nested(make_repository: Callable[[str], Repository]) -> GitSource:
    """A project with a submodule at a relative URL, which has a submodule itself."""
    inner = make_repository("inner")
    inner.commit(inner__h="inner")
    middle = make_repository("middle")
    middle.commit(middle__h="middle")
    middle.git("submodule", "--quiet", "add", str(inner.path), "deps/inner")
    middle.commit()
    project = make_repository("project")
    project.commit(setup__py="project")
    project.git("submodule", "--quiet", "add", "../middle", "third_party/middle")
    project.git("submodule", "--quiet", "add", str(inner.path), "unused")
    commit = project.commit()
    middle.commit(middle__h="later than pinned")
    return source_of(project, commit, "third_party/middle", "third_party/middle/deps/inner")


def test_submodules_come_at_the_commit_that_the_tree_records(
    cache: Cache, nested: GitSource, tmp_path: Path
) -> None:
    cache.fetch(nested)
    files = cache.checkout(nested, tmp_path / "tree")
    assert files["setup.py"] == b"project"
    assert files["third_party/middle/middle.h"] == b"middle"
    assert files["third_party/middle/deps/inner/inner.h"] == b"inner"
    assert (tmp_path / "tree" / "unused").is_dir()
    assert not any("unused/" in name for name in files)


def test_path_that_is_no_submodule_is_named(cache: Cache, nested: GitSource) -> None:
    source = GitSource(url=nested.url, commit=nested.commit, submodules=("third_party",))
    with pytest.raises(FetchError, match=r"no submodule at 'third_party'.*recipe"):
        cache.fetch(source)


@pytest.mark.parametrize("path", ["/etc", "../x"])
def test_path_outside_the_tree_is_refused(cache: Cache, nested: GitSource, path: str) -> None:
    source = GitSource(url=nested.url, commit=nested.commit, submodules=(path,))
    with pytest.raises(FetchError, match="is no submodule path"):
        cache.fetch(source)


@pytest.mark.parametrize("url", ["ext::sh -c 'touch stolen'", "http://127.0.0.1:9/x", "-uevil"])
def test_submodule_with_another_protocol_is_refused(
    cache: Cache, nested: GitSource, make_repository: Callable[[str], Repository], url: str
) -> None:
    hostile = make_repository("hostile")
    hostile.git("clone", "--quiet", nested.url, "clone")
    hostile.path /= "clone"
    hostile.git("config", "--file=.gitmodules", "submodule.third_party/middle.url", url)
    source = source_of(hostile, hostile.commit(), "third_party/middle")
    with pytest.raises((FetchError, IntegrityError), match=r"refused|are allowed|disallowed"):
        cache.fetch(source)


def test_export_is_what_was_committed_whatever_the_attributes_say(
    cache: Cache, make_repository: Callable[[str], Repository], tmp_path: Path
) -> None:
    upstream = make_repository("project")
    upstream.write("code.py", "$Id$ $Format:%H$\nline\n")
    upstream.write("hidden.txt", "there")
    upstream.write("utf16.txt", "plain")
    upstream.write("run.sh", "#!/bin/sh\n")
    (upstream.path / "run.sh").chmod(0o755)
    upstream.commit()
    expected = {
        "code.py": b"$Id$ $Format:%H$\nline\n",
        "hidden.txt": b"there",
        "run.sh": b"#!/bin/sh\n",
        "utf16.txt": b"plain",
    }
    attributes = "* ident export-subst eol=crlf filter=evil\n*.txt export-ignore\n"
    attributes += "utf16.txt working-tree-encoding=UTF-16\n"
    upstream.write(".gitattributes", attributes)
    upstream.git("add", ".gitattributes")
    upstream.git("commit", "--quiet", "--message", "attributes")
    commit = upstream.git("rev-parse", "HEAD")
    home = tmp_path / "home"
    stolen = tmp_path / "stolen"
    (home / ".gitconfig").write_text(
        f'[filter "evil"]\n\tsmudge = touch {stolen}\n\trequired = true\n'
        f"[core]\n\tautocrlf = true\n\tattributesFile = {home}/attributes\n"
    )
    (home / "attributes").write_text("* export-ignore\n")
    source = source_of(upstream, commit)
    cache.fetch(source)
    files = cache.checkout(source, tmp_path / "tree")
    assert files == {**expected, ".gitattributes": attributes.encode()}
    assert os.access(tmp_path / "tree" / "run.sh", os.X_OK)
    assert not stolen.exists()


def test_hooks_of_the_user_do_not_run(
    cache: Cache, make_repository: Callable[[str], Repository], tmp_path: Path
) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "reference-transaction").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (hooks / "reference-transaction").chmod(0o755)
    (tmp_path / "home" / ".gitconfig").write_text(f"[core]\n\thooksPath = {hooks}\n")
    upstream = make_repository("project")
    cache.fetch(source_of(upstream, upstream.commit(setup__py="1")))
    assert not (tmp_path / "ran").exists()


def test_instead_of_rules_of_the_user_are_followed(
    cache: Cache, make_repository: Callable[[str], Repository], tmp_path: Path
) -> None:
    upstream = make_repository("project")
    commit = upstream.commit(setup__py="1")
    cache.env["GIT_CONFIG_COUNT"] = "1"
    cache.env["GIT_CONFIG_KEY_0"] = f"url.{upstream.path}.insteadOf"
    cache.env["GIT_CONFIG_VALUE_0"] = "file:///nowhere"
    cache.fetch(GitSource(url="file:///nowhere", commit=commit))


def test_cache_left_by_a_killed_git_is_used_again(
    cache: Cache, make_repository: Callable[[str], Repository], tmp_path: Path
) -> None:
    upstream = make_repository("project")
    first = source_of(upstream, upstream.commit(setup__py="1"))
    cache.fetch(first)
    repository = cache.repository(first)
    (repository / "shallow.lock").write_bytes(b"")
    (repository / "objects" / "pack" / "tmp_pack_x").write_bytes(b"half")
    second = source_of(upstream, upstream.commit(setup__py="2"))
    stale = repository / "refs" / "wheelyard" / f"{second.commit}.lock"
    stale.write_bytes(b"")
    cache.fetch(second)
    assert cache.checkout(second, tmp_path / "tree") == {"setup.py": b"2"}
    assert not (repository / "objects" / "pack" / "tmp_pack_x").exists()


SLOW_GIT = """\
#!/bin/sh
case "$*" in *" fetch "*) (echo >{folder}/started; read -r _ <{folder}/go) ;; esac
exec {git} "$@"
"""


def test_child_of_git_that_outlives_a_killed_process_keeps_the_lock(
    cache: Cache, make_repository: Callable[[str], Repository], tmp_path: Path
) -> None:
    upstream = make_repository("project")
    source = source_of(upstream, upstream.commit(setup__py="1"))
    folder = tmp_path / "slow"
    folder.mkdir()
    (folder / "git").write_text(SLOW_GIT.format(folder=folder, git=shutil.which("git")))
    (folder / "git").chmod(0o755)
    os.mkfifo(folder / "started")
    os.mkfifo(folder / "go")
    program = (
        "import pathlib; from wheelyard.model.source import GitSource\n"
        "from wheelyard.network.git import fetch_commit\n"
        f"fetch_commit({source!r}, repository=pathlib.Path({str(cache.repository(source))!r}),\n"
        f"    env={ {**cache.env, 'PATH': f'{folder}:' + cache.env['PATH']}!r})\n"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        (folder / "started").read_text()
        process.kill()
    lock = cache.repository(source).with_name(f"{cache.repository(source).name}.lock")
    with lock.open() as stream:
        with pytest.raises(BlockingIOError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (folder / "go").write_text("go\n")
        fcntl.flock(stream, fcntl.LOCK_EX)
    cache.fetch(source)
    assert cache.commits(source) == [source.commit]


def test_corrupt_objects_are_refused_on_receipt(
    cache: Cache, make_repository: Callable[[str], Repository]
) -> None:
    upstream = make_repository("project")
    tree = upstream.git("rev-parse", upstream.commit(setup__py="1") + "^{tree}")
    path = upstream.path / "commit"
    path.write_text(f"tree {tree}\nauthor no email 1 +0000\ncommitter x <x> 1 +0000\n\nbad\n")
    arguments = ("hash-object", "-t", "commit", "-w", "--literally", "commit")
    with pytest.raises(IntegrityError, match="git refuses what"):
        cache.fetch(source_of(upstream, upstream.git(*arguments)))


def test_damaged_cache_says_what_to_remove(
    cache: Cache, make_repository: Callable[[str], Repository], tmp_path: Path
) -> None:
    upstream = make_repository("project")
    source = source_of(upstream, upstream.commit(setup__py="1"))
    cache.fetch(source)
    for path in (cache.repository(source) / "objects").rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(FetchError, match=f"remove {cache.repository(source)}"):
        cache.checkout(source, tmp_path / "tree")


def test_credentials_are_in_no_log_and_no_error(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="wheelyard")
    source = GitSource(url="http://me:s3cret@127.0.0.1:9/x.git", commit="1" * 40)
    with pytest.raises(FetchError) as caught:
        cache.fetch(source)
    assert "127.0.0.1:9/x.git" in str(caught.value)
    assert "s3cret" not in str(caught.value) + caplog.text


def test_cache_has_one_name_for_all_credentials() -> None:
    assert repository_name("https://a:b@host/x") == repository_name("https://host/x")
    assert repository_name("https://host/x") != repository_name("https://host/y")


@pytest.mark.parametrize(
    ("parent", "url", "expected"),
    [
        ("https://host/group/project.git", "../other.git", "https://host/group/other.git"),
        ("https://host/group/project", "../../else/other", "https://host/else/other"),
        ("https://host/group/project/", "./inner", "https://host/group/project/inner"),
        ("git@host:group/project.git", "../other.git", "git@host:group/other.git"),
        ("git@host:project.git", "../other.git", "git@host:other.git"),
        ("/srv/git/project", "../other", "/srv/git/other"),
        ("https://host/a", "https://elsewhere/b", "https://elsewhere/b"),
    ],
)
def test_submodule_url_is_relative_to_its_parents(parent: str, url: str, expected: str) -> None:
    assert resolve_submodule_url(parent, url) == expected


def test_submodule_url_cannot_leave_the_host() -> None:
    with pytest.raises(FetchError, match="climbs out of"):
        resolve_submodule_url("https://host/a", "../../../b")
