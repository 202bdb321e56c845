"""What an S3-compatible store refuses, in our words."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from wheelyard.errors import TargetError
from wheelyard.network.masking import mask_url

if TYPE_CHECKING:
    from collections.abc import Iterator

S3Client: TypeAlias = Any
"""boto3 makes its classes at run time."""
_ADVICE: Final = {
    "AccessDenied": "Give the credentials the rights to list, get and put in this bucket",
    "InvalidAccessKeyId": "Correct AWS_ACCESS_KEY_ID, or name another AWS_PROFILE",
    "NoSuchBucket": "Make the bucket first, or correct its name",
    "SignatureDoesNotMatch": "Correct AWS_SECRET_ACCESS_KEY, or name another AWS_PROFILE",
}
_MISSING: Final = frozenset({"404", "NoSuchKey", "NotFound"})
_TAKEN: Final = frozenset({"412", "PreconditionFailed", "409", "ConditionalRequestConflict"})
_UNCONDITIONAL: Final = frozenset({"501", "NotImplemented"})


class MissingError(TargetError):
    """No such object."""


class TakenError(TargetError):
    """There is an object of that key by now."""


class UnconditionalError(TargetError):
    """The store does not know this: a conditional write, or to list uploads."""


@contextlib.contextmanager
def translated(place: str) -> Iterator[None]:
    """Say boto3's errors in our words, with what to do."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        text = error.response.get("Error", {}).get("Message") or str(error)
        for codes, kind in (
            (_MISSING, MissingError),
            (_TAKEN, TakenError),
            (_UNCONDITIONAL, UnconditionalError),
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
