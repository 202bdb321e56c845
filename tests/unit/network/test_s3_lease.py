"""One at a time on a store that several machines publish into."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import TargetError
from wheelyard.network import s3_store
from wheelyard.network.indexes import IndexSettings
from wheelyard.network.open_store import open_object_store
from wheelyard.network.s3_errors import S3Client, UnconditionalError
from wheelyard.network.s3_lease import LEASE_NAME, Lease, lease

if TYPE_CHECKING:
    from collections.abc import Mapping

AT = {"Bucket": "wheels", "Key": LEASE_NAME}
WHAT = "publishing into wheels"


@pytest.fixture
def store(s3_env: Mapping[str, str]) -> s3_store.S3Store:
    opened = open_object_store("s3://wheels", settings=IndexSettings(), env=s3_env)
    assert isinstance(opened, s3_store.S3Store)
    return opened


@pytest.fixture
def client(store: s3_store.S3Store) -> S3Client:
    return store._client


def test_a_second_one_waits_for_the_first_and_says_whom_it_waits_for(
    client: S3Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="wheelyard")
    waits, goes_on = threading.Event(), threading.Event()
    seen: list[str] = []

    def pause(_seconds: float) -> None:
        waits.set()
        assert goes_on.wait(60)

    def second() -> None:
        with lease(client, AT, what=WHAT, sleep=pause):
            seen.append("second")

    other = threading.Thread(target=second)
    with lease(client, AT, what=WHAT):
        other.start()
        assert waits.wait(60)
        seen.append("first")
    goes_on.set()
    other.join(60)
    assert seen == ["first", "second"]
    [told] = [one.message for one in caplog.records if one.name.startswith("wheelyard")]
    assert told.startswith(f"waiting for {WHAT}: process ")


def test_nothing_is_left_and_the_lease_is_no_object_of_the_store(
    store: s3_store.S3Store, client: S3Client
) -> None:
    with store.alone():
        assert list(store.objects()) == []
        assert client.head_object(**AT)["ContentLength"] > 0
    assert "Contents" not in client.list_objects_v2(Bucket="wheels")


def test_a_lease_that_its_holder_left_is_taken_over(client: S3Client) -> None:
    Lease(client, AT, lifetime=60).take(what=WHAT, sleep=_never)
    with lease(client, AT, what=WHAT, lifetime=0.0, sleep=_never):
        pass
    assert "Contents" not in client.list_objects_v2(Bucket="wheels")


def test_who_was_overtaken_is_told_and_leaves_the_other_s_lease_alone(client: S3Client) -> None:
    other = Lease(client, AT, lifetime=0.0)
    with (
        pytest.raises(TargetError, match=r"Publishing into wheels was overtaken.*Run it again"),
        lease(client, AT, what=WHAT),
    ):
        other.take(what=WHAT, sleep=_never)
    other.renew()
    assert not other.lost


def test_an_answer_that_was_lost_is_not_taken_for_another_s_lease(
    client: S3Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = client.put_object

    def twice(**arguments: str) -> object:
        # what boto3 does by itself where the first answer does not arrive
        with contextlib.suppress(client.exceptions.ClientError):
            put(**arguments)
        return put(**arguments)

    monkeypatch.setattr(client, "put_object", twice)
    with lease(client, AT, what=WHAT, sleep=_never) as held:
        assert held is not None
        held.renew()
        assert not held.lost


def test_a_store_without_conditions_is_used_without_a_lease(
    client: S3Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_arguments: str) -> None:
        raise UnconditionalError

    monkeypatch.setattr(client, "put_object", refuse)
    with lease(client, AT, what=WHAT) as held:
        assert held is None


def _never(_seconds: float) -> None:
    pytest.fail("it waits")
