"""A real wheel in memory, to be broken in one place and written again."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import warnings
import zipfile
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

from elf_surgery import Elf, patch, rename_symbols

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_DATE = (2020, 1, 1, 0, 0, 0)
_FILE_MODE = 0o100644


class Workpiece:
    """The members of a wheel; RECORD is written for them as they are when it is sealed."""

    def __init__(self, wheel: Path) -> None:
        self.filename = wheel.name
        with zipfile.ZipFile(wheel) as archive:
            self.members = {
                info.filename: archive.read(info)
                for info in archive.infolist()
                if not info.is_dir()
            }
        self.after: list[Callable[[Path], object]] = []
        """What is done to the written file in the end."""
        self._extra: list[tuple[zipfile.ZipInfo, bytes]] = []
        self._is_sealed = False

    @property
    def dist_info(self) -> str:
        (name,) = (
            member.removesuffix("/RECORD")
            for member in self.members
            if member.endswith(".dist-info/RECORD")
        )
        return name

    def path(self, name: str) -> str:
        """Return the member that is METADATA, WHEEL or RECORD."""
        return f"{self.dist_info}/{name}"

    @contextlib.contextmanager
    def elf(self, member: str) -> Iterator[Elf]:
        """Open a compiled file for changes."""
        elf = Elf(self.members[member])
        yield elf
        self.members[member] = bytes(elf.content)

    def patch(self, member: str, *options: str) -> None:
        """Change a compiled file with patchelf."""
        self.members[member] = patch(self.members[member], *options)

    def rename_symbols(self, member: str, **names: str) -> None:
        self.members[member] = rename_symbols(self.members[member], names)

    def rename(self, member: str, name: str) -> None:
        self.members[name] = self.members.pop(member)

    def write_text(self, name: str, text: str) -> None:
        """Write a file of the dist-info folder."""
        self.members[self.path(name)] = text.encode()

    def edit(self, member: str, old: str, new: str) -> None:
        """Replace a text that is there once."""
        content = self.members[member]
        assert content.count(old.encode()) == 1, f"{old!r} is not there once"
        self.members[member] = content.replace(old.encode(), new.encode())

    def edit_metadata(self, old: str, new: str) -> None:
        self.edit(self.path("METADATA"), old, new)

    def require(self, requirement: str) -> None:
        """Add a line to METADATA."""
        content = self.members[self.path("METADATA")]
        head, blank, text = content.partition(b"\n\n")
        assert blank
        line = f"\nRequires-Dist: {requirement}".encode()
        self.members[self.path("METADATA")] = head + line + blank + text

    def retag(self, tag: str, *, everywhere: bool = True) -> None:
        """Give it other tags, in its filename and, ``everywhere``, in WHEEL as well."""
        stem = "-".join(self.filename.removesuffix(".whl").split("-")[:-3])
        self.filename = f"{stem}-{tag}.whl"
        if everywhere:
            self.write_text("WHEEL", wheel_text(tag))

    def seal(self) -> None:
        """Write RECORD now; what is changed later is changed behind its back."""
        own = self.path("RECORD")
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        for name, content in self.members.items():
            if name != own:
                digest = urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
                writer.writerow((name, f"sha256={digest.decode()}", len(content)))
        writer.writerow((own, "", ""))
        self.members[own] = stream.getvalue().encode()
        self._is_sealed = True

    def append(self, name: str, content: bytes, *, mode: int = _FILE_MODE) -> None:
        """Add a member that no wheel may have, of any name and kind, behind the others."""
        self._extra.append((_info(name, mode), content))

    def write(self, folder: Path) -> Path:
        """Write the wheel into a folder, under its filename."""
        if not self._is_sealed:
            self.seal()
        path = folder / self.filename
        # Stored: what is broken is read once, and compressing takes longer than all the rest.
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, content in self.members.items():
                archive.writestr(_info(name, _FILE_MODE), content)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of a name that is there twice
                for info, content in self._extra:
                    archive.writestr(info, content)
        for change in self.after:
            change(path)
        return path


def wheel_text(tag: str) -> str:
    """Return a WHEEL file for compressed tags such as ``cp312-cp312-manylinux_2_28_x86_64``."""
    interpreters, abis, platforms = tag.split("-")
    tags = [
        f"Tag: {interpreter}-{abi}-{platform}"
        for interpreter in interpreters.split(".")
        for abi in abis.split(".")
        for platform in platforms.split(".")
    ]
    return "\n".join(["Wheel-Version: 1.0", "Generator: test", "Root-Is-Purelib: false", *tags, ""])


def _info(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _DATE)
    info.external_attr = mode << 16
    return info
