"""The patch stage: a fetched source becomes a tree with its whole patch series applied."""

from __future__ import annotations

import contextlib
import itertools
import logging
import re
from typing import TYPE_CHECKING, assert_never

from wheelyard.errors import PatchError, ProcessError
from wheelyard.files import disk_errors, file_sha256
from wheelyard.folders import remove_tree
from wheelyard.model.source import FolderSource, GitSource, SdistSource, UrlSource
from wheelyard.network.children import git_environment
from wheelyard.network.git import checkout
from wheelyard.network.masking import mask_url
from wheelyard.run import run
from wheelyard.sources.tree import copy_folder, settle_tree, tree_digest
from wheelyard.sources.unpack import unpack
from wheelyard.sources.values import AppliedPatch, PatchedSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from wheelyard.sources.values import FetchedSource

logger = logging.getLogger(__name__)


def apply_patches(
    fetched: FetchedSource,
    patches: Sequence[Path],
    *,
    tree: Path,
    run_python: Callable[[Path, Path], None],
    env: Mapping[str, str],
) -> PatchedSource:
    """Make the new folder ``tree`` from the source, with every patch applied exactly, in order.

    A ``.patch`` is a diff; a ``.py`` is a transformation, which ``run_python(script, tree)`` runs
    where it can do no harm. ``tree`` appears when the whole series is applied, or not at all.
    """
    if tree.exists():
        msg = f"{tree} exists already; a source is only patched into a new folder. Remove it."
        raise PatchError(msg)
    with disk_errors(tree), _appearing_tree(tree) as work:
        _lay_out(fetched, work, env=env)
        settle_tree(work)
        digest = tree_digest(work)
        for patch in patches:
            digest = _apply(patch, fetched, work, before=digest, run_python=run_python, env=env)
        applied = tuple(AppliedPatch(name=path.name, sha256=file_sha256(path)) for path in patches)
    return PatchedSource(tree=tree, source=fetched, patches=applied, digest=digest)


@contextlib.contextmanager
def _appearing_tree(tree: Path) -> Iterator[Path]:
    """Yield the path of a folder beside ``tree`` that takes its name when the block ends well."""
    work = tree.with_name(f".{tree.name}.partial")
    remove_tree(work)  # a killed process left it
    work.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield work
        work.rename(tree)
    except BaseException:
        remove_tree(work)
        raise


def _lay_out(fetched: FetchedSource, tree: Path, *, env: Mapping[str, str]) -> None:
    match fetched.source:
        case SdistSource() | UrlSource():
            unpack(fetched.path, tree)
        case GitSource() as source:
            checkout(source, repository=fetched.path, tree=tree, unpack=_unpack_export, env=env)
        case FolderSource():
            copy_folder(fetched.path, tree)
        case _ as never:
            assert_never(never)


def _unpack_export(archive: Path, folder: Path) -> None:
    unpack(archive, folder, strip_top=False)


def _apply(
    patch: Path,
    fetched: FetchedSource,
    tree: Path,
    *,
    before: str,
    run_python: Callable[[Path, Path], None],
    env: Mapping[str, str],
) -> str:
    """Apply one patch and return the tree's new digest."""
    if patch.suffix == ".patch":
        _apply_diff(patch, fetched, tree, env=env)
    elif patch.suffix == ".py":
        _transform(patch, fetched, tree, run_python=run_python)
    else:
        msg = f"{patch} is no patch: its name must end in .patch or .py. Rename it."
        raise PatchError(msg)
    settle_tree(tree)
    digest = tree_digest(tree)
    if digest == before:
        msg = (
            f"The patch {patch.name} changes nothing in {_describe(fetched)}. "
            "Narrow its `versions` in the recipe, or drop it."
        )
        raise PatchError(msg)
    return digest


def _apply_diff(patch: Path, fetched: FetchedSource, tree: Path, *, env: Mapping[str, str]) -> None:
    """Apply a diff with git, which takes all of it or nothing, and no context line less."""
    child_env = {
        **git_environment(env),
        # Without a repository: the tree may lie inside somebody's, whose files git would look for.
        "GIT_DIR": "/dev/null",
        # No taste of the user's (apply.whitespace, apply.ignoreWhitespace) has a say here.
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_COUNT": "0",
    }
    arguments = ("apply", "--verbose", "--whitespace=nowarn")
    try:
        said = run(["git", *arguments, patch.resolve()], cwd=tree, env=child_env).output
    except ProcessError as error:
        raise _not_applicable(patch, fetched, error.tail) from error
    for line in said.splitlines():
        if line.startswith("Hunk "):
            logger.info("%s: %s", patch.name, line)


def _transform(
    patch: Path,
    fetched: FetchedSource,
    tree: Path,
    *,
    run_python: Callable[[Path, Path], None],
) -> None:
    try:
        run_python(patch, tree)
    except ProcessError as error:
        msg = (
            f"The patch {patch.name} failed on {_describe(fetched)}:\n{error.tail.rstrip()}\n"
            "Correct it for this version, or narrow its `versions` in the recipe."
        )
        raise PatchError(msg) from error


def _not_applicable(patch: Path, fetched: FetchedSource, said: str) -> PatchError:
    places = [
        f"  {file}, {_hunk(patch, file=file, line=int(line))}"
        for file, line in re.findall(r"^error: patch failed: (.+):(\d+)$", said, re.MULTILINE)
    ]
    errors = re.findall(
        r"^(?:error|fatal): (?!patch failed|while searching)(.+)$", said, re.MULTILINE
    )
    where = "\n".join([*places, *(f"  git says: {error}" for error in errors)])
    msg = (
        f"The patch {patch.name} does not apply to {_describe(fetched)}:\n{where}\n"
        "Make the patch anew for this version, or narrow its `versions` in the recipe."
    )
    return PatchError(msg)


def _hunk(patch: Path, *, file: str, line: int) -> str:
    """Return which hunk of ``file`` starts at ``line``: ``hunk 2 of 3 (@@ -12,7 +12,9 @@)``."""
    lines = patch.read_text(encoding="utf-8", errors="replace").splitlines()
    headers: list[str] = []
    in_file = False
    for text, following in itertools.pairwise(lines):
        if text.startswith("--- ") and following.startswith("+++ "):
            in_file = text.partition("\t")[0].partition("/")[2] == file
        elif in_file and text.startswith("@@ "):
            headers.append(text)
    for number, header in enumerate(headers, start=1):
        if re.match(rf"@@ -{line}[, ]", header):
            return f"hunk {number} of {len(headers)} ({header})"
    return f"the hunk at line {line}"


def _describe(fetched: FetchedSource) -> str:
    match fetched.source:
        case SdistSource(filename=filename) | UrlSource(filename=filename):
            return filename
        case GitSource(url=url, commit=commit):
            return f"{mask_url(url)} at {commit}"
        case FolderSource(path=path):
            return path
        case _ as never:
            assert_never(never)
