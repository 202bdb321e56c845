"""Indexes, manifests and releases that lie: never believed, never a traceback."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest
from packaging.utils import canonicalize_name
from unit.upstreams.conftest import Answers, answers, settings
from unit.upstreams.test_releases import BASE, RELEASES

from wheelyard.errors import WheelyardError
from wheelyard.model.index_entry import read_entry
from wheelyard.model.redistributables import read_manifest, redist_lock_request
from wheelyard.network.folder_store import FolderStore
from wheelyard.network.session import open_session
from wheelyard.network.wheel_index import list_wheels
from wheelyard.shipping.site import read_site
from wheelyard.upstreams.published import IndexReader
from wheelyard.upstreams.releases import ReleaseReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hostile.conftest import Tally

    from wheelyard.model.job import Job
    from wheelyard.network.opening import UserSettings

__all__ = ["answers", "settings"]

DEMO = canonicalize_name("demo")
NINES = b"9" * 5000
DEEP = b"[" * 100_000
META = {"meta": {"api-version": "1.0"}}
FILE = {"filename": "demo-1.0-py3-none-any.whl", "url": "a.whl", "hashes": {"sha256": "a" * 64}}
NUMBERS = ".".join(map(str, range(100)))
MARK = b'<meta name="pypi:repository-version" content="1.0">'


def _page(*files: object, **more: object) -> bytes:
    return json.dumps({**META, "name": "demo", "files": files, **more}).encode()


PROJECTS = {
    "nested without end": b'{"meta": {"api-version": "1.0"}, "projects": ' + DEEP,
    "a number of 5000 digits": b'{"meta": {"api-version": "1.0"}, "projects": ' + NINES + b"}",
    "names that are numbers": json.dumps({**META, "projects": [{"name": 5}]}).encode(),
    "another version": b'{"meta": {"api-version": "9.0"}, "projects": []}',
    "no text": b"\xff\xfe\x00{",
    "a list": b"[]",
    "HTML": b"<!DOCTYPE html><title>Sign in</title>",
}
PAGES = {
    "URL that is none": _page({**FILE, "url": "http://[::1/x"}),
    "URL that is a number": _page({**FILE, "url": 5}),
    "name that is a number": _page({**FILE, "filename": 5}),
    "digest that is a number": _page({**FILE, "hashes": {"sha256": 5}}),
    "no digest": _page({**FILE, "hashes": {}}),
    "page of nobody": _page(FILE, name=None),
    "page of another": _page(FILE, name="other"),
    "version that no file has": _page(FILE, versions=["2.0"]),
    "versions that are tables": _page(FILE, versions=[{}]),
    "files that are none": _page("x"),
    "a number of 5000 digits": _page(FILE).replace(b'"files"', b'"x": ' + NINES + b', "files"'),
    "nested without end": b'{"meta": {"api-version": "1.0"}, "files": ' + DEEP,
    "other bytes under a known name": _page({**FILE, "hashes": {"sha256": "b" * 64}}),
}
BORNE = {
    "version of 5000 digits": f"demo-1.{NINES.decode()}-py3-none-any.whl",
    "build of 5000 digits": f"demo-1.0-{NINES.decode()}-py3-none-any.whl",
    "a million tags": f"demo-1.0-{NUMBERS}-{NUMBERS}-{NUMBERS}.whl",
    "path": "../../demo-1.0-py3-none-any.whl",
    "another project": "other-1.0-py3-none-any.whl",
    "escape": "demo-\x1b[2J-py3-none-any.whl",
}
HTML = {
    "another version": MARK.replace(b"1.0", b"9.0") + b"</html>",
    "version that is none": MARK.replace(b"1.0", b"x.y") + b"</html>",
    "URL that is none": MARK
    + b'<a href="http://[x/a.whl#sha256=x">demo-1.0-py3-none-any.whl</a></html>',
    "nested without end": MARK + b"<div>" * 100_000 + b"</html>",
    "no end": MARK + b"<a>",
    "no mark": b"<html></html>",
}


@pytest.fixture
def read(answers: Answers, settings: UserSettings, tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Return a function that reads demo off the index, and why it is not known if so."""

    def reading(known: dict[str, str] | None = None) -> dict[str, str]:
        with open_session(settings.indexes, settings.env) as session:
            reader = IndexReader(
                f"{answers.url}/simple/",
                session=session,
                settings=settings.indexes,
                memory=tmp_path / "memory",
            )
            found = reader.read([DEMO], known=known or {})
        assert not any("\x1b" in text for text in found.unknown.values())
        return dict(found.unknown)

    return reading


@pytest.mark.parametrize("body", [pytest.param(value, id=key) for key, value in PROJECTS.items()])
def test_list_of_projects_that_is_none_is_refused(
    answers: Answers, read: Callable[..., dict[str, str]], body: bytes, tally: Tally
) -> None:
    answers.bodies["/simple/index.v1.json"] = body
    tally.refuses(read, answers.url)


@pytest.mark.parametrize("body", [pytest.param(value, id=key) for key, value in PAGES.items()])
def test_page_of_a_project_that_lies_is_not_believed(
    answers: Answers, read: Callable[..., dict[str, str]], body: bytes, tally: Tally
) -> None:
    answers.bodies["/simple/index.v1.json"] = json.dumps(
        {**META, "projects": [{"name": "demo"}]}
    ).encode()
    answers.bodies["/simple/demo/index.v1.json"] = body
    unknown = tally.meets(lambda: read({FILE["filename"]: "a" * 64}))  # type: ignore[dict-item]
    assert list(unknown) == ["demo"]  # type: ignore[call-overload]


@pytest.mark.parametrize("body", [pytest.param(value, id=key) for key, value in HTML.items()])
def test_page_in_html_that_lies_is_not_believed(
    answers: Answers, read: Callable[..., dict[str, str]], body: bytes, tally: Tally
) -> None:
    answers.bodies["/simple/"] = MARK + b'<a href="demo/">demo</a></html>'
    answers.bodies["/simple/demo/"] = body
    unknown = tally.meets(read)
    assert list(unknown) == ["demo"]  # type: ignore[call-overload]
    if b"href" not in body:  # where links lead does not matter in a list of projects
        answers.bodies["/simple/"] = body
        tally.refuses(read, answers.url)


@pytest.mark.parametrize("name", [pytest.param(value, id=key) for key, value in BORNE.items()])
def test_file_with_a_name_that_no_wheel_has_is_no_wheel(
    answers: Answers, read: Callable[..., dict[str, str]], name: str, tally: Tally
) -> None:
    answers.bodies["/simple/index.v1.json"] = json.dumps({**META, "projects": []}).encode()
    answers.bodies["/simple/demo/index.v1.json"] = _page({**FILE, "filename": name})
    assert tally.meets(read) == {}


@pytest.mark.parametrize(
    "body",
    [
        *(pytest.param(value, id=key) for key, value in HTML.items()),
        pytest.param(DEEP, id="nested"),
        pytest.param(b"\x00" * 1000, id="zeros"),
        pytest.param(
            f'<a href="x.whl">demo-1.0-{NUMBERS}-{NUMBERS}-{NUMBERS}.whl</a>'.encode(), id="tags"
        ),
    ],
)
def test_index_of_the_user_that_lies_has_no_wheels(
    answers: Answers, settings: UserSettings, body: bytes, tally: Tally
) -> None:
    answers.bodies["/simple/demo/"] = body
    indexes = dataclasses.replace(
        settings.indexes, index_url=f"{answers.url}/simple/", extra_index_urls=(), find_links=()
    )
    with open_session(indexes, settings.env) as session:
        tally.refuses(lambda: list_wheels("demo", settings=indexes, session=session), answers.url)


@pytest.mark.parametrize(
    ("release", "assets"),
    [
        (b'{"id": "x"}', b"[]"),
        (b'{"id": 1e999}', b"[]"),
        (b'{"id": ' + NINES + b"}", b"[]"),
        (b'{"id": null}', b"[]"),
        (b'{"id": ' + DEEP, b"[]"),
        (b'{"id": 1}', b"[5]"),
        (b'{"id": 1}', b'["x"]'),
        (b'{"id": 1}', DEEP),
        (b'{"id": 1}', b'{"message": "rate limit"}'),
        (b'{"id": 1}', b'[{"name": "ASSET", "size": "x"}]'),
        (b'{"id": 1}', b'[{"name": "ASSET", "size": {}}]'),
        (b'{"id": 1}', b'[{"name": "ASSET", "size": 1e999}]'),
    ],
)
def test_release_that_lies_is_not_known(
    answers: Answers,
    settings: UserSettings,
    make_probe_job: Callable[..., Job],
    release: bytes,
    assets: bytes,
    tally: Tally,
) -> None:
    name = b"probe-1.1+cu130torch2.11cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
    answers.bodies[f"{BASE}/tags/v1.1"] = release
    answers.bodies[f"{BASE}/1/assets?per_page=100&page=1"] = assets.replace(b"ASSET", name)
    version = dataclasses.replace(make_probe_job().version, releases=RELEASES)
    with open_session(settings.indexes, settings.env) as session:
        reader = ReleaseReader(session=session, settings=settings.indexes, env=settings.env)
        found = tally.meets(lambda: reader.read(version))
    assert found.unknown  # type: ignore[union-attr]
    assert not found.assets  # type: ignore[union-attr]


def _manifest(**changes: object) -> bytes:
    names = ("cuda_cccl", "cuda_cudart", "cuda_nvcc", "cuda_profiler_api")
    entry = {
        name: {
            "version": "12.4.1",
            "linux-x86_64": {
                "relative_path": f"{name}/linux-x86_64/{name}-linux-x86_64-12.tar.xz",
                "sha256": "a" * 64,
                "size": "10",
            },
        }
        for name in names
    }
    archive = entry["cuda_nvcc"]["linux-x86_64"]
    for key, value in changes.items():
        if key in archive:
            archive[key] = value  # type: ignore[index]
        else:
            entry["cuda_nvcc"][key] = value  # type: ignore[assignment]
    return json.dumps({"release_label": "12.4.1", **entry}).encode()


@pytest.mark.parametrize(
    "content",
    [
        *(
            pytest.param(_manifest(relative_path=path), id=path[:40])
            for path in (
                "../cuda_nvcc-linux-x86_64.tar.xz",
                "cuda_nvcc/linux-x86_64/../../linux-x86_64.tar.xz",
                "/etc/linux-x86_64.tar.xz",
                "cuda_cccl/linux-x86_64/cuda_cccl-linux-x86_64.tar.xz",
                "cuda_nvcc/linux-x86_64/cuda_nvcc-linux-x86_64.tar.xz\n",
                "https://example.org/linux-x86_64.tar.xz",
            )
        ),
        pytest.param(_manifest(size="-1"), id="negative"),
        pytest.param(_manifest(size=NINES.decode()), id="size-of-5000-digits"),
        pytest.param(_manifest(size="1e30"), id="size-beyond-all"),
        pytest.param(_manifest(sha256="A" * 64), id="digest-in-capitals"),
        pytest.param(_manifest(version="../../x"), id="version-that-climbs"),
        pytest.param(_manifest(version=None), id="no-version"),
        pytest.param(_manifest(version="11.0.1"), id="another-cuda"),
        pytest.param(b'{"a": ' + DEEP, id="nested-without-end"),
        pytest.param(b'{"\xff": 1}', id="no-text"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"<html>", id="html"),
    ],
)
def test_manifest_that_lies_is_refused(content: bytes, tally: Tally) -> None:
    request = redist_lock_request("12.4.1")
    tally.refuses(lambda: read_manifest(content, request, sha256="a" * 64, origin="o"), "o ")


@pytest.mark.parametrize("text", [b"", b"[]", DEEP, b'{"format": 9}', b'{"entries": [1]}'])
def test_published_state_that_is_none_is_refused(tmp_path: Path, text: bytes, tally: Tally) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "wheelyard.json").write_bytes(text)
    tally.refuses(lambda: read_site(FolderStore(tmp_path / "site")))


@pytest.mark.parametrize("text", [b"", b"[]", DEEP, b'{"\xff": 1}', b"null"])
def test_record_that_is_none_is_refused(text: bytes, tally: Tally) -> None:
    tally.refuses(lambda: read_entry(text, origin="o"))


def test_error_of_ours_is_one(tally: Tally) -> None:
    def fail() -> None:
        msg = "what is wrong, where, and what to do next"
        raise WheelyardError(msg)

    tally.refuses(fail, "where")
