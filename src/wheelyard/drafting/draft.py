"""The draft of a recipe: every value with where it was read, and what only a person can say."""

from __future__ import annotations

import dataclasses
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from wheelyard.drafting.project import torch_bound, without_extras

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from packaging.utils import NormalizedName
    from packaging.version import Version

    from wheelyard.drafting.asking import Answer, Asked
    from wheelyard.drafting.house import House
    from wheelyard.drafting.project import Project
    from wheelyard.drafting.setup_script import Variable
    from wheelyard.model.cell import CudaVersion, GpuArch

GENCODE_PATCH = "common/gpu-archs-from-environment.py"
STANDARD_PATCH = "common/cxx-standard-of-torch.py"

_FORCES = re.compile(r"(?:^|_)FORCE_(?P<what>BUILD|CUDA)$")
_WANTS_CUDA = re.compile(r"(?:^|_)(?:WITH|BUILD|USE)_CUDA(?:_EXT)?$|(?:^|_)CUDA_EXT$")
_WHY = {
    "BUILD": "without it setup.py downloads a wheel that upstream built, where there is one",
    "CUDA": "without it setup.py compiles for GPUs only where there is one",
}
_SET_HERE = frozenset(
    {"CC", "CUDA_HOME", "CXX", "LDSHARED", "MAX_JOBS", "NVCC_CCBIN", "TMPDIR", "PATH", "HOME"}
    | {"SOURCE_DATE_EPOCH", "TORCH_CUDA_ARCH_LIST"}
)
"""Variables that every build has of wheelyard."""
_DISTRIBUTIONS = {"Cython": "cython", "pkg_resources": "setuptools", "yaml": "pyyaml"}
"""Modules that come with a distribution of another name."""
_HOST_UNIT = 25.0
_DEVICE_UNIT = 25.0
"""CPU seconds that one unit takes, until a build was measured."""
_SOURCES = frozenset({".c", ".cc", ".cpp", ".cu", ".cxx"})
_LEFT_OUT = frozenset({"benchmark", "benchmarks", "example", "examples", "test", "tests"})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A value of the recipe, and where it comes from."""

    key: str
    value: str
    origin: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """CPU seconds, guessed or of a build."""

    host: float
    device: float
    origin: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A recipe as far as it is known."""

    name: NormalizedName
    version: Version
    source: Mapping[str, object]
    """The table of the version's source, by its kind."""
    summary: str
    homepage: str
    license: str
    python: str
    torch: str
    build_requires: tuple[str, ...]
    environment: Mapping[str, tuple[str, str]]
    """Value and reason, by variable."""
    extensions: tuple[str, ...]
    libraries: tuple[str, ...]
    top_levels: tuple[str, ...]
    requires: tuple[str, ...]
    entry_points: tuple[str, ...]
    gpu_archs: tuple[tuple[CudaVersion, tuple[GpuArch, ...]], ...]
    patches: tuple[str, ...]
    memory_per_job: int
    effort: Effort
    entries: tuple[Entry, ...]
    left: tuple[str, ...] = ()
    """What a person has to do, in sentences."""

    def leave(self, *sentences: str) -> Draft:
        """Add to what is left to do."""
        return dataclasses.replace(self, left=tuple(dict.fromkeys((*self.left, *sentences))))

    def learn(self, *entries: Entry, **values: object) -> Draft:
        """Put values in, and say where they come from; later entries take the place of earlier."""
        known = {entry.key: entry for entry in (*self.entries, *entries)}
        return dataclasses.replace(self, entries=tuple(known.values()), **values)  # type: ignore[arg-type]


def first_draft(
    project: Project,
    *,
    name: NormalizedName,
    version: Version,
    source: Mapping[str, object],
    house: House,
    tree: Path,
    patches: tuple[str, ...] = (),
) -> Draft:
    """Write down what the files say; extensions are only known when setup.py was asked.

    ``patches`` are those that somebody wrote for it already.
    """
    environment = dict(_environment(project.script.variables))
    build_requires = _build_requires(project, house, tree)
    units = tuple(_units(tree))
    has_device = any(unit.suffix == ".cu" for unit in units)
    top = str(name).replace("-", "_")
    draft = Draft(
        name=name,
        version=version,
        source=source,
        summary=project.summary.value,
        homepage=project.homepage.value,
        license=project.licence.expression,
        python=project.requires_python.value,
        torch=torch_bound(project.requires),
        build_requires=tuple(sorted(build_requires)),
        environment=environment,
        extensions=(),
        libraries=(),
        top_levels=(top,),
        requires=beside_torch(project.requires),
        entry_points=(),
        gpu_archs=house.gpu_archs if has_device else (),
        patches=patches,
        memory_per_job=house.memory_per_job,
        effort=guess_effort(units),
        entries=(),
    )
    known = draft.learn(
        Entry(key="summary", value=draft.summary, origin=project.summary.origin),
        Entry(key="homepage", value=draft.homepage, origin=project.homepage.origin),
        Entry(key="license", value=draft.license, origin=project.licence.origin),
        Entry(key="python", value=draft.python, origin=project.requires_python.origin),
        Entry(key="torch", value=draft.torch, origin="requirements"),
        Entry(
            key="build.requires",
            value=", ".join(draft.build_requires),
            origin=", ".join(dict.fromkeys(build_requires.values())),
        ),
        *_environment_entries(project, environment),
        Entry(
            key="wheel.requires", value=", ".join(draft.requires), origin=project.requires_origin
        ),
        Entry(key="submodules", value=", ".join(project.submodules), origin=".gitmodules"),
    )
    return known.leave(*_unsaid(known), *_doubts(project))


def _environment(variables: Iterable[Variable]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the switches that make setup.py compile, and compile for GPUs, on any machine."""
    for variable in variables:
        match = _FORCES.search(variable.name)
        if match is not None:
            yield variable.name, (variable.truth, _WHY[match["what"]])
        elif _WANTS_CUDA.search(variable.name):
            yield variable.name, (variable.truth, _WHY["CUDA"])


def _environment_entries(
    project: Project, environment: Mapping[str, tuple[str, str]]
) -> Iterator[Entry]:
    lines = {variable.name: variable.line for variable in project.script.variables}
    for name, (value, _) in environment.items():
        yield Entry(key=f"build.environment.{name}", value=value, origin=f"setup.py:{lines[name]}")
    others = [name for name in lines if name not in {*environment, *_SET_HERE}]
    if others:
        listed = ", ".join(f"{name} (line {lines[name]})" for name in others)
        yield Entry(key="not set", value=listed, origin="setup.py")


def _build_requires(project: Project, house: House, tree: Path) -> dict[str, str]:
    """Return the build requirements, with where each comes from."""
    found: dict[str, str] = {}
    names: set[str] = set()

    def add(requirement: Requirement, origin: str) -> None:
        name = canonicalize_name(requirement.name)
        if name != "torch" and name not in names:
            names.add(name)
            found[str(house.requirement(requirement))] = origin

    for text in without_extras(project.build_requires):
        add(Requirement(text), "pyproject.toml")
    for module in project.script.imports:
        lies_here = (tree / module).is_dir() or (tree / f"{module}.py").is_file()
        if not lies_here:
            add(Requirement(_DISTRIBUTIONS.get(module, module)), "imports of setup.py")
    # what torch's own build_ext takes: without ninja it compiles one unit after the other
    for name in ("ninja", "packaging", "setuptools"):
        add(Requirement(name), "torch's build")
    return found


def _unsaid(draft: Draft) -> Iterator[str]:
    for key, value, what in (
        ("summary", draft.summary, "say in one line what it is"),
        ("homepage", draft.homepage, "neither metadata nor setup.py names one"),
        ("license", draft.license, "no SPDX expression could be read; look at its licence file"),
    ):
        if not value:
            yield f"`{key}`: {what}"


def _doubts(project: Project) -> Iterator[str]:
    if project.licence.doubt:
        yield f"`license`: {project.licence.doubt}; look at both"
    built_with = torch_bound(project.build_requires)
    if built_with and built_with != torch_bound(project.requires):
        yield (
            f"`torch`: upstream builds with torch {built_with}; set it in the recipe if the source "
            "does not compile with others"
        )


def _units(tree: Path) -> Iterator[PurePosixPath]:
    for path in sorted(tree.rglob("*")):
        inside = path.relative_to(tree)
        if path.suffix in _SOURCES and path.is_file() and not _LEFT_OUT & set(inside.parts):
            yield PurePosixPath(inside)


def guess_effort(units: Iterable[PurePosixPath]) -> Effort:
    """Guess what so many units cost."""
    units = tuple(units)
    device = sum(1 for unit in units if unit.suffix == ".cu")
    return Effort(
        host=_HOST_UNIT * max(1, len(units)),
        device=_DEVICE_UNIT * device,
        origin=f"guessed from {len(units)} units, {device} of them for GPUs",
    )


def beside_torch(requires: Iterable[str]) -> tuple[str, ...]:
    """Return what a wheel requires beside torch, which is pinned in every wheel."""
    kept = []
    for text in requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if canonicalize_name(requirement.name) != "torch":
            kept.append(str(requirement))
    return tuple(sorted(kept))


def with_answer(draft: Draft, asked: Asked, project: Project) -> Draft:
    """Put in what setup.py answered."""
    answer = asked.answer
    names = tuple(sorted(item.name for item in answer.extensions))
    extensions = () if answer.makes_libraries else names
    libraries = tuple(f"{name.replace('.', '/')}.so" for name in names if not extensions)
    tops = {*answer.top_levels, *(name.partition(".")[0] for name in names)}
    units = tuple(PurePosixPath(name) for item in answer.extensions for name in item.sources)
    has_device = any(item.device_sources for item in answer.extensions)
    requires = beside_torch(without_extras(answer.requires)) or draft.requires
    effort = guess_effort(dict.fromkeys(units))
    origin = "setup.py, asked in the sandbox"
    learned = draft.learn(
        Entry(key="wheel.extensions", value=", ".join(extensions), origin=origin),
        Entry(
            key="wheel.libraries",
            value=", ".join(libraries),
            origin=f"{origin} (no_python_abi_suffix)",
        ),
        Entry(key="wheel.top-levels", value=", ".join(sorted(tops)), origin=origin),
        Entry(key="wheel.requires", value=", ".join(requires), origin=origin),
        Entry(key="wheel.entry-points", value=", ".join(answer.entry_points), origin=origin),
        *_header_entries(asked),
        *_blanks(draft, answer, origin),
        extensions=extensions,
        libraries=libraries,
        top_levels=tuple(sorted(tops)),
        requires=requires,
        entry_points=answer.entry_points,
        effort=effort,
        gpu_archs=draft.gpu_archs if has_device else (),
        summary=draft.summary or answer.description,
        homepage=draft.homepage or answer.url,
        python=draft.python or answer.python_requires,
    )
    kept = tuple(item for item in learned.left if not _is_answered(item, learned))
    learned = dataclasses.replace(learned, left=kept)
    return learned.leave(*_after_asking(learned, asked, project, has_device=has_device))


def _blanks(draft: Draft, answer: Answer, origin: str) -> Iterator[Entry]:
    for key, before, after in (
        ("summary", draft.summary, answer.description),
        ("homepage", draft.homepage, answer.url),
        ("python", draft.python, answer.python_requires),
    ):
        if after and not before:
            yield Entry(key=key, value=after, origin=origin)


def _is_answered(sentence: str, draft: Draft) -> bool:
    return (sentence.startswith("`summary`") and bool(draft.summary)) or (
        sentence.startswith("`homepage`") and bool(draft.homepage)
    )


def _header_entries(asked: Asked) -> Iterator[Entry]:
    for who, names in asked.headers.found.items():
        if who not in {"torch", "Python", "system"}:
            yield Entry(key=f"headers of {who}", value=", ".join(names), origin="#include")
    elsewhere = ", ".join(asked.headers.conditional)
    yield Entry(key="headers not here", value=elsewhere, origin="#include under a condition")


def _after_asking(
    draft: Draft, asked: Asked, project: Project, *, has_device: bool
) -> Iterator[str]:
    answer = asked.answer
    if not answer.extensions:
        yield "`wheel.extensions`: setup.py names no extension module, so there is nothing to build"
    lines = ", ".join(map(str, project.script.gpu_lines))
    if not has_device and project.script.gpu_lines:
        yield (
            f"GPU code: setup.py compiles none, and asks at line {lines} whether there is a GPU; "
            "name the variable that forces it in `build.environment`, or write a patch"
        )
    if answer.scripts:
        yield f"scripts: {', '.join(answer.scripts)} would be installed, which no recipe declares"
    own = [item.name for item in answer.extensions if any(map(_names_target, item.arguments))]
    if own and GENCODE_PATCH not in draft.patches:
        yield (
            f"GPU targets: {', '.join(own)} names its own with -gencode, so that --gpu-archs has "
            "no effect; write a patch"
        )
    for name, file in asked.headers.missing.items():
        yield f"header {name}: {file} includes it, and nothing here brings it"


def _names_target(argument: str) -> bool:
    return "gencode" in argument or "--generate-code" in argument or "arch=compute_" in argument
