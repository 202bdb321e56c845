"""The installer on bundles as they should be."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wheelyard.shipping.bundle import Written

    Install = Callable[..., subprocess.CompletedProcess[str]]
    Bundle = Callable[..., Written]
    Look = Callable[[Path], dict[str, object]]


def run(folder: Path, code: str) -> str:
    command = [str(folder / "bin" / "python"), "-I", "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_new_environment_has_everything_and_says_what_works(
    tmp_path: Path, make_bundle: Bundle, install: Install, tool: str
) -> None:
    bundle = make_bundle()
    target = tmp_path / "new"
    python = sys.executable if tool == "pip" else ""  # which has pip
    done = install(bundle.paths[0], "--into", target, "--with", tool, python=python)
    assert done.returncode == 0, done.stderr
    assert f"digest sha256:{bundle.digest}" in done.stderr
    assert "demo-ext 1.0: " in done.stderr
    assert run(target, "import demo_ext, demo_helper; print(demo_ext.version)") == "1.0"
    script = (target / "bin" / "demo").read_text()
    assert str(target / "bin" / "python") in script
    assert ".installing-" not in script
    assert not list(tmp_path.glob(".new*"))


def test_environment_that_was_made_goes_with_its_bundle(
    tmp_path: Path, make_bundle: Bundle, install: Install
) -> None:
    target = tmp_path / "new"
    install(make_bundle().paths[0], "--into", target)
    assert target.is_dir()
    done = install("--uninstall", "--into", target)
    assert done.returncode == 0, done.stderr
    assert not target.exists()


def test_existing_environment_is_as_before_after_uninstalling(
    make_bundle: Bundle, install: Install, environment: Path, look: Look
) -> None:
    before = look(environment)
    done = install(make_bundle().paths[0], "--into", environment)
    assert done.returncode == 0, done.stderr
    assert "demo-helper 1.1 -> 1.5" in done.stderr
    assert run(environment, "import demo_ext, demo_helper; print(demo_helper.x)") == "1"
    done = install("--uninstall", "--into", environment)
    assert done.returncode == 0, done.stderr
    assert "put back demo-helper 1.1" in done.stderr
    after = look(environment)
    assert {name: facts for name, facts in after.items() if "__pycache__" not in name} == before


def test_environment_that_has_everything_is_not_touched(
    make_bundle: Bundle, install: Install, environment: Path, look: Look
) -> None:
    bundle = make_bundle()
    install(bundle.paths[0], "--into", environment)
    before = look(environment)
    done = install(bundle.paths[0], "--into", environment)
    assert "has everything already" in done.stderr
    assert look(environment) == before


def test_file_that_was_changed_after_installing_stays(
    make_bundle: Bundle, install: Install, environment: Path
) -> None:
    install(make_bundle().paths[0], "--into", environment)
    (changed,) = environment.glob("lib/python*/site-packages/demo_ext/__init__.py")
    changed.write_text("mine = True\n")
    done = install("--uninstall", "--into", environment)
    assert f"left {changed.relative_to(environment)}" in done.stderr
    assert changed.read_text() == "mine = True\n"


def test_parts_are_one_bundle_whichever_is_named(
    tmp_path: Path, make_bundle: Bundle, install: Install
) -> None:
    whole = make_bundle()
    parts = make_bundle(name="parted.tar", part_size=8_000_000)
    assert len(parts.paths) > 2
    assert parts.digest == whole.digest
    joined = b"".join(path.read_bytes() for path in parts.paths)
    assert joined == whole.paths[0].read_bytes()
    done = install(parts.paths[1], "--into", tmp_path / "new")
    assert done.returncode == 0, done.stderr


def test_delta_holds_the_changed_wheel_only_and_needs_the_earlier_bundle(
    tmp_path: Path, make_bundle: Bundle, install: Install
) -> None:
    from wheelyard.shipping.installer.archive import open_bundle  # noqa: PLC0415

    first = make_bundle(name="first.tar")
    sums = frozenset(open_bundle(first.paths[0]).sums.values())
    delta = make_bundle(name="delta.tar", version="2.0", earlier=(first.digest, sums))
    whole = make_bundle(name="whole.tar", version="2.0")
    assert delta.digest == whole.digest
    assert delta.size < whole.size / 100
    refused = install(delta.paths[0], "--into", tmp_path / "new")
    assert refused.returncode == 2
    assert f"delta against the bundle with digest {first.digest}" in refused.stderr
    done = install(delta.paths[0], "--base", first.paths[0], "--into", tmp_path / "new")
    assert done.returncode == 0, done.stderr
    assert run(tmp_path / "new", "import demo_ext; print(demo_ext.version)") == "2.0"
    wrong = install(delta.paths[0], "--base", whole.paths[0], "--into", tmp_path / "other")
    assert wrong.returncode == 2
    assert "Name the right one with --base" in wrong.stderr


def test_unpacked_bundle_installs_itself(tmp_path: Path, make_bundle: Bundle) -> None:
    folder = tmp_path / "unpacked"
    folder.mkdir()
    subprocess.run(["tar", "-xf", make_bundle().paths[0], "-C", folder], check=True)
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], check=True, cwd=folder)
    python = os.path.realpath(sys.executable)
    command = [python, "-I", str(folder / "install.py"), "--into", str(tmp_path / "new")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_same_members_give_the_same_bytes(make_bundle: Bundle) -> None:
    first, second = make_bundle(name="one.tar"), make_bundle(name="two.tar")
    assert first.paths[0].read_bytes() == second.paths[0].read_bytes()


def test_signature_is_verified_offline_where_a_key_is_configured(
    tmp_path: Path, make_bundle: Bundle, install: Install
) -> None:
    from wheelyard.shipping.bundle import sign_bundle  # noqa: PLC0415
    from wheelyard.shipping.installer.archive import open_bundle  # noqa: PLC0415

    for name in ("ours", "theirs"):
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
        subprocess.run(key, check=True)
    public = (tmp_path / "ours.pub").read_text()
    allowed = tmp_path / "allowed_signers"
    allowed.write_text(f"builder@example.org {public}")
    bundle = make_bundle().paths[0]
    words = (bundle, "--verify", "--allowed-signers", allowed)
    unsigned = install(*words)
    assert unsigned.returncode == 8
    assert "has no signature" in unsigned.stderr
    sums = open_bundle(bundle).sums_text
    sign_bundle(sums, key=tmp_path / "ours", path=bundle, env=os.environ)
    done = install(*words)
    assert done.returncode == 0, done.stderr
    assert "signed by builder@example.org" in done.stderr
    sign_bundle(sums, key=tmp_path / "theirs", path=bundle, env=os.environ)
    assert install(*words).returncode == 8
    sign_bundle(sums + b" ", key=tmp_path / "ours", path=bundle, env=os.environ)
    assert install(*words).returncode == 8
