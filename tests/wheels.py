"""Write valid wheels, and wheels that are broken in exactly one way."""

from __future__ import annotations

import csv
import hashlib
import io
import zipfile
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

from packaging.tags import parse_tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

_DATE = (2020, 1, 1, 0, 0, 0)


def write_wheel(
    folder: Path,
    *,
    name: str = "demo",
    version: str = "1.0",
    tag: str = "py3-none-any",
    build: str = "",
    files: Mapping[str, bytes] | None = None,
    requires: Iterable[str] = (),
    entry_points: str = "",
    filename: str | None = None,
    texts: Mapping[str, str | None] | None = None,
    spoil: Callable[[dict[str, bytes]], object] | None = None,
    extra: Iterable[tuple[zipfile.ZipInfo, bytes]] = (),
) -> Path:
    """Write a wheel and return its path.

    ``files`` is what it installs. ``texts`` replaces files of the dist-info folder, or leaves them
    out (None). ``spoil`` changes members after RECORD was written; ``extra`` appends raw members.
    """
    stem = f"{name.replace('-', '_')}-{version}"
    info = {
        "METADATA": _metadata(name, version, requires),
        "WHEEL": _wheel(tag, build),
        "entry_points.txt": entry_points or None,
    } | dict(texts or {})
    members = dict(files if files is not None else {f"{name}/__init__.py": b""})
    members |= {
        f"{stem}.dist-info/{file}": text.encode()
        for file, text in info.items()
        if text is not None and file != "RECORD"
    }
    record = f"{stem}.dist-info/RECORD"
    members[record] = (info.get("RECORD") or _record(members, record)).encode()
    if spoil is not None:
        spoil(members)
    path = folder / (filename or f"{stem}{f'-{build}' if build else ''}-{tag}.whl")
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(_member(member), content, zipfile.ZIP_DEFLATED)
        for member_info, content in extra:
            archive.writestr(member_info, content)
    return path


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _DATE)
    info.external_attr = 0o100644 << 16
    return info


def _metadata(name: str, version: str, requires: Iterable[str]) -> str:
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    return "\n".join([*lines, "", "A demonstration.", ""])


def _wheel(tag: str, build: str) -> str:
    purelib = "true" if tag.endswith("-any") else "false"
    lines = ["Wheel-Version: 1.0", "Generator: test", f"Root-Is-Purelib: {purelib}"]
    lines += [f"Build: {build}"] if build else []
    lines += sorted(f"Tag: {one}" for one in parse_tag(tag))
    return "\n".join([*lines, ""])


def _record(members: Mapping[str, bytes], own: str) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    for name, content in members.items():
        digest = urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        writer.writerow((name, f"sha256={digest}", len(content)))
    writer.writerow((own, "", ""))
    return stream.getvalue()
