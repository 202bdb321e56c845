"""What a bundle holds beside its wheels: installer, index, locks, licences, its cells."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import NormalizedName, canonicalize_name, parse_wheel_filename

from wheelyard.model.index_page import (
    HTML_NAME,
    JSON_NAME,
    IndexFile,
    Urls,
    project_html,
    project_json,
    root_html,
    root_json,
)
from wheelyard.model.metadata import parse_core_metadata
from wheelyard.model.releases import cuda_release
from wheelyard.shipping.bill import bill_of_materials
from wheelyard.shipping.bundle import Member, file_member, text_member
from wheelyard.shipping.installer.layout import FORMAT, INSTALLER, MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from packaging.version import Version

    from wheelyard.model.cell import Cell
    from wheelyard.shipping.interpreter import PackedInterpreter
    from wheelyard.shipping.wheel import BundledWheel

_DATE = (1980, 1, 1, 0, 0, 0)
_UNSAFE = re.compile(r"[^A-Za-z0-9_.+@-]+")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OurWheel:
    """A wheel of ours in a cell: what the installer looks at, and how it is tried."""

    name: NormalizedName
    version: Version
    gpu_archs: tuple[str, ...]
    record: bytes | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BundledCell:
    """One cell of a bundle: everything that is installed for it."""

    cell: Cell
    wheels: tuple[BundledWheel, ...]
    ours: tuple[OurWheel, ...]
    interpreter: PackedInterpreter | None = None


def make_members(
    cells: Iterable[BundledCell],
    *,
    uv: BundledWheel,
    requested: Iterable[str],
    smoke: Mapping[str, bytes],
) -> list[Member]:
    """Return every member of a bundle; wheels that several cells have are there once."""
    cells = tuple(cells)
    wheels = {wheel.filename: wheel for cell in cells for wheel in cell.wheels}
    wheels[uv.filename] = uv
    members = [
        Member(name=f"wheels/{name}", source=wheel.path, sha256=wheel.sha256, size=wheel.size)
        for name, wheel in sorted(wheels.items())
    ]
    texts: dict[str, bytes] = {
        MANIFEST: _manifest(cells, uv=uv, requested=requested),
        INSTALLER: installer(),
        **smoke,
    }
    packed = {cell.interpreter for cell in cells if cell.interpreter is not None}
    members += [file_member(one.member, one.path, sha256=one.sha256) for one in packed]
    for cell in cells:
        folder = f"cells/{cell.cell.identifier}"
        texts[f"{folder}/pylock.toml"] = pylock(cell)
        texts[f"{folder}/sbom.cdx.json"] = bill_of_materials(cell.cell.identifier, cell.wheels)
        texts[f"{folder}/requirements.txt"] = requirements(cell)
        for ours in cell.ours:
            if ours.record is not None:
                texts[f"records/{cell.cell.identifier}/{ours.name}.json"] = ours.record
    for wheel in wheels.values():
        texts |= dict(_papers(wheel))
    texts |= _index(wheels.values())
    return [*members, *(text_member(name, content) for name, content in sorted(texts.items()))]


def _papers(wheel: BundledWheel) -> Iterator[tuple[str, bytes]]:
    label = f"{wheel.name}-{wheel.version}"
    yield f"wheels/{wheel.filename}.metadata", wheel.metadata
    for name, content in wheel.licences:
        parts = [_UNSAFE.sub("_", part).lstrip(".") or "_" for part in name.split("/")]
        yield f"licences/{label}/{'/'.join(parts)}", content
    if wheel.sbom is not None:
        yield f"sboms/{label}.cdx.json", wheel.sbom


def _manifest(cells: Iterable[BundledCell], *, uv: BundledWheel, requested: Iterable[str]) -> bytes:
    document = {
        "cells": [_cell_to_json(cell) for cell in cells],
        "format": FORMAT,
        "requested": list(requested),
        "uv": _package(uv),
    }
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def _cell_to_json(cell: BundledCell) -> dict[str, object]:
    cuda = cell.cell.torch.cuda
    return {
        "cuda": str(cuda),
        "glibc": max((wheel.glibc for wheel in cell.wheels), default=(2, 17)),
        "identifier": cell.cell.identifier,
        "interpreter": None
        if cell.interpreter is None
        else {
            "borrowed": list(cell.interpreter.borrowed),
            "file": cell.interpreter.member,
            "size": cell.interpreter.size,
            "version": cell.interpreter.full_version,
        },
        "machine": cell.cell.machine,
        "minimum_driver": cuda_release(cuda).minimum_driver,
        "ours": [
            {"gpu_archs": list(ours.gpu_archs), "name": ours.name, "version": str(ours.version)}
            for ours in cell.ours
        ],
        "packages": [_package(wheel) for wheel in cell.wheels],
        "python": str(cell.cell.python),
        "torch": str(cell.cell.torch),
    }


def _package(wheel: BundledWheel) -> dict[str, object]:
    return {
        "file": wheel.filename,
        "name": wheel.name,
        "sha256": wheel.sha256,
        "size": wheel.size,
        "unpacked": wheel.unpacked,
        "version": _metadata_version(wheel),
    }


def _metadata_version(wheel: BundledWheel) -> str:
    """The version as METADATA spells it, by which an installed one is known."""
    for line in wheel.metadata.splitlines():
        if line.lower().startswith(b"version:"):
            return line.partition(b":")[2].strip().decode()
    return str(wheel.version)


def installer() -> bytes:
    """Return the installer: Python files in a zip, which any Python runs as it is."""
    package = Path(__file__).with_name("installer")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        names = {
            "__main__.py": _read(package / "__main__.py"),
            "wheelyard/__init__.py": b"",
            "wheelyard/shipping/__init__.py": b"",
        }
        for path in sorted(package.glob("*.py")):
            names[f"wheelyard/shipping/installer/{path.name}"] = _read(path)
        for name, content in sorted(names.items()):
            info = zipfile.ZipInfo(name, _DATE)
            info.external_attr = 0o100644 << 16
            archive.writestr(info, content)
    return stream.getvalue()


def _read(path: Path) -> bytes:
    return path.read_bytes()


def requirements(cell: BundledCell) -> bytes:
    """Return hashed requirements, which `pip install --require-hashes` takes."""
    lines = [
        f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n" for wheel in cell.wheels
    ]
    return "".join(lines).encode()


def pylock(cell: BundledCell) -> bytes:
    """Return a lock as PEP 751 has it; its wheels lie in the bundle."""
    marker = f"sys_platform == 'linux' and platform_machine == '{cell.cell.machine}'"
    lines = [
        'lock-version = "1.0"',
        'created-by = "wheelyard"',
        f'requires-python = "=={cell.cell.python.version}.*"',
        f'environments = ["{marker}"]',
    ]
    for wheel in cell.wheels:
        lines += [
            "",
            "[[packages]]",
            f"name = {json.dumps(wheel.name)}",
            f"version = {json.dumps(str(wheel.version))}",
            "[[packages.wheels]]",
            f"name = {json.dumps(wheel.filename)}",
            f"path = {json.dumps(f'../../wheels/{wheel.filename}')}",
            f"size = {wheel.size}",
            f'hashes = {{ sha256 = "{wheel.sha256}" }}',
        ]
    return "\n".join([*lines, ""]).encode()


def _index(wheels: Iterable[BundledWheel]) -> dict[str, bytes]:
    """Return the pages of a simple index of all wheels, for pip and uv."""
    projects: defaultdict[str, list[IndexFile]] = defaultdict(list)
    for wheel in wheels:
        projects[canonicalize_name(wheel.name)].append(index_file(wheel))
    pages = {}
    for name, files in projects.items():
        pages[f"index/simple/{name}/{HTML_NAME}"] = project_html(name, files)
        pages[f"index/simple/{name}/{JSON_NAME}"] = project_json(name, files)
    pages[f"index/simple/{HTML_NAME}"] = root_html(projects)
    pages[f"index/simple/{JSON_NAME}"] = root_json(projects)
    return pages


def index_file(wheel: BundledWheel) -> IndexFile:
    _, version, build, _ = parse_wheel_filename(wheel.filename)
    requires_python = parse_core_metadata(wheel.metadata).requires_python
    return IndexFile(
        filename=wheel.filename,
        urls=Urls(wheel=f"../../../wheels/{wheel.filename.replace('+', '%2B')}"),
        version=version,
        revision=build[0] if build else 0,
        sha256=wheel.sha256,
        size=wheel.size,
        requires_python=None if requires_python is None else str(requires_python),
        core_metadata_sha256=hashlib.sha256(wheel.metadata).hexdigest(),
        upload_time="1980-01-01T00:00:00Z",
    )
