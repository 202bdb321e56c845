"""Extensions of an environment that cannot work there: for another torch, or not what they seem."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from wheelyard.doctor.line import Line
from wheelyard.doctor.remedies import uninstall
from wheelyard.model.cell import TorchBuild
from wheelyard.model.releases import torch_releases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packaging.version import Version

    from wheelyard.finding.environment import Environment

_OURS = re.compile(r"cu(?P<cuda>\d{3})\.torch(?P<torch>\d+\.\d+\.\d+)")
_UPSTREAM = re.compile(r"cu(?P<cuda>\d\d)\d*torch(?P<torch>\d+\.\d+)cxx11abi(?P<abi>true|false)")


def extension_lines(environment: Environment, torch: TorchBuild | None) -> Iterator[Line]:
    """Yield what is wrong with the extensions that are installed."""
    yield from _namesake(environment)
    yield from _shared_modules(environment)
    if torch is not None:
        yield from _of_other_torches(environment, torch)


def _namesake(environment: Environment) -> Iterator[Line]:
    """The index has an apex that is somebody else's."""
    found = environment.installed.get("apex")
    if found is None or (environment.sites[0] / "apex" / "optimizers").is_dir():
        return
    finding = f"apex {found} is another project of that name, not NVIDIA's"
    remedy = f"{uninstall(environment, 'apex')} && wheelyard find apex --here"
    yield Line(status="warn", subject="apex", finding=finding, remedy=remedy)


def _shared_modules(environment: Environment) -> Iterator[Line]:
    """Tell of modules that two distributions brought: the one installed last is there."""
    owners: defaultdict[str, list[str]] = defaultdict(list)
    for site in environment.sites:
        for record in sorted(site.glob("*.dist-info/RECORD")):
            name = canonicalize_name(record.parent.name.partition("-")[0])
            with record.open(encoding="utf-8", newline="") as stream:
                paths = [row[0] for row in csv.reader(stream) if row]
            for path in paths:
                if "/" not in path and path.endswith(".so"):
                    owners[path].append(name)
    for module, names in owners.items():
        if len(names) > 1:
            finding = f"{' and '.join(names)} both brought {module}, one over the other"
            # to take one out takes the other's file away, too
            remedy = f"{uninstall(environment, *names)} && wheelyard find {names[-1]} --here"
            yield Line(status="warn", subject=names[-1], finding=finding, remedy=remedy)


def _of_other_torches(environment: Environment, torch: TorchBuild) -> Iterator[Line]:
    for name, version in sorted(environment.installed.items()):
        wanted = _torch_of(version, torch)
        if wanted:
            finding = f"{version} is for torch {wanted}, and {torch} is installed"
            remedy = f"wheelyard find {name} --here --torch {torch}"
            yield Line(status="warn", subject=name, finding=finding, remedy=remedy)


def _torch_of(version: Version, torch: TorchBuild) -> str:
    """Return the torch that a wheel says it is for, if it is another one than this."""
    ours = _OURS.match(version.local or "")
    if ours is not None:
        own = TorchBuild.parse(f"{ours['torch']}+cu{ours['cuda']}")
        return "" if own == torch else str(own)
    upstream = _UPSTREAM.match(version.local or "")
    if upstream is None:
        return ""
    found = upstream["torch"], int(upstream["cuda"]), upstream["abi"] == "true"
    release = f"{torch.version.major}.{torch.version.minor}"
    if found == (release, torch.cuda.major, _cxx11_abi(torch, found[2])):
        return ""
    return f"{found[0]} with CUDA {found[1]}, C++11 ABI {str(found[2]).upper()}"


def _cxx11_abi(torch: TorchBuild, otherwise: bool) -> bool:  # noqa: FBT001 - what is not known
    for release in torch_releases():
        if release.version == torch.version and torch.cuda in {one.cuda for one in release.builds}:
            return release.build(torch.cuda).cxx11_abi
    return otherwise
