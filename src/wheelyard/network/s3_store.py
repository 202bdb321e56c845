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
from wheelyard.network.masking import mask_url
from wheelyard.network.object_store import (
    PLAIN,
    ObjectHeaders,
    StoredObject,
    changed_source,
    missing_object,
    other_bytes,
    valid_key,
)

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
_ADVICE: Final = {
    "AccessDenied": "Give the credentials the rights to list, get and put in this bucket",
    "InvalidAccessKeyId": "Correct AWS_ACCESS_KEY_ID, or name another AWS_PROFILE",
    "NoSuchBucket": "Make the bucket first, or correct its name",
    "SignatureDoesNotMatch": "Correct AWS_SECRET_ACCESS_KEY, or name another AWS_PROFILE",
}
_MISSING: Final = frozenset({"404", "NoSuchKey", "NotFound"})
_TAKEN: Final = frozenset({"412", "PreconditionFailed", "409", "ConditionalRequestConflict"})
_UNCONDITIONAL: Final = frozenset({"501", "NotImplemented"})


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
    with _translated(f"s3://{bucket}"):
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

    def __init__(self, client: Any, bucket: str, prefix: str, *, parallel: int) -> None:  # noqa: ANN401 - boto3 makes its classes at run time
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._parallel = parallel
        self.name = f"s3://{bucket}/{prefix}".rstrip("/")

    def alone(self) -> AbstractContextManager[object]:
        # nothing to hold; what another publishing overwrote, the next one finds
        return contextlib.nullcontext()

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        pages = self._client.get_paginator("list_objects_v2")
        with _translated(self.name):
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix):
                for item in page.get("Contents", ()):
                    key = item["Key"].removeprefix(self._prefix)
                    yield StoredObject(key=key, size=item["Size"], md5=_md5_of(item["ETag"]))

    def head(self, key: str) -> StoredObject | None:
        try:
            with _translated(self.name):
                found = self._client.head_object(**self._at(key))
        except _MissingError:
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
        except _MissingError:
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
            with _translated(self.name):
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
            except _TakenError:  # somebody else put it meanwhile
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
        with _translated(self.name):
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

    def __init__(self, client: Any, at: Mapping[str, Any], source: Path, *, size: int) -> None:  # noqa: ANN401
        self._client = client
        self._at = dict(at)
        self._source = source
        self._part_size = max(PART_SIZE, -(-size // _MOST_PARTS))
        self._count = -(-size // self._part_size)
        self._place = f"s3://{at['Bucket']}/{at['Key']}"

    def finish(self, described: Mapping[str, Any], *, parallel: int, replace: bool) -> None:
        """Bring what is missing and put the parts together."""
        begun = None
        with contextlib.suppress(_UnconditionalError), _translated(self._place):
            begun = self._begun()  # not every store can tell
        with _translated(self._place):
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
        with _translated(self._place):
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
    with _translated(place):
        if replace:
            put()
            return
        try:
            with _translated(place):
                put(IfNoneMatch="*")
        except _UnconditionalError:
            put()


class _MissingError(TargetError):
    """No such object."""


class _TakenError(TargetError):
    """There is an object of that key by now."""


class _UnconditionalError(TargetError):
    """The store does not know this: a conditional write, or to list uploads."""


@contextlib.contextmanager
def _translated(place: str) -> Iterator[None]:
    """Say boto3's errors in our words, with what to do."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        text = error.response.get("Error", {}).get("Message") or str(error)
        for codes, kind in (
            (_MISSING, _MissingError),
            (_TAKEN, _TakenError),
            (_UNCONDITIONAL, _UnconditionalError),
        ):
            if code in codes:
                msg = f"{place}: {text}"
                raise kind(msg) from error
        advice = _ADVICE.get(code, "Check the endpoint and the bucket, and run it again")
        msg = f"{place} refuses: {code} {text}. {advice}."
        raise TargetError(msg) from error
    except BotoCoreError as error:
        msg = (
            f"{place} cannot be used: {mask_url(str(error))}. Set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY or AWS_PROFILE, and AWS_ENDPOINT_URL where it is not Amazon's."
        )
        raise TargetError(msg) from error


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
