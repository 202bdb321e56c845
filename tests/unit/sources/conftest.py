"""Archives, made entry by entry, and what a source stage needs around it."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from wheelyard.model.source import SdistSource
from wheelyard.sources.values import FetchedSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    ".tar": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    home = tmp_path / "home"
    home.mkdir()
    return {"PATH": os.environ["PATH"], "HOME": str(home)}


@pytest.fixture
def make_tar(tmp_path: Path) -> Callable[..., Path]:
    """Write a tar from ``(name, content)`` pairs and whole ``TarInfo`` entries."""

    def make(*entries: tuple[str, str] | tarfile.TarInfo, name: str = "a.tar.gz") -> Path:
        path = tmp_path / name
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for entry in entries:
                if isinstance(entry, tarfile.TarInfo):
                    tar.addfile(entry)
                    continue
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1].encode())
                info.mode = 0o755 if entry[0].endswith(".sh") else 0o600
                tar.addfile(info, io.BytesIO(entry[1].encode()))
        path.write_bytes(_COMPRESSIONS[path.suffix](buffer.getvalue()))
        return path

    return make


@pytest.fixture
def fetch_sdist(make_tar: Callable[..., Path]) -> Callable[..., FetchedSource]:
    """Return the fetched source whose sdist has these files: ``fetch_sdist(**{"a.py": "x"})``."""

    def fetch(**files: str) -> FetchedSource:
        entries = [(f"probe-1.0/{name}", text) for name, text in files.items()]
        path = make_tar(*entries, name="probe-1.0.tar.gz")
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        size = path.stat().st_size
        source = SdistSource(name="probe", filename=path.name, sha256=sha256, size=size)
        return FetchedSource(source=source, path=path, digest=f"sha256:{sha256}")

    return fetch
