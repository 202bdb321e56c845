"""What the files of a source tree say of its project, without any of its code being run."""

from __future__ import annotations

import dataclasses
import tomllib
from typing import TYPE_CHECKING, cast

from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from wheelyard.drafting.licences import Licence, find_licence
from wheelyard.drafting.setup_script import SetupScript, read_setup_script
from wheelyard.errors import InputFileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_HOMES = ("homepage", "home", "home-page", "repository", "source", "source code", "github", "code")
_LICENCE_FILES = ("LICENSE", "LICENCE", "COPYING")
_NOTHING = frozenset({"", "UNKNOWN"})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """A value, and the file that it was read from."""

    value: str = ""
    origin: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Project:
    """What a source tree says of itself; empty where it says nothing."""

    name: Said
    version: Said
    summary: Said
    homepage: Said
    licence: Licence
    requires_python: Said
    requires: tuple[str, ...]
    """What the wheel will require, extras aside."""
    requires_origin: str
    build_requires: tuple[str, ...]
    backend: str
    script: SetupScript
    has_script: bool
    submodules: tuple[str, ...]


def read_project(tree: Path) -> Project:
    """Read PKG-INFO, pyproject.toml, setup.py and .gitmodules, in the order of their authority."""
    metadata = _read_metadata(tree / "PKG-INFO")
    pyproject = _read_toml(tree / "pyproject.toml")
    table = _table(pyproject, "project")
    script = _read_script(tree / "setup.py")
    build_system = _table(pyproject, "build-system")
    urls = {**_script_urls(script), **_texts(_table(table, "urls")), **_metadata_urls(metadata)}

    def said(field: str, key: str, keyword: str) -> Said:
        return _first(
            ("PKG-INFO", _string(metadata.get(field))),
            ("pyproject.toml", _string(table.get(key))),
            ("setup.py", script.keywords.get(keyword, "")),
        )

    requires, requires_origin = _requires(metadata, table)
    return Project(
        name=said("name", "name", "name"),
        version=said("version", "version", "version"),
        summary=said("summary", "description", "description"),
        homepage=_homepage(urls),
        licence=_licence(tree, metadata, table, script),
        requires_python=said("requires_python", "requires-python", "python_requires"),
        requires=requires,
        requires_origin=requires_origin,
        build_requires=tuple(_strings(build_system.get("requires"))),
        backend=_string(build_system.get("build-backend")) or "setuptools.build_meta",
        script=script,
        has_script=(tree / "setup.py").is_file(),
        submodules=_submodules(tree / ".gitmodules"),
    )


def _read_metadata(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    raw, _ = parse_email(path.read_bytes())
    return cast("dict[str, object]", raw)


def _read_toml(path: Path) -> Mapping[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path.name} of the source is not TOML: {error}"
        raise InputFileError(msg) from None


def _read_script(path: Path) -> SetupScript:
    if not path.is_file():
        return SetupScript()
    try:
        return read_setup_script(path.read_text(encoding="utf-8", errors="replace"))
    except (SyntaxError, ValueError) as error:
        msg = f"{path.name} of the source is no Python: {error}"
        raise InputFileError(msg) from None


def _table(document: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _string(value: object) -> str:
    text = value.strip() if isinstance(value, str) else ""
    return "" if text in _NOTHING else text


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, str))


def _texts(table: Mapping[str, object]) -> dict[str, str]:
    return {name.lower(): text for name, value in table.items() if (text := _string(value))}


def _first(*candidates: tuple[str, str]) -> Said:
    for origin, value in candidates:
        if value:
            return Said(value=" ".join(value.split()), origin=origin)
    return Said()


def _script_urls(script: SetupScript) -> dict[str, str]:
    url = script.keywords.get("url", "")
    return {"home-page": url} if url else {}


def _metadata_urls(metadata: Mapping[str, object]) -> dict[str, str]:
    urls = metadata.get("project_urls")
    found = _texts(urls) if isinstance(urls, dict) else {}
    home = _string(metadata.get("home_page"))
    return {**found, "home-page": home} if home else found


def _homepage(urls: Mapping[str, str]) -> Said:
    for name in _HOMES:
        if urls.get(name, "").startswith("http"):
            return Said(value=urls[name], origin=f"URL {name!r}")
    return Said()


def _licence(
    tree: Path,
    metadata: Mapping[str, object],
    table: Mapping[str, object],
    script: SetupScript,
) -> Licence:
    given = table.get("license")
    field = given.get("text") if isinstance(given, dict) else None
    path = next(iter(_licence_files(tree)), None)
    classifiers = (
        *_strings(metadata.get("classifiers")),
        *_strings(table.get("classifiers")),
        *script.classifiers,
    )
    return find_licence(
        expression=_string(metadata.get("license_expression")) or _string(given),
        field=_string(metadata.get("license"))
        or _string(field)
        or script.keywords.get("license", ""),
        classifiers=classifiers,
        text="" if path is None else path.read_text(encoding="utf-8", errors="replace"),
        text_name="" if path is None else path.name,
    )


def _licence_files(tree: Path) -> list[Path]:
    found = sorted(path for path in tree.iterdir() if path.is_file())
    return [path for path in found if path.name.upper().startswith(_LICENCE_FILES)]


def _requires(
    metadata: Mapping[str, object], table: Mapping[str, object]
) -> tuple[tuple[str, ...], str]:
    for origin, texts in (
        ("PKG-INFO", tuple(_strings(metadata.get("requires_dist")))),
        ("pyproject.toml", tuple(_strings(table.get("dependencies")))),
    ):
        kept = without_extras(texts)
        if kept:
            return kept, origin
    return (), ""


def without_extras(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the requirements that hold without any extra, and can be read at all."""
    kept = []
    for text in texts:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}) or "extra" not in str(marker):
            kept.append(str(requirement))
    return tuple(kept)


def torch_bound(texts: Iterable[str]) -> str:
    """Return what requirements say of torch's version, for example ``>=2.7,<2.8``."""
    for text in without_extras(texts):
        requirement = Requirement(text)
        if canonicalize_name(requirement.name) == "torch":
            return str(requirement.specifier)
    return ""


def _submodules(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    pairs = (line.partition("=") for line in lines)
    return tuple(value.strip() for key, _, value in pairs if key.strip() == "path")
