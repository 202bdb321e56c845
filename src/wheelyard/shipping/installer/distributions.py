"""The distributions of an environment: what is there, which files they own, what was put in."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelyard.shipping.installer.manifest import normalize
from wheelyard.shipping.installer.place import replace
from wheelyard.shipping.installer.problems import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

RECEIPTS = Path("share", "wheelyard", "receipts")
REPLACED = Path("share", "wheelyard", "replaced")


class Distribution:
    """One installed distribution."""

    def __init__(self, name: str, version: str, info: Path) -> None:
        self.name = name
        self.version = version
        self.info = info

    def rows(self) -> list[list[str]] | None:
        """Return the rows of its RECORD, if it has one."""
        try:
            text = (self.info / "RECORD").read_text(encoding="utf-8")
        except OSError:
            return None
        return [row for row in csv.reader(io.StringIO(text, newline="")) if row]


def installed(site: Path) -> dict[str, Distribution]:
    """Return what a site-packages folder has, by normalized name."""
    found = {}
    for info in sorted(site.glob("*.dist-info")) + sorted(site.glob("*.egg-info")):
        stem = info.name.rsplit(".", 1)[0]
        name, _, version = stem.partition("-")
        metadata = info / ("METADATA" if info.suffix == ".dist-info" else "PKG-INFO")
        if metadata.is_file():
            version = _field(metadata, "Version") or version
            name = _field(metadata, "Name") or name
        found[normalize(name)] = Distribution(name, version, info)
    return found


def _field(path: Path, name: str) -> str:
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            if not line.strip():
                break
            if line.lower().startswith(f"{name.lower()}:"):
                return line.partition(":")[2].strip()
    return ""


def files_of(distribution: Distribution, site: Path, root: Path) -> list[tuple[str, str]]:
    """Return the files of a distribution below ``root``, each with the digest of its RECORD."""
    rows = distribution.rows()
    if rows is None:
        msg = (
            f"{distribution.name} {distribution.version} in {site} was not installed from a wheel, "
            "so nobody knows its files. Remove it by the tool that installed it, or take a new "
            "environment."
        )
        raise UsageError(msg)
    found = []
    for row in rows:
        path = Path(os.path.normpath(site / row[0]))
        if root in path.parents:
            found.append((str(path.relative_to(root)), row[1] if len(row) > 1 else ""))
    return found


def record_digest(content: bytes) -> str:
    """Write a digest as RECORD has it."""
    raw = hashlib.sha256(content).digest()
    return "sha256=" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def correct_records(site: Path, changed: Iterable[Path]) -> None:
    """Write the digests of files anew that were changed after their installation."""
    wanted = {os.path.normpath(path): path for path in changed}
    for distribution in installed(site).values():
        rows = distribution.rows() or []
        hits = [row for row in rows if os.path.normpath(site / row[0]) in wanted and len(row) > 2]
        for row in hits:
            content = wanted[os.path.normpath(site / row[0])].read_bytes()
            row[1:3] = [record_digest(content), str(len(content))]
        if hits:
            stream = io.StringIO(newline="")
            csv.writer(stream, lineterminator="\n").writerows(rows)
            replace(distribution.info / "RECORD", stream.getvalue().encode("utf-8"))


def keep_replaced(
    root: Path, site: Path, distributions: Iterable[Distribution], folder: Path
) -> list[dict[str, str]]:
    """Put links to the files of what is about to be replaced aside, for the way back."""
    kept = []
    for distribution in distributions:
        for name, _ in files_of(distribution, site, root):
            if (root / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.link(root / name, folder / name)
        kept.append({"name": distribution.name, "version": distribution.version})
    return kept


def write_receipt(
    root: Path,
    site: Path,
    *,
    digest: str,
    names: Iterable[str],
    replaced: list[dict[str, str]],
    created: bool,
) -> None:
    """Write down what was put in, file by file."""
    folder = root / RECEIPTS
    folder.mkdir(parents=True, exist_ok=True)
    here = installed(site)
    receipt: dict[str, Any] = {
        "bundle": digest,
        "created": created,
        "distributions": [
            {"files": files_of(here[name], site, root), "name": name, "version": here[name].version}
            for name in sorted(names)
        ],
        "format": 1,
        "number": 1 + max([int(path.name[:4]) for path in folder.glob("*.json")], default=0),
        "replaced": replaced,
    }
    path = folder / f"{receipt['number']:04}-{digest[:12]}.json"
    replace(path, json.dumps(receipt, indent=1, sort_keys=True).encode() + b"\n")


def last_receipt(root: Path) -> tuple[Path, dict[str, Any]]:
    """Return what was installed last."""
    paths = sorted((root / RECEIPTS).glob("*.json"))
    if not paths:
        msg = f"Nothing in {root} was installed from a bundle: it has no receipt."
        raise UsageError(msg)
    return paths[-1], dict(json.loads(paths[-1].read_text(encoding="utf-8")))


def take_out(root: Path, receipt: dict[str, Any]) -> list[str]:
    """Remove the files of a receipt; return those that somebody changed, which stay."""
    changed = []
    folders = set()
    for distribution in receipt["distributions"]:
        for name, digest in distribution["files"]:
            path = root / name
            if not path.is_file() and not path.is_symlink():
                continue
            if digest.startswith("sha256=") and record_digest(path.read_bytes()) != digest:
                changed.append(name)
                continue
            path.unlink()
            folders.update(path.parents)
            _remove_bytecode(path)
    for folder in sorted(folders, key=lambda one: -len(one.parts)):
        if root in folder.parents and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return changed


def _remove_bytecode(path: Path) -> None:
    cache = path.parent / "__pycache__"
    if path.suffix == ".py" and cache.is_dir():
        for file in cache.glob(f"{path.stem}.*.pyc"):
            file.unlink()
        if not any(cache.iterdir()):
            cache.rmdir()


def put_back(root: Path, folder: Path) -> None:
    """Put the files of what was replaced to where they were."""
    for current, _, names in os.walk(folder):
        for name in names:
            source = Path(current, name)
            target = root / source.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                os.link(source, target)
