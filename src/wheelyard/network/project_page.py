"""The page of a distribution on an index, which may lie in a folder of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from wheelyard.errors import FetchError
from wheelyard.network.foreign import OTHER_FORM, shallow

if TYPE_CHECKING:
    import requests
    from pypi_simple import DistributionPackage, ProjectPage


def local_path(url: str) -> Path | None:
    """Return the path of a local place, for example ``/opt/wheels`` or ``file:///opt/simple``."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return Path(url) if not parts.scheme else None


def list_files(
    place: str, name: str, *, session: requests.Session, is_page: bool = False
) -> tuple[DistributionPackage, ...] | None:
    """Return the files of ``name`` that an index has, or that a page with links names.

    ``None`` where the index has no such project; ``FetchError`` where it does not answer, or with
    something else than a page. URLs may hold credentials.
    """
    from pypi_simple import NoSuchProjectError, UnsupportedRepoVersionError  # noqa: PLC0415 - 0.4 s
    from requests import RequestException  # noqa: PLC0415

    try:
        return tuple(_read(place, name, session, is_page=is_page).packages)
    except (NoSuchProjectError, FileNotFoundError):
        return None
    except (RequestException, OSError, UnsupportedRepoVersionError, *OTHER_FORM) as error:
        msg = f"no project page ({' '.join(str(error).split())[:300] or type(error).__name__})"
        raise FetchError(msg) from error


def _read(place: str, name: str, session: requests.Session, *, is_page: bool) -> ProjectPage:
    from pypi_simple import ProjectPage, PyPISimple  # noqa: PLC0415 - takes 0.4 s

    from wheelyard.network.session import TIMEOUT  # noqa: PLC0415

    path = local_path(place)
    if path is not None:
        page = path if path.is_file() else path / name / "index.html"
        return ProjectPage.from_html(name, shallow(page.read_bytes()), base_url=page.as_uri())
    if is_page:
        response = session.get(place, timeout=TIMEOUT)
        response.raise_for_status()
        return ProjectPage.from_html(name, shallow(response.content), base_url=place)
    return PyPISimple(place, session=session).get_project_page(name, timeout=TIMEOUT)
