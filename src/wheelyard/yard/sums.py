"""``SHA256SUMS``: what ``sha256sum --check`` reads, for whoever has no wheelyard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wheelyard.errors import IntegrityError
from wheelyard.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

SUMS_NAME: Final = "SHA256SUMS"


def format_sums(sums: Mapping[str, str]) -> bytes:
    """Write digests by filename, as ``sha256sum`` does."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()


def parse_sums(text: bytes, *, origin: str) -> dict[str, str]:
    """Read digests by filename; ``origin`` names the file in errors."""
    sums = {}
    for number, line in enumerate(text.decode(errors="replace").splitlines(), start=1):
        digest, space, name = line.partition(" ")
        name = name[1:]  # a space for text, an asterisk for binary
        if not space or len(digest) != 64 or not name or "/" in name:
            msg = (
                f"Line {number} of {origin} is not one of sha256sum: {line!r}. "
                "Write the file anew: `wheelyard index`."
            )
            raise IntegrityError(msg)
        sums[name] = digest
    return sums


def change_sums(
    path: Path, sums: Mapping[str, str], *, stays: Callable[[str], bool] | None
) -> None:
    """Bring the file up to date; of other names only those remain that ``stays`` says."""
    try:
        before = path.read_bytes()
    except FileNotFoundError:
        before = b""
    others = {}
    if stays is not None:
        known = parse_sums(before, origin=str(path))
        others = {name: digest for name, digest in known.items() if stays(name)}
    text = format_sums({**others, **sums})
    if text != before:
        replace_file(path, text)
