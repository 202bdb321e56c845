"""Objects in an S3-compatible store, through boto3: verified, resumed, never silently replaced."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from wheelyard.errors import IntegrityError, MachineError, TargetError
from wheelyard.files import appearing, disk_errors
from wheelyard.network.object_store import (
    PLAIN,
    ObjectHeaders,
    StoredObject,
    changed_source,
    missing_object,
    other_bytes,
    valid_key,
)
from wheelyard.network.s3_errors import (
    MissingError,
    S3Client,
    TakenError,
    UnconditionalError,
    translated,
)
from wheelyard.network.s3_lease import LEASE_NAME, lease

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from wheelyard.network.indexes import IndexSettings

PART_SIZE: Final = 32 << 20
"""Of an upload in parts; a file up to twice as large goes in one."""
_MOST_PARTS: Final = 10_000
_CHUNK: Final = 1 << 20
_SHA256: Final = "sha256"
"""The name of the digest in an object's own metadata, which every S3-compatible store keeps."""


def open_s3_store(
    bucket: str, prefix: str, *, settings: IndexSettings, env: Mapping[str, str]
) -> S3Store:
    """Return the store with the user's own AWS settings: variables, profile, endpoint."""
    try:
        import boto3  # noqa: PLC0415 - takes long
        from botocore.config import Config  # noqa: PLC0415
    except ModuleNotFoundError as error:
        msg = (
            f"s3://{bucket} needs boto3, which is not installed here. Install it: "
            "pip install 'wheelyard[s3]'"
        )
        raise MachineError(msg) from error
    with translated(f"s3://{bucket}"):
        session = boto3.session.Session(
            aws_access_key_id=env.get("AWS_ACCESS_KEY_ID"),
            aws_secret_access_key=env.get("AWS_SECRET_ACCESS_KEY"),
            aws_session_token=env.get("AWS_SESSION_TOKEN"),
            region_name=env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION"),
            profile_name=env.get("AWS_PROFILE"),
        )
        network = settings.network
        config: dict[str, Any] = {
            "connect_timeout": network.connect_timeout,
            "read_timeout": max(30.0, network.stall_timeout),
            "max_pool_connections": 2 * network.parallel,
            # What S3 itself added later is refused by many that are compatible with it.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
        if "AWS_MAX_ATTEMPTS" not in env:
            config["retries"] = {"mode": "standard", "total_max_attempts": 2 + network.attempts}
        client = session.client(
            "s3",
            endpoint_url=env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL"),
            verify=env.get("AWS_CA_BUNDLE") or settings.certificate,
            config=Config(**config),
        )
    return S3Store(client, bucket, prefix, parallel=network.parallel)


class S3Store:
    """Objects below a prefix of a bucket. One may be used by several threads."""

    keys_end_in_slashes = True

    def __init__(self, client: S3Client, bucket: str, prefix: str, *, parallel: int) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._parallel = parallel
        self.name = f"s3://{bucket}/{prefix}".rstrip("/")

    def alone(self) -> AbstractContextManager[object]:
        return lease(self._client, self._at(LEASE_NAME), what=f"publishing into {self.name}")

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        pages = self._client.get_paginator("list_objects_v2")
        with translated(self.name):
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix):
                for item in page.get("Contents", ()):
                    key = item["Key"].removeprefix(self._prefix)
                    if key != LEASE_NAME:
                        yield StoredObject(key=key, size=item["Size"], md5=_md5_of(item["ETag"]))

    def head(self, key: str) -> StoredObject | None:
        try:
            with translated(self.name):
                found = self._client.head_object(**self._at(key))
        except MissingError:
            return None
        sha256 = found.get("Metadata", {}).get(_SHA256, "") or self._digest(key)
        md5 = _md5_of(found["ETag"])
        return StoredObject(key=key, size=found["ContentLength"], sha256=sha256, md5=md5)

    def _digest(self, key: str) -> str:
        """Read an object whose digest the store does not know, as others may have put it."""
        digest = hashlib.sha256()
        for chunk in self._chunks(key):
            digest.update(chunk)
        return digest.hexdigest()

    def read(self, key: str) -> bytes | None:
        try:
            return b"".join(self._chunks(key))
        except MissingError:
            return None

    def get(self, key: str, destination: Path) -> StoredObject:
        told = self.head(key)
        if told is None:
            raise missing_object(key, self.name)
        digest, size = hashlib.sha256(), 0
        with disk_errors(destination), appearing(destination) as writer:
            for chunk in self._chunks(key):
                digest.update(chunk)
                size += writer.write(chunk)
            if digest.hexdigest() != told.sha256:
                msg = (
                    f"{self.name}/{key} brought sha256 {digest.hexdigest()}, it says itself "
                    f"{told.sha256}. Remove it there and put it again."
                )
                raise IntegrityError(msg)
        return StoredObject(key=key, size=size, sha256=told.sha256, md5=told.md5)

    def _chunks(self, key: str) -> Iterator[bytes]:
        """Yield the body; where it is cut off, go on from there."""
        from botocore.exceptions import HTTPClientError, IncompleteReadError  # noqa: PLC0415

        at, tag, failures = 0, "", 0
        while True:
            asked = {"Range": f"bytes={at}-", "IfMatch": tag} if at else {}
            with translated(self.name):
                answer = self._client.get_object(**self._at(key), **asked)
            tag = answer["ETag"]
            try:
                for chunk in answer["Body"].iter_chunks(_CHUNK):
                    at, failures = at + len(chunk), 0
                    yield chunk
            except (HTTPClientError, IncompleteReadError) as error:
                failures += 1
                if failures > 3:
                    msg = f"{self.name}/{key} was cut off at {at} bytes: {error}. Try again."
                    raise TargetError(msg) from error
            else:
                return

    def put(
        self,
        key: str,
        source: Path,
        *,
        sha256: str,
        headers: ObjectHeaders = PLAIN,
        replace: bool = False,
    ) -> bool:
        if self._has(key, sha256=sha256, replace=replace):
            return False
        size = source.stat().st_size
        described = {**_as_arguments(headers), "Metadata": {_SHA256: sha256}}
        with disk_errors(source), source.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != sha256:
                raise changed_source(source, sha256=sha256)
            stream.seek(0)
            try:
                if size <= 2 * PART_SIZE:
                    self._put_whole(key, stream.read(), described, replace=replace)
                else:
                    upload = _Upload(self._client, self._at(key), source, size=size)
                    upload.finish(described, parallel=self._parallel, replace=replace)
            except TakenError:  # somebody else put it meanwhile
                if not self._has(key, sha256=sha256, replace=replace):
                    raise
                return False
        return True

    def _has(self, key: str, *, sha256: str, replace: bool) -> bool:
        """Whether this very content is there; raise where there is another to be kept."""
        known = self.head(key)
        if known is None or known.sha256 == sha256:
            return known is not None
        if replace:
            return False
        place = f"{self.name}/{key}"
        raise other_bytes(place, there=known.sha256, here=sha256)

    def write(self, key: str, content: bytes, *, headers: ObjectHeaders = PLAIN) -> None:
        metadata = {_SHA256: hashlib.sha256(content).hexdigest()}
        described = {**_as_arguments(headers), "Metadata": metadata}
        self._put_whole(key, content, described, replace=True)

    def remove(self, key: str) -> None:
        with translated(self.name):
            self._client.delete_object(**self._at(key))

    def _put_whole(
        self, key: str, content: bytes, described: Mapping[str, object], *, replace: bool
    ) -> None:
        put = functools.partial(
            self._client.put_object,
            **self._at(key),
            **described,
            Body=content,
            ContentMD5=_content_md5(content),
        )
        _unless_taken(put, self.name, replace=replace)

    def _at(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": self._prefix + valid_key(key, slash_ends=True)}


class _Upload:
    """An upload in parts, which goes on with the parts that a killed one had brought there."""

    def __init__(self, client: S3Client, at: Mapping[str, Any], source: Path, *, size: int) -> None:
        self._client = client
        self._at = dict(at)
        self._source = source
        self._part_size = max(PART_SIZE, -(-size // _MOST_PARTS))
        self._count = -(-size // self._part_size)
        self._place = f"s3://{at['Bucket']}/{at['Key']}"

    def finish(self, described: Mapping[str, Any], *, parallel: int, replace: bool) -> None:
        """Bring what is missing and put the parts together."""
        begun = None
        with contextlib.suppress(UnconditionalError), translated(self._place):
            begun = self._begun()  # not every store can tell
        with translated(self._place):
            identifier, there = begun or (self._begin(described), {})
        self._at["UploadId"] = identifier
        with ThreadPoolExecutor(parallel) as pool:
            parts = list(
                pool.map(lambda number: self._bring(number, there), range(1, self._count + 1))
            )
        complete = functools.partial(
            self._client.complete_multipart_upload, **self._at, MultipartUpload={"Parts": parts}
        )
        _unless_taken(complete, self._place, replace=replace)

    def _begin(self, described: Mapping[str, Any]) -> str:
        return str(self._client.create_multipart_upload(**self._at, **described)["UploadId"])

    def _begun(self) -> tuple[str, dict[int, str]] | None:
        """Return an upload that has parts of this very file; end others that lie about."""
        pages = self._client.get_paginator("list_multipart_uploads")
        found = None
        for page in pages.paginate(Bucket=self._at["Bucket"], Prefix=self._at["Key"]):
            for item in page.get("Uploads", ()):
                if item["Key"] != self._at["Key"]:
                    continue
                there = self._parts(item["UploadId"])
                if found is None and there and self._is_ours(there):
                    found = item["UploadId"], there
                else:
                    self._client.abort_multipart_upload(**self._at, UploadId=item["UploadId"])
        return found

    def _parts(self, identifier: str) -> dict[int, str]:
        pages = self._client.get_paginator("list_parts")
        return {
            part["PartNumber"]: part["ETag"]
            for page in pages.paginate(**self._at, UploadId=identifier)
            for part in page.get("Parts", ())
        }

    def _is_ours(self, there: Mapping[int, str]) -> bool:
        return all(
            number <= self._count and _md5_of(tag) == _hex_md5(self._read(number))
            for number, tag in there.items()
        )

    def _bring(self, number: int, there: Mapping[int, str]) -> dict[str, object]:
        if number in there:
            return {"PartNumber": number, "ETag": there[number]}
        content = self._read(number)
        with translated(self._place):
            answer = self._client.upload_part(
                **self._at, PartNumber=number, Body=content, ContentMD5=_content_md5(content)
            )
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def _read(self, number: int) -> bytes:
        with self._source.open("rb") as stream:
            stream.seek((number - 1) * self._part_size)
            return stream.read(self._part_size)


def _unless_taken(put: functools.partial[Any], place: str, *, replace: bool) -> None:
    """Put on condition that nothing is there, where the store knows conditions."""
    with translated(place):
        if replace:
            put()
            return
        try:
            with translated(place):
                put(IfNoneMatch="*")
        except UnconditionalError:
            put()


def _as_arguments(headers: ObjectHeaders) -> dict[str, str]:
    found = {"ContentType": headers.content_type, "CacheControl": headers.cache_control}
    return {key: value for key, value in found.items() if value}


def _md5_of(tag: str) -> str:
    """Return the MD5 that an entity tag is, except for objects that came in parts."""
    found = tag.strip('"')
    return found if len(found) == 32 and "-" not in found else ""


def _hex_md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _content_md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
