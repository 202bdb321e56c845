"""The steps of installing, uninstalling and verifying, in their order."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any, Callable

from wheelyard.shipping.installer.archive import Bundle, open_bundle
from wheelyard.shipping.installer.distributions import (
    REPLACED,
    Distribution,
    correct_records,
    installed,
    keep_replaced,
    last_receipt,
    put_back,
    take_out,
    write_receipt,
)
from wheelyard.shipping.installer.installing import Tool, unpack_uv
from wheelyard.shipping.installer.interpreter import (
    HOME,
    keep_links_inside,
    require_running,
    unpack_interpreter,
)
from wheelyard.shipping.installer.layout import MANIFEST, WHEELS
from wheelyard.shipping.installer.machine import Driver, ask_python, find_driver, misfits
from wheelyard.shipping.installer.manifest import (
    CellEntry,
    Package,
    choose_cell,
    normalize,
    parse_manifest,
)
from wheelyard.shipping.installer.place import (
    Place,
    copy_environment,
    hold,
    put_in_place,
    remove,
    rename_inside,
    require_space,
    take_away,
)
from wheelyard.shipping.installer.problems import BreakageError, MisfitError, UsageError
from wheelyard.shipping.installer.signature import find_allowed_signers, verify_signature
from wheelyard.shipping.installer.smoking import describe, run_smoke_test

Say = Callable[[str], None]


class Order:
    """What the user asks for."""

    def __init__(
        self,
        *,
        bundle: Path,
        into: Path,
        python: Path | None = None,
        base: Path | None = None,
        cell: str = "",
        tool: str = "uv",
        allowed_signers: Path | None = None,
        smoke: bool = True,
        force: bool = False,
        made_here: bool = False,
    ) -> None:
        self.bundle = bundle
        self.into = into
        self.python = python
        """Of a new environment; without it the bundle's own, or else the one that runs this."""
        self.base = base
        self.cell = cell
        self.tool = tool
        self.allowed_signers = allowed_signers
        self.smoke = smoke
        self.force = force
        self.made_here = made_here
        """The bundle is this machine's own, of files that were verified one by one: unsigned."""


def open_trusted(
    path: Path, say: Say, *, base: Path | None = None, allowed: Path | None = None
) -> Bundle:
    """Open a bundle, say its digest, and verify its signature where keys are configured."""
    bundle = open_bundle(path, base)
    say(f"bundle {path}")
    say(f"digest sha256:{bundle.digest}")
    signers = find_allowed_signers(allowed)
    if signers is None:
        say("signature not looked at: no allowed_signers is configured here")
    else:
        say(f"signed by {verify_signature(path, bundle.sums_text, signers)}")
    return bundle


def verify(path: Path, say: Say, *, base: Path | None = None, allowed: Path | None = None) -> None:
    """Verify every byte, and nothing else."""
    bundle = open_trusted(path, say, base=base, allowed=allowed)
    bundle.verify(lambda _name: None)
    say(f"{len(bundle.sums)} files, {_gigabytes(bundle.size)}, every byte as it was bundled")


def install(order: Order, say: Say) -> None:
    """Install a bundle: verify, look at the machine, install into a copy, try it, exchange."""
    bundle = _open(order, say)
    manifest = parse_manifest(bundle.read(MANIFEST))
    there = order.into / "bin" / "python"
    bound = there if there.exists() else order.python
    facts = ask_python(bound or Path(sys.executable))
    cell = choose_cell(
        manifest,
        python=facts["version"],
        machine=platform.machine(),
        wanted=order.cell,
        bound=bound is not None,
    )
    brought = cell["interpreter"] if bound is None else None
    driver = find_driver()
    _require_fit(cell, driver, order, say)
    with hold(order.into) as place:
        _require_environment(place, facts)
        present = installed(_site(place.path, facts)) if place.exists else {}
        wanted = [item for item in cell["packages"] if _differs(item, present)]
        own = [manifest["uv"]] if order.tool == "uv" else []
        needed = sum(item["size"] + item["unpacked"] for item in [*wanted, *own])
        require_space(place, needed + (2 * brought["size"] if brought else 0))
        wheels = place.scratch / "wheels"
        say(f"verifying {len(bundle.sums)} files, {_gigabytes(bundle.size)}")
        _bring(bundle, place, wanted, manifest, brought)
        say("every byte is as it was bundled")
        if not wanted:
            say(f"{order.into} has everything already")
            return
        uv = None
        if order.tool == "uv":
            uv = unpack_uv(wheels / manifest["uv"]["file"], place.scratch)
        tool = Tool(place, uv=uv, python=Path(facts["executable"]))
        _make_copy(place, tool, brought, facts)
        say(f"installing {len(wanted)} distributions with {tool.name}")
        _install(bundle, place, tool, cell, wanted, present, order, say)
        if order.smoke:
            say("trying what was installed")
        tested = _smoke(place, cell, driver, order)
        os.sync()  # durable before it becomes the environment
        put_in_place(place)
    say(f"installed {len(wanted)} distributions into {order.into} with {tool.name}")
    for line in tested:
        say(f"  {line}")
    if driver is None:
        say("  (no NVIDIA driver here: imported, not run on a GPU)")
    say(f"use it: . {order.into}/bin/activate")


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


def _open(order: Order, say: Say) -> Bundle:
    if order.made_here:
        return open_bundle(order.bundle, None)
    return open_trusted(order.bundle, say, base=order.base, allowed=order.allowed_signers)


def _require_fit(cell: CellEntry, driver: Driver | None, order: Order, say: Say) -> None:
    reasons = list(misfits(cell, driver))
    if reasons and not order.force:
        msg = f"{' '.join(reasons)} Take another cell or bundle; --force installs it all the same."
        raise MisfitError(msg)
    for reason in reasons:
        say(f"warning: {reason}")


def _require_environment(place: Place, facts: dict[str, str]) -> None:
    if place.exists:
        if facts["prefix"] == facts["base_prefix"] and not (place.path / "conda-meta").is_dir():
            msg = (
                f"{place.path} is the system's Python, which its own tools look after. Make an "
                "environment: leave out --into, or name a new folder."
            )
            raise UsageError(msg)
    elif place.path.is_dir() and any(place.path.iterdir()):
        msg = f"{place.path} is not empty and no environment. Name a new folder with --into."
        raise UsageError(msg)


def _differs(item: Package, present: dict[str, Distribution]) -> bool:
    found = present.get(normalize(item["name"]))
    return found is None or found.version != item["version"]


def _site(root: Path, facts: dict[str, str]) -> Path:
    """Return site-packages of an environment, wherever that lies now."""
    version = facts["version"]
    return root / "lib" / f"python{version}" / "site-packages"


def _bring(
    bundle: Bundle,
    place: Place,
    wanted: list[Package],
    manifest: dict[str, Any],
    brought: dict[str, Any] | None,
) -> None:
    """Verify everything, and unpack what is installed."""
    names = {WHEELS + item["file"] for item in wanted} | {WHEELS + manifest["uv"]["file"]}
    names |= {name for name in bundle.sums if name.startswith("smoke/")}
    names |= {brought["file"]} if brought else set()
    bundle.verify(lambda name: place.scratch / name if name in names else None)


def _make_copy(
    place: Place, tool: Tool, brought: dict[str, Any] | None, facts: dict[str, str]
) -> None:
    """Make what is changed: a copy of the environment, or a new one of the right Python."""
    if place.exists:
        copy_environment(place)
        return
    if brought is None:
        tool.make_environment(Path(facts["executable"]))
        return
    unpack_interpreter(place.scratch / brought["file"], place.copy / HOME)
    (python,) = (place.copy / HOME / "bin").glob("python*")
    require_running(python, brought)
    tool.make_environment(python)
    keep_links_inside(place.copy)


def _install(
    bundle: Bundle,
    place: Place,
    tool: Tool,
    cell: CellEntry,
    wanted: list[Package],
    present: dict[str, Distribution],
    order: Order,
    say: Say,
) -> None:
    created = not place.exists
    site = next((place.copy / "lib").glob(f"python{cell['python']}/site-packages"))
    before = tool.problems() if not created else set()
    changing = [
        installed(site)[normalize(item["name"])]
        for item in wanted
        if normalize(item["name"]) in present
    ]
    for old in changing:
        new = next(one for one in wanted if normalize(one["name"]) == normalize(old.name))
        say(f"  {old.name} {old.version} -> {new['version']}")
    aside = place.copy / REPLACED / bundle.digest[:12]
    remove(aside)
    replaced = keep_replaced(place.copy, site, changing, aside)
    tool.install(wanted, place.scratch / "wheels")
    broken = sorted(tool.problems() - before)
    if broken and not order.force:
        listed = "\n  ".join(broken)
        msg = (
            f"{order.into} has packages that would break:\n  {listed}\nIt was not touched. Take a "
            "new environment, or --force to install it all the same."
        )
        raise BreakageError(msg)
    for line in broken:
        say(f"warning: {line}")
    correct_records(site, rename_inside(place))
    write_receipt(
        place.copy,
        site,
        digest=bundle.digest,
        names=[normalize(item["name"]) for item in wanted],
        replaced=replaced,
        created=created,
    )


def _smoke(place: Place, cell: CellEntry, driver: Driver | None, order: Order) -> list[str]:
    if not order.smoke:
        return ["not tried (--no-smoke)"]
    level = "ran-on-gpu" if driver is not None and driver.gpus else "imported"
    tested = []
    for ours in cell["ours"]:
        script = place.scratch / "smoke" / ours["name"] / "smoke.py"
        if script.is_file():
            report = run_smoke_test(
                place.copy / "bin" / "python", script, level=level, scratch=place.scratch
            )
            tested.append(describe(ours["name"], ours["version"], report))
    return tested


def uninstall(into: Path, say: Say) -> None:
    """Take out exactly what the last bundle put in, and put back what it replaced."""
    with hold(into) as place:
        if not place.exists:
            msg = f"There is no environment {place.path}."
            raise UsageError(msg)
        facts = ask_python(place.path / "bin" / "python")
        path, receipt = last_receipt(place.path)
        names = {item["name"] for item in receipt["distributions"]}
        others = set(installed(_site(place.path, facts))) - names
        if receipt["created"] and not others and not receipt["replaced"]:
            take_away(place)
            say(f"removed {place.path}: it was made for the bundle, and nothing else is in it")
            return
        copy_environment(place)
        changed = take_out(place.copy, receipt)
        aside = place.copy / REPLACED / receipt["bundle"][:12]
        put_back(place.copy, aside)
        remove(aside)
        (place.copy / path.relative_to(place.path)).unlink()
        for folder in (aside.parent, (place.copy / path.relative_to(place.path)).parent):
            for one in (folder, folder.parent, folder.parent.parent):
                if one.is_dir() and one != place.copy and not any(one.iterdir()):
                    one.rmdir()
        put_in_place(place)
    say(f"took {len(names)} distributions out of {into}")
    for item in receipt["replaced"]:
        say(f"  put back {item['name']} {item['version']}")
    for name in changed:
        say(f"  left {name}: it was changed after it was installed")
