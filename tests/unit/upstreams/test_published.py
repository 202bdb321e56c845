"""Published indexes: whole ones are read, and no other makes anything look missing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from packaging.utils import canonicalize_name

from wheelyard.errors import FetchError
from wheelyard.network.session import open_session
from wheelyard.upstreams.published import IndexReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.upstreams.conftest import Answers

    from wheelyard.model.published import Published
    from wheelyard.network.opening import UserSettings

PROBE = canonicalize_name("probe")
OTHER = canonicalize_name("other")
FIRST = "probe-1.1+cu130.torch2.11.0-cp312-cp312-manylinux_2_28_x86_64.whl"
SECOND = "probe-1.1+cu130.torch2.11.0-1-cp313-cp313-manylinux_2_28_x86_64.whl"


def _page(*filenames: str, digest: str = "a") -> bytes:
    files = [
        {"filename": name, "hashes": {"sha256": digest * 64}, "url": f"../../wheels/{name}"}
        for name in filenames
    ]
    versions = ["1.1+cu130.torch2.11.0"]
    meta = {"api-version": "1.1"}
    page = {"files": files, "meta": meta, "name": "probe", "versions": versions}
    return json.dumps(page).encode()


def _root(*names: str) -> bytes:
    projects = [{"name": name} for name in names]
    return json.dumps({"meta": {"api-version": "1.1"}, "projects": projects}).encode()


def _html(*filenames: str) -> bytes:
    links = "".join(f'<a href="{name}#sha256={"b" * 64}">{name}</a>' for name in filenames)
    mark = '<meta name="pypi:repository-version" content="1.1">'
    return f"<html><head>{mark}</head><body>{links}</body></html>".encode()


@pytest.fixture
def whole(answers: Answers) -> Answers:
    """Serve an index of one project with two wheels."""
    answers.bodies["/simple/index.v1.json"] = _root("probe")
    answers.bodies["/simple/probe/index.v1.json"] = _page(FIRST, SECOND)
    return answers


@pytest.fixture
def read(answers: Answers, settings: UserSettings, tmp_path: Path) -> Callable[..., Published]:
    """Return a function that reads the index, remembering what it saw."""

    def read(*, trusting: bool = False, known: dict[str, str] | None = None) -> Published:
        with open_session(settings.indexes, settings.env) as session:
            reader = IndexReader(
                f"{answers.url}/simple",
                session=session,
                settings=settings.indexes,
                memory=tmp_path / "memory",
                trusting=trusting,
            )
            return reader.read([PROBE, OTHER], known=known or {})

    return read


def test_wheels_are_read_with_revision_and_digest(
    whole: Answers, read: Callable[..., Published]
) -> None:
    found = read()
    assert [(one.filename, one.revision) for one in found.wheels[PROBE]] == [
        (FIRST, 0),
        (SECOND, 1),
    ]
    assert {one.sha256 for one in found.wheels[PROBE]} == {"a" * 64}
    assert not found.unknown


def test_project_that_was_never_published_has_no_wheels(
    whole: Answers, read: Callable[..., Published]
) -> None:
    assert read().wheels[OTHER] == ()


def test_html_pages_serve_where_there_are_no_json_ones(
    answers: Answers, read: Callable[..., Published]
) -> None:
    answers.bodies["/simple/"] = _html("probe")
    answers.bodies["/simple/probe/"] = _html(FIRST)
    assert [one.filename for one in read().wheels[PROBE]] == [FIRST]


@pytest.mark.parametrize("status", [404, 500, 503, 403])
def test_dead_index_is_an_error(
    answers: Answers, read: Callable[..., Published], status: int
) -> None:
    answers.bodies["/simple/index.v1.json"] = status
    with pytest.raises(FetchError):
        read()


def test_index_that_is_not_there_yet_has_to_be_announced(
    answers: Answers, read: Callable[..., Published]
) -> None:
    with pytest.raises(FetchError, match="--trust-index"):
        read()
    assert read(trusting=True).wheels[PROBE] == ()


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(404, id="listed, but no page"),
        pytest.param(503, id="unavailable"),
        pytest.param(_page(FIRST, SECOND)[:-40], id="cut off"),
        pytest.param(_page(), id="versions without files"),
        pytest.param(b"<html>Sign in</html>", id="a sign-in page"),
        pytest.param(_page(FIRST).replace(b'"probe",', b'"other",', 1), id="of another project"),
        pytest.param(_page(FIRST).replace(b"sha256", b"md5"), id="no digests"),
    ],
)
def test_half_an_index_leaves_the_project_unknown(
    whole: Answers, read: Callable[..., Published], page: bytes | int
) -> None:
    whole.bodies["/simple/probe/index.v1.json"] = page
    found = read()
    assert PROBE not in found.wheels
    assert found.unknown[PROBE]


@pytest.mark.parametrize(
    "page",
    [b"<html>Sign in</html>", _html(FIRST).replace(b"</body></html>", b"")],
    ids=["sign in", "cut off"],
)
def test_html_page_that_is_none_leaves_the_project_unknown(
    whole: Answers, read: Callable[..., Published], page: bytes
) -> None:
    del whole.bodies["/simple/probe/index.v1.json"]
    whole.bodies["/simple/probe/"] = page
    assert read().unknown[PROBE]


def test_index_that_lost_wheels_is_not_believed_and_not_forgotten(
    whole: Answers, read: Callable[..., Published]
) -> None:
    read()
    whole.bodies["/simple/probe/index.v1.json"] = _page(FIRST)
    for _ in range(2):
        assert "has lost 1 of 2 wheels" in read().unknown[PROBE]
    assert len(read(trusting=True).wheels[PROBE]) == 1
    assert not read().unknown


def test_project_that_vanished_from_an_index_is_not_believed(
    whole: Answers, read: Callable[..., Published]
) -> None:
    read()
    del whole.bodies["/simple/probe/index.v1.json"]
    whole.bodies["/simple/index.v1.json"] = _root()
    assert "has lost 2 of 2 wheels" in read().unknown[PROBE]


def test_lying_index_with_other_bytes_is_not_believed_even_when_trusted(
    whole: Answers, read: Callable[..., Published]
) -> None:
    read()
    whole.bodies["/simple/probe/index.v1.json"] = _page(FIRST, SECOND, digest="b")
    assert "this page is not believed" in read(trusting=True).unknown[PROBE]


def test_index_with_other_bytes_than_the_yard_has_is_not_believed(
    whole: Answers, read: Callable[..., Published]
) -> None:
    found = read(known={FIRST: "c" * 64})
    assert f"it was {'c' * 64}" in found.unknown[PROBE]
