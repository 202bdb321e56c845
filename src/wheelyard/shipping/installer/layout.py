"""How a bundle is written: one uncompressed tar whose every byte follows from what is in it.

The first member is ``SHA256SUMS``; it names all others in their order. Headers hold nothing but
name and size, so a reader makes each anew and compares: no bit is left that nobody looks at.
"""

from __future__ import annotations

import hashlib
import re
import tarfile

from wheelyard.shipping.installer.problems import DamageError

BLOCK = 512
RECORD = 10240
SUMS = "SHA256SUMS"
DELTA = "DELTA"
MANIFEST = "bundle.json"
INSTALLER = "install.py"
WHEELS = "wheels/"
FORMAT = 1
NAMESPACE = "wheelyard-bundle"
"""Of signatures, so that one of something else does not count."""

FIRST_SECOND = 315532800
"""Of 1980, the first that a zip knows too."""
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+!@-]*")
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


def tar_header(name: str, size: int) -> bytes:
    """Return the header of a member, the same for the same name and size."""
    info = tarfile.TarInfo(name)
    info.size = size
    info.mtime = FIRST_SECOND
    info.mode = 0o644
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")


def padding(size: int) -> int:
    """Return how many zero bytes follow a member of that size."""
    return -size % BLOCK


def end_of(size: int) -> int:
    """Return how many zero bytes end an archive whose members take ``size``."""
    return 2 * BLOCK + -(size + 2 * BLOCK) % RECORD


def require_safe(name: str) -> str:
    """Refuse a name that could lead out of the folder that a bundle is unpacked into."""
    parts = name.split("/")
    if not all(_PART.fullmatch(part) for part in parts):
        msg = (
            f"The bundle names a file {name!r}, which is not inside of it. Do not use this bundle; "
            "get it again from who made it."
        )
        raise DamageError(msg)
    return name


def format_sums(digests: list[tuple[str, str]]) -> bytes:
    """Write name and sha256 of every member, as ``sha256sum -c`` reads them."""
    return "".join(f"{sha256}  {name}\n" for name, sha256 in digests).encode()


def parse_sums(text: bytes) -> dict[str, str]:
    """Read them back; what would be written in another way is refused."""
    found: dict[str, str] = {}
    try:
        lines = text.decode("ascii").split("\n")
    except UnicodeDecodeError:
        lines = [""]
    for line in lines[:-1]:
        match = _LINE.fullmatch(line)
        if match is None or match[2] in found:
            break
        found[require_safe(match[2])] = match[1]
    if format_sums(list(found.items())) != text or MANIFEST not in found:
        msg = f"{SUMS} of the bundle is damaged. Copy the bundle again."
        raise DamageError(msg)
    return found


def digest_of(sums: bytes) -> str:
    """Return the digest of a bundle: of the list of everything in it."""
    return hashlib.sha256(sums).hexdigest()
