"""Every wheel that one index lists."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from wheelyard.errors import FetchError
from wheelyard.network.foreign import OTHER_FORM
from wheelyard.network.masking import mask_url
from wheelyard.network.wheel_index import IndexWheel, list_wheels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wheelyard.network.indexes import IndexSettings


def list_index(
    url: str, *, settings: IndexSettings, env: Mapping[str, str]
) -> tuple[IndexWheel, ...]:
    """Return the wheels of all projects of an index, or of the project whose page it is."""
    # Imported here: requests and pypi-simple take 0.4 s, and files need neither.
    from pypi_simple import PyPISimple, UnsupportedRepoVersionError  # noqa: PLC0415
    from requests import RequestException  # noqa: PLC0415

    from wheelyard.network.session import TIMEOUT, open_session  # noqa: PLC0415

    root, _, last = url.rstrip("/").rpartition("/")
    with open_session(settings, env) as session:
        try:
            page = PyPISimple(url, session=session).get_index_page(timeout=TIMEOUT)
        except (RequestException, UnsupportedRepoVersionError, *OTHER_FORM) as error:
            msg = f"{mask_url(url)} is no index: {' '.join(str(error).split())[:300]}"
            raise FetchError(msg) from error
        # A project's page looks like an index whose projects are called as files are.
        is_project = any(name.endswith((".whl", ".tar.gz", ".zip")) for name in page.projects)
        names, place = ([last], root) if is_project else (page.projects, url)
        only = dataclasses.replace(settings, index_url=place, extra_index_urls=(), find_links=())
        return tuple(
            wheel
            for name in names
            for wheel in list_wheels(name, settings=only, session=session)
            if not wheel.yanked
        )
