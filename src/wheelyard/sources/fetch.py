"""The fetch stage: a pinned source becomes bytes on this machine."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from wheelyard.errors import FetchError
from wheelyard.files import disk_errors, file_sha256, sweep_parts
from wheelyard.locking import held
from wheelyard.model.source import FolderSource, GitSource, SdistSource, UrlSource
from wheelyard.network.download import download_sdist, download_url
from wheelyard.network.git import fetch_commit, repository_name
from wheelyard.progress import QUIET
from wheelyard.sources.tree import folder_files, tree_digest
from wheelyard.sources.values import FetchedSource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wheelyard.model.source import Source
    from wheelyard.network.indexes import IndexSettings
    from wheelyard.progress import Transfers

logger = logging.getLogger(__name__)


def fetch_source(
    source: Source,
    *,
    cache: Path,
    farm: Path,
    settings: IndexSettings,
    env: Mapping[str, str],
    transfers: Transfers = QUIET,
) -> FetchedSource:
    """Bring ``source`` here, or find it in the cache; its bytes are checked either way."""
    match source:
        case SdistSource() | UrlSource():
            path = sdist_path(source, cache)
            _fetch_file(source, path, settings=settings, env=env, transfers=transfers)
            return FetchedSource(source=source, path=path, digest=f"sha256:{source.sha256}")
        case GitSource():
            repository = cache / "sources" / "git" / repository_name(source.url)
            fetch_commit(
                source,
                repository=repository,
                env=env,
                settings=settings,
                transfers=transfers,
            )
            return FetchedSource(source=source, path=repository, digest=f"git:{source.commit}")
        case FolderSource():
            folder = _farm_folder(source, farm)
            digest = tree_digest(folder, folder_files(folder))
            return FetchedSource(source=source, path=folder, digest=digest)
        case _:
            assert_never(source)


def sdist_path(source: SdistSource | UrlSource, cache: Path) -> Path:
    """Return where the cache has the file: a folder named by the digest, the file by its name."""
    if Path(source.filename).name != source.filename:
        msg = f"{source.filename!r} is no file name. Correct `filename` in the recipe."
        raise FetchError(msg)
    return cache / "sources" / "sha256" / source.sha256 / source.filename


def _fetch_file(
    source: SdistSource | UrlSource,
    path: Path,
    *,
    settings: IndexSettings,
    env: Mapping[str, str],
    transfers: Transfers,
) -> None:
    if _is_right(source, path):
        return
    with held(path.parent / ".lock"):
        if _is_right(source, path):  # another process brought it while this one waited
            return
        with disk_errors(path):
            sweep_parts(path.parent)
        if path.exists():
            logger.warning("%s is damaged; fetching it again", path)
        if isinstance(source, UrlSource):
            download_url(source, destination=path, settings=settings, env=env, transfers=transfers)
        else:
            download_sdist(
                source, destination=path, settings=settings, env=env, transfers=transfers
            )


def _is_right(source: SdistSource | UrlSource, path: Path) -> bool:
    with disk_errors(path):
        return path.is_file() and file_sha256(path) == source.sha256


def _farm_folder(source: FolderSource, farm: Path) -> Path:
    """Return the folder that ``path`` means, which starts from where the recipes lie."""
    folder = (farm / "recipes" / source.path).resolve()
    if not folder.is_relative_to(farm.resolve()):
        msg = f"The source folder {source.path!r} is outside the farm {farm}. Correct the recipe."
        raise FetchError(msg)
    if not folder.is_dir():
        msg = f"There is no source folder {folder} ({source.path!r} in the recipe). Correct it."
        raise FetchError(msg)
    return folder
