"""Go through a wheel once: the digest and size of every file, and its ELF files on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Final

from wheelyard.abi.elf import MAGIC
from wheelyard.wheels.archive import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from wheelyard.wheels.archive import WheelArchive

_BEGINNING: Final = 64
DIGESTS: Final = frozenset({"sha256", "sha384", "sha512"})
"""What RECORD may use: sha256 or better, says the wheel specification."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UnpackedMember:
    """What a member really holds."""

    digest: str
    """As RECORD writes it, for example ``sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU``."""
    size: int
    elf_path: Path | None
    """Where it was unpacked to, when it is an ELF file."""
    beginning: bytes = b""
    """Its first bytes."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Unpacked:
    """A wheel whose every member was read to its end."""

    members: Mapping[str, UnpackedMember]
    damaged: Mapping[str, ArchiveError]

    @property
    def elf_paths(self) -> Mapping[str, Path]:
        return {
            name: member.elf_path
            for name, member in self.members.items()
            if member.elf_path is not None
        }


def unpack(archive: WheelArchive, folder: Path, *, algorithms: Mapping[str, str]) -> Unpacked:
    """Read every safe member; digests are sha256 unless ``algorithms`` says another for one."""
    members: dict[str, UnpackedMember] = {}
    damaged: dict[str, ArchiveError] = {}
    for name in archive.members:
        algorithm = algorithms.get(name, "sha256")
        try:
            members[name] = _unpack_member(
                archive, name, folder, algorithm if algorithm in DIGESTS else "sha256"
            )
        except ArchiveError as error:
            damaged[name] = error
    return Unpacked(members=members, damaged=damaged)


def _unpack_member(
    archive: WheelArchive, name: str, folder: Path, algorithm: str
) -> UnpackedMember:
    digest = hashlib.new(algorithm)
    size = 0
    elf_path = None
    chunks = archive.chunks(name)
    first = next(chunks, b"")
    if first.startswith(MAGIC):
        elf_path = folder / name
        elf_path.parent.mkdir(parents=True, exist_ok=True)
    with elf_path.open("wb") if elf_path else contextlib.nullcontext() as stream:
        for chunk in itertools.chain((first,), chunks):
            digest.update(chunk)
            size += len(chunk)
            if stream is not None:
                stream.write(chunk)
    encoded = urlsafe_b64encode(digest.digest()).rstrip(b"=").decode("ascii")
    return UnpackedMember(
        digest=f"{algorithm}={encoded}",
        size=size,
        elf_path=elf_path,
        beginning=bytes(first[:_BEGINNING]),
    )
