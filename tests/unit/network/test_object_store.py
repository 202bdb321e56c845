"""Objects in a folder and in a real S3-compatible server, which have to behave alike."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, NamedTuple

import pytest

from wheelyard.errors import IntegrityError, TargetError, UsageError
from wheelyard.network import s3_store
from wheelyard.network.indexes import IndexSettings
from wheelyard.network.object_store import ObjectHeaders
from wheelyard.network.open_store import open_object_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from wheelyard.network.object_store import ObjectStore


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return open_object_store(str(tmp_path / "store"), settings=IndexSettings(), env={})
    env = request.getfixturevalue("s3_env")
    return open_object_store("s3://wheels/a/prefix", settings=IndexSettings(), env=env)


class Source(NamedTuple):
    """A file to put."""

    path: Path
    sha256: str


@pytest.fixture
def source(tmp_path: Path) -> Callable[[bytes], Source]:
    def write(content: bytes) -> Source:
        sha256 = hashlib.sha256(content).hexdigest()
        path = tmp_path / sha256
        path.write_bytes(content)
        return Source(path, sha256)

    return write


def test_what_is_put_is_listed_and_comes_back(
    store: ObjectStore, source: Callable[[bytes], Source], tmp_path: Path
) -> None:
    one = source(b"a wheel")
    key = "wheels/demo-1.0+cu130.whl"
    assert store.put(key, one.path, sha256=one.sha256)
    [found] = store.objects()
    assert (found.key, found.size) == (key, 7)
    assert store.head(key) is not None
    got = store.get(key, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"a wheel"
    assert got.sha256 == one.sha256
    assert store.read(key) == b"a wheel"


def test_the_same_bytes_need_not_be_put_again(
    store: ObjectStore, source: Callable[[bytes], Source]
) -> None:
    one = source(b"a wheel")
    assert store.put("key", one.path, sha256=one.sha256)
    assert not store.put("key", one.path, sha256=one.sha256)


def test_other_bytes_under_the_key_are_refused_with_both_digests(
    store: ObjectStore, source: Callable[[bytes], Source]
) -> None:
    one, two = source(b"one"), source(b"two")
    store.put("key", one.path, sha256=one.sha256)
    with pytest.raises(TargetError, match=f"(?s){one.sha256}.*{two.sha256}.*revision"):
        store.put("key", two.path, sha256=two.sha256)
    assert store.read("key") == b"one"
    assert store.put("key", two.path, sha256=two.sha256, replace=True)
    assert store.read("key") == b"two"


def test_a_file_that_is_not_what_is_said_is_not_put(
    store: ObjectStore, source: Callable[[bytes], Source]
) -> None:
    one = source(b"one")
    with pytest.raises(IntegrityError, match="Make it again"):
        store.put("key", one.path, sha256="0" * 64)
    assert list(store.objects()) == []


def test_listing_is_by_prefix_and_by_key(store: ObjectStore) -> None:
    for key in ("b/2", "a/1", "b/10", "bc"):
        store.write(key, key.encode())
    assert [found.key for found in store.objects("b/")] == ["b/10", "b/2"]
    assert [found.key for found in store.objects("b")] == ["b/10", "b/2", "bc"]
    assert list(store.objects("c/")) == []


def test_a_small_object_takes_the_place_of_another_and_can_go(store: ObjectStore) -> None:
    assert store.read("index.html") is None
    assert store.head("index.html") is None
    store.write("index.html", b"old")
    store.write("index.html", b"new")
    assert store.read("index.html") == b"new"
    store.remove("index.html")
    store.remove("index.html")
    assert store.read("index.html") is None


def test_what_is_not_there_is_an_error_to_get(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="no 'gone' in"):
        store.get("gone", tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("key", ["../up", "/root", "a//b", "a/../b", "a\\b", ""])
def test_a_key_cannot_lead_out_of_the_store(store: ObjectStore, key: str) -> None:
    with pytest.raises(ValueError, match="no key"):
        store.write(key, b"")


@pytest.fixture
def s3(s3_env: Mapping[str, str]) -> s3_store.S3Store:
    store = open_object_store("s3://wheels/a/prefix", settings=IndexSettings(), env=s3_env)
    assert isinstance(store, s3_store.S3Store)
    return store


def test_a_bucket_keeps_how_an_object_is_handed_out(
    s3: s3_store.S3Store, source: Callable[[bytes], Source]
) -> None:
    one = source(b"one")
    headers = ObjectHeaders(content_type="application/zip", cache_control="max-age=9, immutable")
    s3.put("key", one.path, sha256=one.sha256, headers=headers)
    found = s3._client.head_object(Bucket="wheels", Key="a/prefix/key")
    assert found["ContentType"] == "application/zip"
    assert found["CacheControl"] == "max-age=9, immutable"


def test_an_object_that_others_put_is_digested(s3: s3_store.S3Store) -> None:
    s3._client.put_object(Bucket="wheels", Key="a/prefix/key", Body=b"one")
    found = s3.head("key")
    assert found is not None
    assert found.sha256 == hashlib.sha256(b"one").hexdigest()


SMALL_PARTS = 5 << 20
"""The least that S3 takes."""


def test_a_killed_upload_goes_on_with_the_parts_that_arrived(
    s3: s3_store.S3Store, source: Callable[[bytes], Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_store, "PART_SIZE", SMALL_PARTS)
    one = source(os.urandom(4 * SMALL_PARTS + 5))
    sent: list[int] = []
    upload_part = s3._client.upload_part

    def cut(**arguments: object) -> object:
        number = arguments["PartNumber"]
        assert isinstance(number, int)
        if number > 2 and sent.count(number) == 0:
            sent.append(number)
            raise KeyboardInterrupt
        sent.append(number)
        return upload_part(**arguments)

    monkeypatch.setattr(s3._client, "upload_part", cut)
    with pytest.raises(KeyboardInterrupt):
        s3.put("key", one.path, sha256=one.sha256)
    assert list(s3.objects()) == []
    sent[:] = [3, 4, 5]
    assert s3.put("key", one.path, sha256=one.sha256)
    assert sorted(sent) == [3, 3, 4, 4, 5, 5]
    found = s3.head("key")
    assert found is not None
    assert found.sha256 == one.sha256
    assert s3.read("key") == one.path.read_bytes()


def test_parts_of_another_file_are_thrown_away(
    s3: s3_store.S3Store, source: Callable[[bytes], Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_store, "PART_SIZE", SMALL_PARTS)
    place = {"Bucket": "wheels", "Key": "a/prefix/key"}
    begun = s3._client.create_multipart_upload(**place)["UploadId"]
    s3._client.upload_part(**place, UploadId=begun, PartNumber=1, Body=bytes(SMALL_PARTS))
    one = source(os.urandom(3 * SMALL_PARTS))
    s3.put("key", one.path, sha256=one.sha256)
    assert s3.read("key") == one.path.read_bytes()
    assert "Uploads" not in s3._client.list_multipart_uploads(Bucket="wheels")


def test_a_body_that_is_cut_off_is_asked_for_from_there(
    s3: s3_store.S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.exceptions import IncompleteReadError  # noqa: PLC0415

    content = os.urandom(3 << 20)
    s3.write("key", content)
    asked: list[object] = []
    get_object = s3._client.get_object

    class Cut:
        def __init__(self, body: object) -> None:
            self._body = body

        def iter_chunks(self, size: int) -> Iterator[bytes]:
            yield next(self._body.iter_chunks(size))  # type: ignore[attr-defined]
            raise IncompleteReadError(actual_bytes=1, expected_bytes=2)

    def cut(**arguments: object) -> dict[str, object]:
        asked.append(arguments.get("Range"))
        answer: dict[str, object] = get_object(**arguments)
        return answer if len(asked) > 2 else {**answer, "Body": Cut(answer["Body"])}

    monkeypatch.setattr(s3._client, "get_object", cut)
    s3.get("key", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content
    assert asked == [None, f"bytes={1 << 20}-", f"bytes={2 << 20}-"]


def test_a_bucket_that_is_not_there_is_said(s3_env: Mapping[str, str]) -> None:
    store = open_object_store("s3://nowhere", settings=IndexSettings(), env=s3_env)
    with pytest.raises(TargetError, match=r"s3://nowhere refuses: NoSuchBucket.*Make the bucket"):
        list(store.objects())


def test_missing_credentials_are_said(s3_env: Mapping[str, str]) -> None:
    env = {key: value for key, value in s3_env.items() if "KEY" not in key}
    store = open_object_store("s3://wheels", settings=IndexSettings(), env=env)
    with pytest.raises(TargetError, match=r"credentials.*Set AWS_ACCESS_KEY_ID"):
        list(store.objects())


def test_no_bucket_is_named_by_other_words() -> None:
    with pytest.raises(UsageError, match="Write s3://BUCKET"):
        open_object_store("s3:/wheels", settings=IndexSettings(), env={})
