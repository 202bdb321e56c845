"""How quick bundles are; ratios to the plain tools that touch the same files once.

Bundling against `sha256sum` and `cp`, an offline install against `sha256sum` and
`uv pip install`, and a delta of one changed wheel against the whole. Run it on a quiet machine,
with a bundle made by `wheelyard bundle` and a Python that it is for:

    python benchmarks/bundling.py BUNDLE --python python3.12 --scratch FOLDER
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import uv
from rich.console import Console
from rich.table import Table

from wheelyard.files import file_sha256
from wheelyard.shipping.bundle import Member, file_member, text_member, write_bundle
from wheelyard.shipping.installer.archive import Bundle, open_bundle
from wheelyard.shipping.installer.manifest import parse_manifest

if TYPE_CHECKING:
    from collections.abc import Callable

Figures = dict[str, float]


def main() -> None:
    """Measure and print; with ``--json FILE`` keep the figures too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--python", required=True, help="a Python that the bundle is for")
    parser.add_argument("--scratch", type=Path, required=True, help="a folder on the disk to try")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    scratch = arguments.scratch / "bundling-benchmark"
    scratch.mkdir(parents=True)
    try:
        figures = measure(arguments, scratch)
    finally:
        shutil.rmtree(scratch)
    show(figures)
    print(json.dumps(figures, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def measure(arguments: argparse.Namespace, scratch: Path) -> Figures:
    """Return medians in seconds, and ratios; what is compared takes turns."""
    bundle = open_bundle(arguments.bundle)
    folder = scratch / "unpacked"
    bundle.verify(lambda name: folder / name)
    members = members_of(bundle, folder)
    python = shutil.which(arguments.python) or arguments.python
    wheels = sorted((folder / "wheels").glob("*.whl"))
    figures: Figures = {"gigabytes": sum(path.stat().st_size for path in wheels) / 1e9}
    figures |= alternate(
        arguments.runs,
        plain_copy=lambda: copy_plainly(wheels, scratch / "copied"),
        bundling=lambda: bundle_again(members, scratch / "again.tar"),
    )
    figures["bundling_ratio"] = figures["bundling"] / figures["plain_copy"]
    figures |= delta(members, folder, scratch)
    figures |= alternate(
        arguments.runs,
        plain_install=lambda: install_plainly(bundle, folder, python, scratch / "plain"),
        offline_install=lambda: install_bundle(arguments.bundle, python, scratch / "bundled"),
    )
    figures["install_ratio"] = figures["offline_install"] / figures["plain_install"]
    return figures


def members_of(bundle: Bundle, folder: Path) -> list[Member]:
    """Return the members of an unpacked bundle, to be written once more."""
    return [
        file_member(name, folder / name, sha256=sha256)
        if name.endswith(".whl")
        else text_member(name, (folder / name).read_bytes())
        for name, sha256 in bundle.sums.items()
    ]


def alternate(runs: int, **actions: Callable[[], tuple[Path, ...]]) -> Figures:
    """Run the actions in turn, and return the median of each; what they made is then removed."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(runs):
        # who is first finds the cache of the disk as the other left it
        order = list(actions) if number % 2 == 0 else list(reversed(actions))
        for name in order:
            os.sync()
            started = time.perf_counter()
            made = actions[name]()
            os.sync()
            seconds[name].append(time.perf_counter() - started)
            for path in made:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    return {name: statistics.median(found) for name, found in seconds.items()}


def copy_plainly(wheels: list[Path], target: Path) -> tuple[Path, ...]:
    """Do what nobody can do without: digest every file, and copy it to the disk."""
    target.mkdir()
    subprocess.run([tool("sha256sum"), *wheels], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([tool("cp"), *wheels, target], check=True)
    return (target,)


def tool(name: str) -> str:
    return shutil.which(name) or name


def bundle_again(members: list[Member], target: Path) -> tuple[Path, ...]:
    return write_bundle(members, target).paths


def delta(members: list[Member], folder: Path, scratch: Path) -> Figures:
    """Change the smallest wheel of ours by nothing but its bytes, and bundle the difference."""
    wheels = [member for member in members if member.name.endswith(".whl")]
    changed = min(wheels, key=lambda member: member.size)
    path = scratch / Path(changed.name).name
    path.write_bytes((folder / changed.name).read_bytes() + b"changed")
    new = dataclasses.replace(
        changed, source=path, sha256=file_sha256(path), size=path.stat().st_size
    )
    others = [member for member in members if member is not changed]
    known = frozenset(member.sha256 for member in members)
    started = time.perf_counter()
    target = scratch / "delta.tar"
    written = write_bundle([*others, new], target, base="0" * 64, left_out=known)
    seconds = time.perf_counter() - started
    target.unlink()
    whole = sum(member.size for member in members)
    return {
        "delta_seconds": seconds,
        "delta_bytes_beside_the_wheel": written.size - new.size,
        "delta_share": written.size / whole,
    }


def install_plainly(bundle: Bundle, folder: Path, python: str, target: Path) -> tuple[Path, ...]:
    """Digest every file of the folder, and let uv install from it into a new environment."""
    (cell, *_) = parse_manifest(bundle.read("bundle.json"))["cells"]
    requirements = folder / "cells" / cell["identifier"] / "requirements.txt"
    wheels = sorted((folder / "wheels").glob("*.whl"))
    subprocess.run([tool("sha256sum"), *wheels], check=True, stdout=subprocess.DEVNULL)
    program = uv.find_uv_bin()
    env = {**os.environ, "UV_CACHE_DIR": str(target.with_name("plain-cache"))}
    quiet = ["--quiet", "--offline", "--no-config"]
    subprocess.run([program, "venv", *quiet, "--python", python, target], check=True, env=env)
    command = [program, "pip", "install", *quiet, "--no-index", "--no-deps", "--require-hashes"]
    command += ["--find-links", str(folder / "wheels")]
    command += ["--python", str(target / "bin" / "python")]
    subprocess.run([*command, "--requirement", requirements], check=True, env=env)
    return target, target.with_name("plain-cache")


def install_bundle(bundle: Path, python: str, target: Path) -> tuple[Path, ...]:
    """Install by the bundle's own installer, without the smoke tests."""
    script = target.with_name("install.py")
    script.write_bytes(open_bundle(bundle).read("install.py"))
    words = ["--into", str(target), "--no-smoke", "--force"]
    command = [python, "-I", str(script), str(bundle), *words]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return (target,)


def show(figures: Figures) -> None:
    table = Table("what", "seconds or share", title=f"{figures['gigabytes']:.2f} GB of wheels")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), f"{value:.3f}")
    Console(file=sys.stderr).print(table)


if __name__ == "__main__":
    main()
