"""A real S3-compatible server on loopback, with one empty bucket."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "one", "AWS_SECRET_ACCESS_KEY": "two"}
REGION = {"AWS_DEFAULT_REGION": "us-east-1"}


SERVER = "WHEELYARD_TEST_S3"
"""Names another server to test against: ``http://KEY:SECRET@HOST:PORT``."""


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Serve S3 on loopback, or use the server that is named; its URL has the credentials."""
    named = os.environ.get(SERVER)
    if named:
        yield named
        return
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("boto3", reason="boto3 is not installed")
    started = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    yield f"http://one:two@{host}:{port}"
    started.stop()


@pytest.fixture
def s3_env(
    s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Mapping[str, str]]:
    """Return the variables that lead to an empty bucket ``wheels``, which everybody may read."""
    import boto3  # noqa: PLC0415

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    parts = urlsplit(s3_server)
    url = f"{parts.scheme}://{parts.hostname}:{parts.port}"
    key, secret = parts.username or "", parts.password or ""
    env = {
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
    }
    session = boto3.session.Session(key, secret, region_name="us-east-1")
    client = session.client("s3", endpoint_url=url)
    client.create_bucket(Bucket="wheels", ACL="public-read")
    yield env
    for item in _uploads(client):
        client.abort_multipart_upload(Bucket="wheels", Key=item["Key"], UploadId=item["UploadId"])
    for page in client.get_paginator("list_objects_v2").paginate(Bucket="wheels"):
        for item in page.get("Contents", ()):
            client.delete_object(Bucket="wheels", Key=item["Key"])
    client.delete_bucket(Bucket="wheels")


def _uploads(client: Any) -> list[dict[str, str]]:  # noqa: ANN401 - boto3 makes its classes
    from botocore.exceptions import ClientError  # noqa: PLC0415

    try:
        return list(client.list_multipart_uploads(Bucket="wheels").get("Uploads", ()))
    except ClientError as error:
        if error.response["Error"]["Code"] != "NotImplemented":
            raise
        return []
