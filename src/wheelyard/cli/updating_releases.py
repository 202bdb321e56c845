"""`update releases`: what is new outside, written into the farm's files for people to review."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import Version

import wheelyard
from wheelyard.cli.output import print_json, print_lines
from wheelyard.cli.session import open_own_farm, open_workshop
from wheelyard.errors import FetchError, InputFileError, UnknownNameError, WheelyardError
from wheelyard.files import appearing
from wheelyard.model.releases import cuda_release
from wheelyard.network.masking import mask_url
from wheelyard.network.session import open_session
from wheelyard.upstreams.torches import (
    cuda_of,
    new_entry,
    new_pythons,
    read_requirements,
    read_wheels,
    write_facts,
)
from wheelyard.upstreams.versions import add_version, find_new_version, list_packages

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    import requests
    from pypi_simple import DistributionPackage

    from wheelyard.farm import Farm
    from wheelyard.model.cell import CudaVersion
    from wheelyard.workshop import Workshop

logger = logging.getLogger(__name__)

FACTS = Path(wheelyard.__file__).parent / "facts" / "torch.json"
_AXIS = r"(?ms)^{name} = \[(.*?)\]"


@dataclasses.dataclass(kw_only=True, slots=True)
class _Change:
    """Files as they will be, what was found, and what only people can do."""

    files: dict[Path, str] = dataclasses.field(default_factory=dict)
    found: list[str] = dataclasses.field(default_factory=list)
    by_hand: list[str] = dataclasses.field(default_factory=list)
    errors: list[str] = dataclasses.field(default_factory=list)

    def text(self, path: Path) -> str:
        return self.files.get(path) or path.read_text(encoding="utf-8")


def update_releases(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Look for new versions of recipes, torch, Python and CUDA, and write down what there is."""
    farm = open_own_farm(arguments)
    workshop = open_workshop(arguments, farm, env)
    change = _Change()
    with open_session(workshop.indexes, workshop.env) as session:
        _look_at_recipes(arguments.name, workshop, session, change)
        if arguments.name in {None, "torch"}:
            _look_at_torch(workshop, session, change)
    for path, text in change.files.items():
        with appearing(path) as stream:
            stream.write(text.encode())
    _show(change, farm, as_json=arguments.json)
    if change.errors:
        raise FetchError("\n".join(change.errors))


def _look_at_recipes(
    name: str | None, workshop: Workshop, session: requests.Session, change: _Change
) -> None:
    farm = workshop.farm
    wanted = farm.recipes if name in {None, "torch"} else (farm.recipe(name or ""),)
    for recipe in wanted if name != "torch" else ():
        path = farm.folder / "recipes" / f"{recipe.name}.toml"
        try:
            new = find_new_version(
                recipe, session=session, settings=workshop.indexes, env=workshop.env
            )
            if new is None:
                continue
            change.files[path] = add_version(change.text(path), recipe, new, origin=path.name)
        except InputFileError as error:
            change.by_hand.append(str(error))
        except WheelyardError as error:
            change.errors.append(f"{recipe.name}: {error}")
        else:
            change.found.append(f"{recipe.name} {new.version} ({new.evidence})")


def _look_at_torch(workshop: Workshop, session: requests.Session, change: _Change) -> None:
    facts = json.loads(FACTS.read_text(encoding="utf-8"))
    known = _pythons(facts)
    try:
        packages = list_packages("torch", session=session, settings=workshop.indexes)
    except FetchError as error:
        change.errors.append(str(error))
        return
    found = read_wheels(one.filename for one in packages if not one.is_yanked)
    for name, pythons in new_pythons(facts, found).items():
        for machine, texts in pythons.items():
            more = sorted(set(texts) - set(facts[name]["pythons"][machine]))
            facts[name]["pythons"][machine] = texts
            change.found.append(f"torch {name} for Python {', '.join(more)} on {machine}")
    newest = max(map(Version, facts))
    added = []
    for version in sorted(item for item in found if item > newest):
        try:
            requirements = read_requirements(_metadata(packages, version, session))
        except FetchError as error:
            change.errors.append(str(error))
            continue
        cuda = cuda_of(requirements)
        if cuda is None:
            change.by_hand.append(f"torch {version} pins no CUDA runtime: add its facts by hand.")
            continue
        facts[str(version)] = new_entry(facts, found[version], requirements, cuda)
        change.found.append(f"torch {version}+{cuda.label} (facts to be verified)")
        if _is_known(cuda):
            added.append(f"{version}+{cuda.label}")
        else:
            change.by_hand.append(f"CUDA {cuda} is new: facts/cuda.json first, then matrix.toml.")
    text = write_facts(facts)
    if text != FACTS.read_text(encoding="utf-8"):
        change.files[FACTS] = text
    _extend_matrix(workshop.farm, change, torches=added, pythons=_pythons(facts) - known)


def _pythons(facts: Mapping[str, Any]) -> set[str]:
    return {name for one in facts.values() for some in one["pythons"].values() for name in some}


def _is_known(cuda: CudaVersion) -> bool:
    try:
        cuda_release(cuda)
    except UnknownNameError:
        return False
    return True


def _metadata(
    packages: tuple[DistributionPackage, ...], version: Version, session: requests.Session
) -> str:
    """Read the METADATA of a wheel of that release, which the index serves by itself."""
    from pypi_simple import PyPISimple  # noqa: PLC0415 - takes 0.4 s
    from requests import RequestException  # noqa: PLC0415

    for one in packages:
        if one.version == str(version) and one.has_metadata and "x86_64" in one.filename:
            try:
                client = PyPISimple(session=session)
                return client.get_package_metadata(one, verify=bool(one.metadata_digests))
            except RequestException as error:
                msg = f"{mask_url(one.url)}.metadata cannot be read: {mask_url(str(error))[:200]}"
                raise FetchError(msg) from error
    return ""


def _extend_matrix(farm: Farm, change: _Change, *, torches: list[str], pythons: set[str]) -> None:
    """Put new torch builds last: what is wanted first is for people to say."""
    path = farm.folder / "matrix.toml"
    text = change.text(path)
    known = set(map(str, farm.matrix.pythons))
    newest = max(farm.matrix.pythons)
    more = sorted(one for one in pythons - known if _is_newer(one, str(newest)))
    for name, values in (("torch", torches), ("python", more)):
        match = re.search(_AXIS.format(name=name), text)
        if not values or match is None:
            continue
        inside = match[1].rstrip().rstrip(",")
        if "\n" in match[1]:
            lines = "".join(f'  "{value}", # new: not tried yet\n' for value in values)
            inner = match[1].rstrip("\n")
            # a comment may stand behind the last one, so the comma has to be there already
            text = f"{text[: match.start(1)]}{inner}\n{lines}{text[match.end(1) :]}"
        else:
            listed = ", ".join([inside, *(f'"{value}"' for value in values)])
            text = f"{text[: match.start(1)]}{listed}{text[match.end(1) :]}"
        change.found.append(f"matrix.toml: {name} {', '.join(values)}")
        change.files[path] = text


def _is_newer(python: str, newest: str) -> bool:
    return Version(python.rstrip("t")) > Version(newest.rstrip("t"))


def _show(change: _Change, farm: Farm, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "by_hand": change.by_hand,
                "found": change.found,
                "written": sorted(map(str, change.files)),
            }
        )
        return
    print_lines(*(f"new: {line}" for line in change.found))
    print_lines(*(f"by hand: {line}" for line in change.by_hand))
    if not (change.found or change.by_hand):
        print_lines(f"nothing new for the {len(farm.recipes)} recipes and torch")
