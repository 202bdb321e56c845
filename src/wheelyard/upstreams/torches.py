"""New torch builds and new Pythons of known ones, as the index lists them."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename
from packaging.version import Version

from wheelyard.model.cell import MACHINES, CudaVersion, Machine, PythonVersion
from wheelyard.model.wheel_filename import parse_wheel_filename

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

OLDEST: Final = Version("2.4")
_RUNTIMES = re.compile(r"nvidia-cuda-runtime(-cu\d+)?|cuda-toolkit")
_PLATFORM = re.compile(r"(?:many)?linux\w*_(x86_64|aarch64)")
Pythons = dict[Machine, set[PythonVersion]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TorchWheels:
    """The Linux wheels of one torch release."""

    version: Version
    pythons: Mapping[Machine, tuple[PythonVersion, ...]]


def read_wheels(filenames: Iterable[str]) -> dict[Version, TorchWheels]:
    """Return what the filenames on the index say, by release."""
    found: defaultdict[Version, Pythons] = defaultdict(dict)
    for filename in filenames:
        try:
            name, version, _, tags = parse_wheel_filename(filename)
        except InvalidWheelFilename:
            continue
        if name != "torch" or version.is_prerelease or version.local or version < OLDEST:
            continue
        for tag in tags:
            platform = _PLATFORM.fullmatch(tag.platform)
            if platform is not None and re.fullmatch(r"cp\d{2,3}t?", tag.abi):
                machine = next(one for one in MACHINES if one == platform[1])
                python = PythonVersion.parse(tag.abi)
                found[version].setdefault(machine, set()).add(python)
    return {
        version: TorchWheels(
            version=version,
            pythons={machine: tuple(sorted(some)) for machine, some in pythons.items()},
        )
        for version, pythons in found.items()
    }


def read_requirements(metadata: str) -> tuple[Requirement, ...]:
    """Return what METADATA requires."""
    found = []
    for line in metadata.splitlines():
        if line.startswith("Requires-Dist:"):
            try:
                found.append(Requirement(line.partition(":")[2].strip()))
            except InvalidRequirement:
                continue
        elif not line:
            break
    return tuple(found)


def cuda_of(requirements: Iterable[Requirement]) -> CudaVersion | None:
    """Return the CUDA release of the runtime that a torch build pins."""
    for one in requirements:
        pinned = _pinned(one)
        if pinned is not None and _RUNTIMES.fullmatch(one.name):
            return CudaVersion(pinned.major, pinned.minor)
    return None


def _pinned(requirement: Requirement) -> Version | None:
    match = re.search(r"==\s*(\d+(?:\.\d+)*)", str(requirement.specifier))
    return Version(match[1]) if match else None


def new_entry(
    facts: Mapping[str, Any],
    wheels: TorchWheels,
    requirements: Iterable[Requirement],
    cuda: CudaVersion,
) -> dict[str, Any]:
    """Return facts of a new release: what was read here, and the rest from the one before it."""
    before = max(Version(name) for name in facts if Version(name) < wheels.version)
    entry: dict[str, Any] = copy.deepcopy(dict(facts[str(before)]))
    machines = sorted(wheels.pythons)
    pins = {one.name: _pinned(one) for one in requirements}
    triton = next((str(one.specifier) for one in requirements if one.name == "triton"), "")
    entry["builds"] = {
        str(cuda): {
            "cudnn": _version_of(pins, r"nvidia-cudnn-cu\d+"),
            "cxx11_abi": True,
            "evidence": "the index's own build: METADATA read; ABI taken over, not verified",
            "gcc_bounds": None,
            "machines": machines,
            "nccl": _version_of(pins, r"nvidia-nccl-cu\d+"),
        }
    }
    entry["default_cuda"] = dict.fromkeys(machines, str(cuda))
    entry["pythons"] = _written(wheels)
    entry["triton"] = triton
    entry["evidence"] = (
        f"Found by update: Pythons and METADATA read on the index; everything else taken over from "
        f"{before} and not verified."
    )
    return entry


def _version_of(pins: Mapping[str, Version | None], pattern: str) -> str | None:
    found = (pin for name, pin in pins.items() if pin is not None and re.fullmatch(pattern, name))
    return next((str(pin) for pin in found), None)


def _written(wheels: TorchWheels) -> dict[str, list[str]]:
    return {machine: list(map(str, some)) for machine, some in sorted(wheels.pythons.items())}


def new_pythons(
    facts: Mapping[str, Any], found: Mapping[Version, TorchWheels]
) -> dict[str, dict[str, list[str]]]:
    """Return for known releases the Pythons that the index has and the facts have not."""
    changed = {}
    for name, entry in facts.items():
        wheels = found.get(Version(name))
        if wheels is None:
            continue
        known = {machine: set(some) for machine, some in entry["pythons"].items()}
        more = {
            machine: some
            for machine, some in _written(wheels).items()
            if machine in known and set(some) - known[machine]
        }
        if more:
            changed[name] = more
    return changed


def write_facts(facts: Mapping[str, Any]) -> str:
    """Write the facts as they lie in the repository: lists and short tables on one line."""
    text = json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False)
    text = re.sub(r"\[[^\[\]{}]*\]", lambda match: _on_one_line(match[0]), text)
    return re.sub(r'("default_cuda": )(\{[^{}]*\})', _short_table, text) + "\n"


def _on_one_line(text: str) -> str:
    return json.dumps(json.loads(text), ensure_ascii=False)


def _short_table(match: re.Match[str]) -> str:
    return f"{match[1]}{_on_one_line(match[2])}"
