"""Publishing into a real S3-compatible server: killed between any two operations, whole after."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from wheelyard.network.indexes import IndexSettings
from wheelyard.network.open_store import open_object_store
from wheelyard.shipping.publish import Publisher, Wishes
from wheelyard.shipping.shelf import StoreShelf
from wheelyard.yard.store import store_wheel
from wheelyard.yard.verifying import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.yards import Made

    from wheelyard.network.object_store import ObjectHeaders, ObjectStore, StoredObject
    from wheelyard.yard.folder import Yard

PLACE = "s3://wheels/stable"


class MortalStore:
    """A store whose user dies at its n-th change: before it, or right after it."""

    keys_end_in_slashes = True

    def __init__(self, store: ObjectStore, *, dies_at: int) -> None:
        self._store = store
        self._dies_at = dies_at
        self._changes = 0
        self.name = store.name

    def _step(self) -> None:
        self._changes += 1
        if self._changes == self._dies_at:
            os._exit(9)

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        return self._store.objects(prefix)

    def head(self, key: str) -> StoredObject | None:
        return self._store.head(key)

    def read(self, key: str) -> bytes | None:
        return self._store.read(key)

    def get(self, key: str, destination: Path) -> StoredObject:
        return self._store.get(key, destination)

    def put(
        self,
        key: str,
        source: Path,
        *,
        sha256: str,
        headers: ObjectHeaders,
        replace: bool = False,
    ) -> bool:
        self._step()
        brought = self._store.put(key, source, sha256=sha256, headers=headers, replace=replace)
        self._step()
        return brought

    def write(self, key: str, content: bytes, *, headers: ObjectHeaders) -> None:
        self._step()
        self._store.write(key, content, headers=headers)
        self._step()

    def remove(self, key: str) -> None:
        self._step()
        self._store.remove(key)


def publish(yard: Yard, store: ObjectStore) -> None:
    there = Publisher(store=store, shelf=StoreShelf(store), extra_pages=lambda _site: {})
    there.publish(there.plan(yard, Wishes()), say=lambda _text: None)


@pytest.fixture
def store(s3_env: Mapping[str, str]) -> ObjectStore:
    return open_object_store(PLACE, settings=IndexSettings(), env=s3_env)


@pytest.fixture
def yard_with_wheels(yard: Yard, make: Callable[..., Made]) -> Yard:
    for made in (make(), make(torch="2.12.1+cu130"), make(name="another")):
        store_wheel(yard, made.path, made.record, made.report)
    return yard


def brought_back(store: ObjectStore, folder: Path) -> dict[str, bytes]:
    """Copy everything to a folder, to be verified there; folders' own pages are left out."""
    found = {}
    for item in store.objects():
        content = store.read(item.key)
        assert content is not None
        found[item.key] = content
        if not item.key.endswith("/"):
            path = folder / item.key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return found


def test_killed_at_any_change_the_index_is_never_ahead_and_the_next_run_completes(
    yard_with_wheels: Yard, store: ObjectStore, s3_env: Mapping[str, str], tmp_path: Path
) -> None:
    publish(yard_with_wheels, store)
    whole = brought_back(store, tmp_path / "whole")
    assert verify(tmp_path / "whole").problems == ()
    killed, number = 0, 1
    while True:
        for key in whole:
            store.remove(key)
        code = subprocess.run(
            [sys.executable, "-c", _PUBLISH, str(yard_with_wheels.path), str(number)],
            env={**os.environ, **s3_env, "PYTHONPATH": str(Path(__file__).parent)},
            check=False,
        ).returncode
        if code == 0:
            break
        assert code == 9
        killed += 1
        folder = tmp_path / f"killed{number}"
        folder.mkdir()
        left = brought_back(store, folder)
        problems = verify(folder).problems if left else ()
        assert [text for text in problems if "names" in text and "json" in text] == []
        publish(yard_with_wheels, store)
        assert brought_back(store, tmp_path / f"again{number}") == whole
        number += 5
    assert killed >= 10


_PUBLISH = """
import os, sys
from pathlib import Path
from test_publish_s3 import PLACE, MortalStore, publish
from wheelyard.network.indexes import IndexSettings
from wheelyard.network.open_store import open_object_store
from wheelyard.yard.folder import Yard
store = open_object_store(PLACE, settings=IndexSettings(), env=os.environ)
publish(Yard(Path(sys.argv[1])), MortalStore(store, dies_at=int(sys.argv[2])))
"""


def test_pip_installs_from_the_store_without_a_web_server(
    yard_with_wheels: Yard, store: ObjectStore, s3_env: Mapping[str, str], tmp_path: Path
) -> None:
    pytest.importorskip("pip", reason="this Python has no pip")
    publish(yard_with_wheels, store)
    record = yard_with_wheels.records()[0]
    url = f"{s3_env['AWS_ENDPOINT_URL']}/wheels/stable/{record.index_label}/simple/"
    out = tmp_path / "out"
    words = ("download", "--no-deps", "--no-cache-dir", "--dest", out, "--index-url", url)
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words, f"{record.name}=={record.version}"],
        env=env,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in out.iterdir()] == [record.filename]


def test_pages_and_wheels_have_the_headers_that_browsers_and_clients_need(
    yard_with_wheels: Yard, store: ObjectStore, s3_env: Mapping[str, str]
) -> None:
    import boto3  # noqa: PLC0415

    publish(yard_with_wheels, store)
    client = boto3.session.Session(
        s3_env["AWS_ACCESS_KEY_ID"], s3_env["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1"
    ).client("s3", endpoint_url=s3_env["AWS_ENDPOINT_URL"])
    record = yard_with_wheels.records()[0]
    for key, kind, cache in (
        ("simple/", "text/html; charset=utf-8", "no-cache"),
        ("simple/index.v1.json", "application/vnd.pypi.simple.v1+json", "no-cache"),
        ("wheelyard.json", "application/json", "no-cache"),
        (f"wheels/{record.filename}", "application/octet-stream", "immutable"),
    ):
        head = client.head_object(Bucket="wheels", Key=f"stable/{key}")
        assert head["ContentType"] == kind
        assert cache in head["CacheControl"]
    assert json.loads(
        client.get_object(Bucket="wheels", Key="stable/wheelyard.json")["Body"].read()
    )
    assert quote(record.filename) in (store.read("simple/another/") or b"").decode()
