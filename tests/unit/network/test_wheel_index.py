"""Wheels are listed from indexes, pages and folders, in the user's order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import FetchError
from wheelyard.network.indexes import IndexSettings
from wheelyard.network.session import open_session
from wheelyard.network.wheel_index import list_wheels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import requests

PAGE = (
    '<a href="/files/demo-1.0-py3-none-any.whl#sha256={}">demo-1.0-py3-none-any.whl</a>'
    '<a href="/files/demo-2.0-2-cp312-cp312-manylinux_2_28_x86_64.whl" data-yanked="bad">'
    "demo-2.0-2-cp312-cp312-manylinux_2_28_x86_64.whl</a>"
    '<a href="/files/demo-1.0.tar.gz">demo-1.0.tar.gz</a>'
    '<a href="/files/demo-x-py3-none-any.whl">demo-x-py3-none-any.whl</a>'
    '<a href="/files/other-1.0-py3-none-any.whl">other-1.0-py3-none-any.whl</a>'
).format("ab" * 32)


@pytest.fixture
def session(env: dict[str, str]) -> Iterator[requests.Session]:
    with open_session(IndexSettings(), env) as opened:
        yield opened


def test_wheels_of_an_index_come_with_what_it_says(
    server: object, session: requests.Session
) -> None:
    server.answer("/simple/demo/", PAGE, content_type="text/html")  # type: ignore[attr-defined]
    url = server.url  # type: ignore[attr-defined]
    settings = IndexSettings(index_url=f"{url}/simple/")
    first, second = list_wheels("demo", settings=settings, session=session)
    assert (first.filename, first.sha256) == ("demo-1.0-py3-none-any.whl", "ab" * 32)
    assert first.url == f"{url}/files/demo-1.0-py3-none-any.whl"
    assert not first.yanked
    assert (str(second.version), second.build, second.sha256) == ("2.0", (2, ""), None)
    assert second.yanked
    assert {tag.platform for tag in second.tags} == {"manylinux_2_28_x86_64"}


def test_folders_and_pages_and_indexes_in_files_are_read_too(
    session: requests.Session, tmp_path: Path, make_wheel: Callable[..., Path], server: object
) -> None:
    folder = make_wheel(name="demo", version="3.0").parent
    page = tmp_path / "index" / "demo" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text('<a href="demo-4.0-py3-none-any.whl">demo-4.0-py3-none-any.whl</a>')
    server.answer("/links", PAGE, content_type="text/html")  # type: ignore[attr-defined]
    settings = IndexSettings(
        index_url=(tmp_path / "index").as_uri(),
        find_links=(str(folder), f"{server.url}/links"),  # type: ignore[attr-defined]
    )
    found = list_wheels("demo", settings=settings, session=session)
    assert [str(wheel.version) for wheel in found] == ["3.0", "1.0", "2.0", "4.0"]
    assert found[0].path == folder / "demo-3.0-py3-none-any.whl"
    assert found[3].path == page.parent / "demo-4.0-py3-none-any.whl"
    assert found[1].path is None


def test_same_file_is_taken_from_the_first_place(
    session: requests.Session, make_wheel: Callable[..., Path], server: object
) -> None:
    folder = make_wheel(name="demo", version="1.0").parent
    server.answer("/simple/demo/", PAGE, content_type="text/html")  # type: ignore[attr-defined]
    settings = IndexSettings(
        index_url=f"{server.url}/simple/",  # type: ignore[attr-defined]
        find_links=(str(folder),),
    )
    found = list_wheels("demo", settings=settings, session=session)
    assert [wheel.path is None for wheel in found] == [False, True]


def test_place_that_fails_is_told_only_if_nobody_has_any(
    session: requests.Session, make_wheel: Callable[..., Path], server: object
) -> None:
    url = f"{server.url.replace('://', '://me:secret@')}/simple/"  # type: ignore[attr-defined]
    server.answer("/simple/demo/", status=403)  # type: ignore[attr-defined]
    folder = make_wheel(name="demo").parent
    both = IndexSettings(index_url=url, find_links=(str(folder),))
    assert len(list_wheels("demo", settings=both, session=session)) == 1
    with pytest.raises(FetchError, match=r"No wheels of 'demo'.*\n.*\*\*\*@.*403") as caught:
        list_wheels("demo", settings=IndexSettings(index_url=url), session=session)
    assert "secret" not in str(caught.value)


def test_nothing_is_asked_offline(session: requests.Session, server: object) -> None:
    settings = IndexSettings(index_url=f"{server.url}/simple/", offline=True)  # type: ignore[attr-defined]
    with pytest.raises(FetchError, match=r"not asked \(offline\)"):
        list_wheels("demo", settings=settings, session=session)
    assert not server.asked  # type: ignore[attr-defined]


def test_settings_that_name_no_place_say_so(session: requests.Session) -> None:
    with pytest.raises(FetchError, match="nothing: the settings name no index"):
        list_wheels("demo", settings=IndexSettings(no_index=True), session=session)
