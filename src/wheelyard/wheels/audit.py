"""What auditwheel says about a wheel, and the platform tag that follows from it."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from wheelyard.errors import MachineError, ProcessError, RepairError
from wheelyard.run import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from wheelyard.model.platform import PlatformFloor

_ALIASES = {
    "manylinux_2_5": "manylinux1",
    "manylinux_2_12": "manylinux2010",
    "manylinux_2_17": "manylinux2014",
}
_POLICY = re.compile(r"(?P<policy>manylinux_(?P<major>\d+)_(?P<minor>\d+))_(?P<machine>\w+)")
_SYMBOL = re.compile(r"(?P<set>GLIBC|GLIBCXX|CXXABI|GCC)_(?P<version>\d+(\.\d+)*)")
_ERROR = re.compile(r'^\s*"error": (?P<text>".*")$', re.MULTILINE)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """What ``auditwheel show`` says about a wheel, as far as repair needs it."""

    symbols_tag: str
    """The lowest platform tag that the versioned symbols allow."""
    fits_baseline: bool
    """Whether it runs on every processor of its machine."""
    external: Mapping[str, str | None]
    """SONAME of each library outside, and where this machine has it."""
    to_eliminate: Mapping[str, frozenset[str]]
    """By platform tag: the libraries that may not be outside."""
    forbidden_symbols: frozenset[str]
    """The platform tags that forbid a symbol the wheel uses."""
    symbols: tuple[str, ...]
    """Every versioned symbol set that is needed, for example ``GLIBC_2.14``."""

    @property
    def machine(self) -> str:
        match = _POLICY.fullmatch(self.symbols_tag)
        return match["machine"] if match else self.symbols_tag.removeprefix("linux_")

    @property
    def newest_symbols(self) -> tuple[str, ...]:
        """The newest version of each set that the C and C++ libraries of the system have."""
        newest: dict[str, Version] = {}
        for match in filter(None, map(_SYMBOL.fullmatch, self.symbols)):
            version = Version(match["version"])
            newest[match["set"]] = max(version, newest.get(match["set"], version))
        return tuple(f"{name}_{version}" for name, version in sorted(newest.items()))


def show_wheel(wheel: Path, *, env: Mapping[str, str], scratch: Path) -> Audit:
    """Run ``auditwheel show`` in such a way that libraries of this machine do not count."""
    nowhere = scratch / "no-libraries"
    command: list[str | Path] = [
        auditwheel_path(env),
        "show",
        "--json",
        f"--ldpaths={nowhere}",
        wheel,
    ]
    try:
        output = run(command, env=tool_environment(env, scratch)).output
    except ProcessError as error:
        msg = f"{wheel.name} cannot be repaired: {last_words(error)}"
        raise RepairError(msg) from error
    return parse_audit(output)


def parse_audit(output: str) -> Audit:
    """Parse what ``auditwheel show --json`` wrote, between lines of its log."""
    lines = output.splitlines()
    try:
        first = lines.index("{")
        last = len(lines) - lines[::-1].index("}")
        document: dict[str, Any] = json.loads("\n".join(lines[first:last]))
        upgrades: dict[str, Any] = document["policy_upgrades"]
        return Audit(
            symbols_tag=document["sym_tag"],
            fits_baseline=not document["unsupported_isa"],
            external=document["external_libs"],
            to_eliminate={
                tag: frozenset(entry.get("libs_to_eliminate", ()))
                for tag, entry in upgrades.items()
            },
            forbidden_symbols=frozenset(
                tag for tag, entry in upgrades.items() if entry.get("blacklisted_symbols")
            ),
            symbols=tuple(
                symbol for found in document["versioned_symbols"].values() for symbol in found
            ),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        msg = (
            f"auditwheel says something that this wheelyard does not understand ({error!r}):\n"
            f"{output[-2000:]}\nInstall the auditwheel that wheelyard asks for."
        )
        raise RepairError(msg) from error


def lowest_platform_tag(audit: Audit, excludes: Iterable[str]) -> str | None:
    """Return the platform tag that most machines accept, or None where a graft is needed.

    For example ``manylinux_2_24_x86_64`` or ``manylinux2014_x86_64.manylinux_2_17_x86_64``.
    """
    patterns = tuple(excludes)
    if not audit.fits_baseline:
        msg = (
            f"The wheel uses processor instructions that not every {audit.machine} machine has. "
            "Take -march=native or its like out of the build's flags."
        )
        raise RepairError(msg)
    if _policy(audit.symbols_tag) is None:
        msg = (
            "The wheel uses system symbols newer than any manylinux policy knows: "
            f"{', '.join(audit.newest_symbols)}. Build it on an older distribution."
        )
        raise RepairError(msg)
    tags = {audit.symbols_tag, *audit.to_eliminate, *audit.forbidden_symbols}
    lowest = _policy(audit.symbols_tag) or ()
    known = sorted((policy, tag) for tag in tags if (policy := _policy(tag)) is not None)
    for policy, tag in known:
        outside = audit.to_eliminate.get(tag, frozenset())
        is_whole = all(is_excluded(library, patterns) for library in outside)
        if policy >= lowest and is_whole and tag not in audit.forbidden_symbols:
            return _with_alias(tag)
    return None


def is_misled(audit: Audit, patterns: Sequence[str]) -> bool:
    """Whether auditwheel found an excluded library, over an RPATH, and counted its symbols."""
    return any(
        path is not None and is_excluded(library, patterns)
        for library, path in audit.external.items()
    )


def is_excluded(soname: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(soname, pattern) for pattern in patterns)


def _policy(tag: str) -> tuple[int, int] | None:
    match = _POLICY.fullmatch(tag)
    return None if match is None else (int(match["major"]), int(match["minor"]))


def is_above(tag: str, floor: PlatformFloor) -> bool:
    """Whether a platform tag speaks of newer systems only, or of none that a policy knows."""
    policies = [policy for one in tag.split(".") if (policy := _policy(one)) is not None]
    return not policies or min(policies) > floor.glibc


def _with_alias(tag: str) -> str:
    """Add the name that the policy had before PEP 600, as auditwheel does."""
    match = _POLICY.fullmatch(tag)
    if match is None or match["policy"] not in _ALIASES:
        return tag
    return ".".join(sorted((tag, f"{_ALIASES[match['policy']]}_{match['machine']}")))


def auditwheel_path(env: Mapping[str, str]) -> str:
    """Return the auditwheel beside our own interpreter, else the one on PATH."""
    path = _tool_path(env)
    found = shutil.which("auditwheel", path=path)
    if found is None:
        msg = f"There is no auditwheel on PATH ({path}). Install wheelyard with its dependencies."
        raise MachineError(msg)
    return found


def _tool_path(env: Mapping[str, str]) -> str:
    return os.pathsep.join(filter(None, [str(Path(sys.executable).parent), env.get("PATH")]))


def tool_environment(env: Mapping[str, str], scratch: Path) -> dict[str, str]:
    """Return an environment that does not change what auditwheel finds and writes."""
    kept = {key: value for key, value in env.items() if not key.startswith(("AUDITWHEEL_", "LD_"))}
    return kept | {"PATH": _tool_path(env), "TMPDIR": str(scratch)}


def last_words(error: ProcessError) -> str:
    """Return what auditwheel gives as the reason, else the last line that it wrote."""
    reason = _ERROR.search(error.tail)
    lines = [line.strip() for line in error.tail.splitlines() if line.strip()]
    if reason is not None:
        return str(json.loads(reason["text"]))
    return lines[-1] if lines else str(error)
