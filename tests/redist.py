"""Writes a site of redistributable archives as NVIDIA's is, and serves it on loopback."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import io
import json
import tarfile
import threading
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# Which component brings what, the first match wins; as the real archives have it.
_CUDA_12 = (
    ("cuda_profiler_api", ("include/cudaProfiler*.h", "include/cuda_profiler_api.h")),
    ("cuda_cccl", ("include/cub/*", "include/cuda/*", "include/nv/*", "include/thrust/*")),
    ("cuda_nvcc", ("bin/*", "nvvm/*", "include/crt/*", "include/nvPTXCompiler.h")),
    ("cuda_cudart", ("lib/libcuda*", "lib/libculibos.a", "lib/stubs/libcuda.so", "include/*")),
)
_CUDA_13 = (
    ("cuda_profiler_api", ("include/cudaProfiler*.h", "include/cuda_profiler_api.h")),
    ("cuda_cccl", ("include/cccl/*", "include/nv/*")),
    ("cuda_crt", ("include/crt/*",)),
    ("libnvvm", ("nvvm/*", "include/nvvm.h")),
    ("cuda_nvcc", ("bin/*",)),
    ("cuda_cudart", ("lib/libcuda*", "lib/libculibos.a", "lib/stubs/libcuda.so", "include/*")),
)


class Site:
    """A folder with archives, and the manifest of one release."""

    def __init__(self, folder: Path, release: str) -> None:
        self.folder = folder
        self.release = release
        self.components: dict[str, dict[str, object]] = {}

    def add(
        self,
        component: str,
        files: Mapping[str, bytes | Path],
        *,
        version: str,
        platform: str = "linux-x86_64",
    ) -> None:
        """Pack files, by their name in the toolkit, into an archive with its one top folder."""
        top = f"{component}-{platform}-{version}-archive"
        path = self.folder / component / platform / f"{top}.tar.xz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w:xz", preset=0) as archive:
            _add_bytes(archive, f"{top}/LICENSE", f"licence of {component}\n".encode())
            for name, content in files.items():
                if isinstance(content, bytes):
                    _add_bytes(archive, f"{top}/{name}", content)
                else:
                    archive.add(content, f"{top}/{name}", recursive=False)
        described = self.components.setdefault(component, _component(component, version))
        described[platform] = {"relative_path": str(path.relative_to(self.folder))}
        self.remember(component, platform)

    def entry(self, component: str, platform: str = "linux-x86_64") -> dict[str, object]:
        """Return what the manifest says of an archive, to be changed."""
        entry = self.components[component][platform]
        assert isinstance(entry, dict)
        return entry

    def remember(self, component: str, platform: str = "linux-x86_64") -> None:
        """Write the digests of an archive, as it is now, into the manifest."""
        entry = self.entry(component, platform)
        content = (self.folder / str(entry["relative_path"])).read_bytes()
        entry["sha256"] = hashlib.sha256(content).hexdigest()
        entry["md5"] = hashlib.md5(content).hexdigest()  # noqa: S324 - as NVIDIA does
        entry["size"] = str(len(content))

    def manifest(self) -> bytes:
        head = {
            "release_date": "2024-04-03",
            "release_label": self.release,
            "release_product": "cuda",
        }
        return json.dumps({**head, **self.components}, indent=4).encode()

    def publish(self, manifest: bytes | None = None) -> None:
        """Write the manifest, or something else under its name."""
        path = self.folder / f"redistrib_{self.release}.json"
        path.write_bytes(self.manifest() if manifest is None else manifest)


def _component(name: str, version: str) -> dict[str, object]:
    return {
        "name": f"CUDA {name}",
        "license": "CUDA Toolkit",
        "license_path": f"{name}/LICENSE.txt",
        "version": version,
    }


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o755 if "/bin/" in name else 0o644
    archive.addfile(info, io.BytesIO(content))


def split_toolkit(
    tree: Path, site: Site, *, nvcc_version: str, platform: str = "linux-x86_64"
) -> None:
    """Publish a real toolkit as the archives that a build needs of it."""
    rules = _CUDA_13 if site.release.startswith("13") else _CUDA_12
    parts: dict[str, dict[str, bytes | Path]] = {component: {} for component, _ in rules}
    for path in sorted(tree.rglob("*")):
        name = str(path.relative_to(tree))
        if name.startswith("lib64/"):
            name = name.replace("lib64", "lib", 1)
        if path.is_dir() or name.startswith("targets/"):
            continue
        component = _component_of(name, rules)
        if component is not None:
            parts[component].setdefault(name, path)
    for component, files in parts.items():
        site.add(component, files, version=nvcc_version, platform=platform)
    site.publish()


def _component_of(name: str, rules: tuple[tuple[str, tuple[str, ...]], ...]) -> str | None:
    for component, patterns in rules:
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            return component
    return None


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback; yield its URL."""
    handler = functools.partial(_Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is there
        """Say nothing."""


NVCC = """\
#!/bin/sh
# as much of nvcc as says what it is and where it looks
here=$(dirname "$0")
case " $* " in
  *" --version "*) echo 'Cuda compilation tools, release 12.4, V12.4.131' ;;
  *) . "$here/nvcc.profile" ;;
esac
"""
PROFILE = """\
echo "#\\$ INCLUDES=\\"-I$here/../include\\" "
echo "#\\$ LIBRARIES=  \\"-L$here/../lib64/stubs\\" \\"-L$here/../lib64\\""
"""
PARTS: Mapping[str, Mapping[str, bytes]] = {
    "cuda_cccl": {"include/cuda/__cccl_config": b"config"},
    "cuda_cudart": {
        "include/cuda_runtime.h": b"runtime",
        "lib/libcudadevrt.a": b"devrt",
        "lib/stubs/libcuda.so": b"stub",
    },
    "cuda_nvcc": {
        **dict.fromkeys(("bin/ptxas", "bin/cudafe++", "bin/fatbinary", "nvvm/bin/cicc"), b""),
        "bin/nvcc": NVCC.encode(),
        "bin/nvcc.profile": PROFILE.encode(),
    },
    "cuda_profiler_api": {"include/cuda_profiler_api.h": b"profiler"},
}
"""A CUDA 12.4.1 that is whole, as far as anybody looks who does not compile."""


def change_small_site(site: Site, component: str, changes: Mapping[str, bytes | None]) -> None:
    """Publish a small component anew with files replaced or added, or left out (``None``)."""
    files = {**PARTS[component], **changes}
    kept = {name: content for name, content in files.items() if content is not None}
    site.add(component, kept, version="12.4.131")
    site.publish()


def write_small_site(folder: Path) -> Site:
    """Publish a small CUDA 12.4.1 for both machines."""
    site = Site(folder, "12.4.1")
    for component, files in PARTS.items():
        for platform in ("linux-sbsa", "linux-x86_64"):
            site.add(component, files, version="12.4.131", platform=platform)
    site.publish()
    return site
