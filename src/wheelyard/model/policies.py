"""What each manylinux policy promises of a system, from the data that auditwheel ships."""

from __future__ import annotations

import dataclasses
import functools
import re
from importlib import resources
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wheelyard.model.cell import Machine

_NAME = re.compile(r"manylinux_(\d+)_(\d+)")
_NUMBERED = re.compile(r"GLIBC_(\d{1,6})\.(\d{1,6})(?:\.\d+)?")

_DISTRIBUTIONS: Final = (
    ((2, 5), "RHEL 5"),
    ((2, 12), "RHEL 6"),
    ((2, 17), "RHEL 7"),
    ((2, 24), "Debian 9"),
    ((2, 26), "Amazon Linux 2"),
    ((2, 27), "Ubuntu 18.04"),
    ((2, 28), "RHEL 8"),
    ((2, 28), "Debian 10"),
    ((2, 31), "Ubuntu 20.04"),
    ((2, 31), "Debian 11"),
    ((2, 34), "RHEL 9"),
    ((2, 34), "Amazon Linux 2023"),
    ((2, 35), "Ubuntu 22.04"),
    ((2, 36), "Debian 12"),
    ((2, 39), "Ubuntu 24.04"),
    ((2, 39), "RHEL 10"),
    ((2, 41), "Debian 13"),
)


class _Entry(msgspec.Struct, frozen=True):
    name: str
    symbol_versions: dict[str, dict[str, list[str]]]
    lib_whitelist: list[str]
    blacklist: dict[str, list[str]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """One manylinux policy, for one machine."""

    glibc: tuple[int, int]
    versions: Mapping[str, frozenset[str]]
    """By set, as ``GLIBCXX``: the symbol versions that every such system has."""
    libraries: frozenset[str]
    """The libraries that every such system has."""
    forbidden: Mapping[str, frozenset[str]]
    """By library: the symbols that not every such system has, whatever its version."""

    @property
    def name(self) -> str:
        return f"manylinux_{self.glibc[0]}_{self.glibc[1]}"

    def has_version(self, version: str, *, glibc: tuple[int, int]) -> bool:
        """Whether systems of this policy, with at least that glibc, have this symbol version.

        Sets of libraries that no policy speaks of are nobody's promise, and let through.
        """
        number = glibc_number(version)
        if number is not None and number <= glibc:
            return True
        name, _, rest = version.partition("_")
        return name not in self.versions or rest in self.versions[name]


def glibc_number(version: str) -> tuple[int, int] | None:
    """For example 2.34 for ``GLIBC_2.34``; None for what is not a release of glibc."""
    match = _NUMBERED.fullmatch(version)
    return None if match is None else (int(match[1]), int(match[2]))


@functools.cache
def manylinux_policies(machine: Machine) -> tuple[Policy, ...]:
    """Return every policy that auditwheel knows for the machine, the oldest systems first."""
    path = resources.files("auditwheel").joinpath("policy", "manylinux-policy.json")
    entries = msgspec.json.decode(path.read_bytes(), type=list[_Entry])
    policies = [
        Policy(
            glibc=(int(match[1]), int(match[2])),
            versions={
                name: frozenset(versions)
                for name, versions in entry.symbol_versions[machine].items()
            },
            libraries=frozenset(entry.lib_whitelist),
            forbidden={name: frozenset(symbols) for name, symbols in entry.blacklist.items()},
        )
        for entry in entries
        if machine in entry.symbol_versions and (match := _NAME.fullmatch(entry.name))
    ]
    return tuple(sorted(policies, key=lambda policy: policy.glibc))


def policy_for(glibc: tuple[int, int], machine: Machine) -> Policy:
    """Return the newest policy for systems with that glibc; the oldest where there is none."""
    policies = manylinux_policies(machine)
    return next((one for one in reversed(policies) if one.glibc <= glibc), policies[0])


def oldest_policy_with(versions: Iterable[str], machine: Machine) -> Policy | None:
    """Return the first policy all of whose systems have these symbol versions, if there is one."""
    versions = tuple(versions)
    for policy in manylinux_policies(machine):
        if all(policy.has_version(version, glibc=policy.glibc) for version in versions):
            return policy
    return None


def distributions_with(glibc: tuple[int, int], *, before: tuple[int, int]) -> tuple[str, ...]:
    """Return well-known distributions whose glibc is ``glibc`` or newer, but older than another."""
    return tuple(name for version, name in _DISTRIBUTIONS if glibc <= version < before)


def first_distributions(glibc: tuple[int, int], *, count: int = 3) -> tuple[str, ...]:
    """Return the oldest of the well-known distributions that have this glibc."""
    return tuple(name for version, name in _DISTRIBUTIONS if version >= glibc)[:count]
