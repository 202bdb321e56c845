"""The index that serves one wheel."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import uv
from packaging.version import Version

from wheelyard.wheels.staging import stage_wheel
from wheelyard.wheels.stamp import read_dist_info
from wheelyard.wheels.values import RepairedWheel

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION = "1.0+cu130.torch2.11.0"


def _repaired(path: Path) -> RepairedWheel:
    return RepairedWheel(
        path=path,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        version=Version(VERSION),
        platform_tag="any",
        external_libraries=(),
        grafted_libraries=(),
        policy_symbols=(),
    )


def test_installer_finds_exactly_this_wheel_by_name_version_and_digest(
    make_wheel: Callable[..., Path], tmp_path: Path
) -> None:
    wheel = _repaired(make_wheel(name="demo-ext", version=VERSION, build="2"))
    url = stage_wheel(wheel, folder=tmp_path / "staging")
    listing = tmp_path / "requirements.txt"
    pin = f"demo-ext=={VERSION} --hash=sha256:{wheel.sha256}\n"
    listing.write_text(pin, encoding="ascii")
    command = [uv.find_uv_bin(), "pip", "install", "--offline", "--no-cache", "--no-config"]
    command += ["--default-index", url, "--require-hashes", "--python", sys.executable]
    command += ["--target", str(tmp_path / "site"), "--requirements", str(listing)]
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    subprocess.run(command, check=True, env=env)
    assert (tmp_path / "site" / "demo_ext-1.0+cu130.torch2.11.0.dist-info").is_dir()


def test_metadata_lies_beside_the_wheel_with_its_digest_in_the_page(
    make_wheel: Callable[..., Path], tmp_path: Path
) -> None:
    wheel = _repaired(make_wheel(version=VERSION))
    url = stage_wheel(wheel, folder=tmp_path / "with space")
    page = Path(unquote(urlsplit(url).path), "demo")
    metadata = read_dist_info(wheel.path, "METADATA")
    assert (page / f"{wheel.path.name}.metadata").read_bytes() == metadata
    html = (page / "index.html").read_text(encoding="utf-8")
    assert hashlib.sha256(metadata).hexdigest() in html
    assert f"#sha256={wheel.sha256}" in html
    # a plus in a URL means itself only when it is quoted
    assert f'href="{wheel.path.name.replace("+", "%2B")}#' in html
