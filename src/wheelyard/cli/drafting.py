"""The command that writes a recipe for a package that nobody prepared, and builds it."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from wheelyard.cli.building import show_outcome
from wheelyard.cli.choosing import choose_job
from wheelyard.cli.output import print_json, print_lines, print_table
from wheelyard.cli.session import open_own_farm, open_workshop
from wheelyard.cli.telling import make_progress
from wheelyard.cli.updating import is_current, write_lock
from wheelyard.drafting.draft import Effort, first_draft
from wheelyard.drafting.house import read_house
from wheelyard.drafting.project import read_project
from wheelyard.drafting.trial import recipe_of, try_draft
from wheelyard.drafting.writing import wrapped, write_recipe, write_smoke_test
from wheelyard.errors import BuildError, ImpossibleCellError, UsageError, WheelyardError
from wheelyard.farm import bring_shared, load_farm, shipped_farm
from wheelyard.files import create_file, disk_errors, replace_file
from wheelyard.lint import lint_farm
from wheelyard.model.record import Built
from wheelyard.model.source import GitSource, SdistSource
from wheelyard.network.session import open_session
from wheelyard.planning.locks import version_locks
from wheelyard.sources.fetch import fetch_source
from wheelyard.sources.patch import apply_patches
from wheelyard.upstreams.pinning import pin_commit, pin_sdist

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from packaging.utils import NormalizedName

    from wheelyard.drafting.draft import Draft
    from wheelyard.drafting.project import Project
    from wheelyard.farm import Farm
    from wheelyard.model.job import Job
    from wheelyard.model.recipe import Recipe
    from wheelyard.pipeline import Outcome
    from wheelyard.progress import Progress
    from wheelyard.workshop import Workshop

_FILLED_LATER = ("`summary`", "`homepage`", "`license`")
_WIDTH = 100


def new(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Write recipe, smoke test and locks of one version; build it, and say what is left to do."""
    farm = open_own_farm(arguments)
    workshop = open_workshop(arguments, farm, env)
    progress = make_progress()
    draft, project = _read(arguments, workshop, progress)
    progress.say(f"writing the recipe of {draft.name} {draft.version} into {farm.folder}")
    draft, stopped = _try(draft, project, arguments, workshop, progress)
    paths = _write(draft, workshop, again=arguments.again)
    draft = draft.leave(*_left_to_everybody(draft), *_linted(draft, farm))
    outcome, failed = None, stopped
    if stopped is None and not arguments.no_build:
        outcome, failed = _build(draft, arguments, workshop, progress)
    if outcome is not None:
        draft = _measured(draft, outcome)
        _rewrite(draft, workshop)
    _show(draft, paths, outcome, workshop, as_json=arguments.json)
    if failed is not None:
        raise failed


def _read(
    arguments: argparse.Namespace, workshop: Workshop, progress: Progress
) -> tuple[Draft, Project]:
    """Pin and fetch the source, and read what its files say."""
    asked = _version(arguments.recipe_version)
    name = canonicalize_name(arguments.name) if arguments.name else None
    if name is not None and not arguments.again:
        _refuse_known(name, workshop.farm)
    source, version = _pin(arguments, name, asked, workshop)
    fetched = fetch_source(
        source,
        cache=workshop.cache,
        farm=workshop.farm.folder,
        settings=workshop.indexes,
        env=workshop.env,
    )
    with _unpacked(workshop) as tree:
        apply_patches(fetched, (), tree=tree, run_python=_never, env=workshop.env)
        project = read_project(tree)
        if isinstance(source, GitSource):
            source = dataclasses.replace(source, submodules=project.submodules)
        if name is None:
            name = canonicalize_name(_said(project.name.value, "name"))
            if not arguments.again:
                _refuse_known(name, workshop.farm)
        version = asked or version or Version(_said(project.version.value, "version"))
        progress.say(f"read {name} {version}: {_describe(source)}")
        draft = first_draft(
            project,
            name=name,
            version=version,
            source=_source_table(source),
            house=read_house((*workshop.farm.recipes, *_shipped_recipes(workshop.farm))),
            tree=tree,
            patches=_own_patches(name, workshop.farm),
        )
    return draft, project


def _own_patches(name: NormalizedName, farm: Farm) -> tuple[str, ...]:
    """Return the patches that were written for it before its recipe, in their order."""
    found = sorted(path.name for path in farm.folder.glob(f"patches/{name}/[0-9]*.*"))
    return tuple(name for name in found if name.endswith((".patch", ".py")))


def _shipped_recipes(farm: Farm) -> tuple[Recipe, ...]:
    """Return recipes that are known to be good, for a farm that has few."""
    shipped = shipped_farm()
    return () if shipped == farm.folder else load_farm(shipped).recipes


def _version(text: str | None) -> Version | None:
    try:
        return None if text is None else Version(text)
    except InvalidVersion:
        msg = f"--version {text!r} is no version. Write it as in 1.7.0."
        raise UsageError(msg) from None


def _refuse_known(name: NormalizedName, farm: Farm) -> None:
    path = farm.folder / "recipes" / f"{name}.toml"
    if path.exists():
        msg = (
            f"{path} is there already. Edit it and run `wheelyard build {name}`; for a newer "
            f"version run `wheelyard update releases {name}`; --again writes it anew."
        )
        raise UsageError(msg)


def _pin(
    arguments: argparse.Namespace,
    name: NormalizedName | None,
    version: Version | None,
    workshop: Workshop,
) -> tuple[SdistSource | GitSource, Version | None]:
    if arguments.git is not None:
        source, _ = pin_commit(
            arguments.git, arguments.ref, settings=workshop.indexes, env=workshop.env
        )
        return source, None
    if name is None or arguments.ref is not None:
        what = "a name, or a repository with --git URL" if name is None else "--git URL with --ref"
        msg = f"Give {what}."
        raise UsageError(msg)
    with open_session(workshop.indexes, workshop.env) as session:
        return pin_sdist(name, version, session=session, settings=workshop.indexes)


@contextlib.contextmanager
def _unpacked(workshop: Workshop) -> Iterator[Path]:
    workshop.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=workshop.cache, prefix=".new-") as folder:
        yield Path(folder, "tree")


def _never(script: Path, _tree: Path) -> None:
    msg = f"{script} is not run: what is only read is not patched"
    raise AssertionError(msg)


def _said(value: str, what: str) -> str:
    if not value:
        msg = f"No file of the source says its {what}. Give it: `wheelyard new NAME --version V`."
        raise UsageError(msg)
    return value


def _describe(source: SdistSource | GitSource) -> str:
    if isinstance(source, SdistSource):
        return f"{source.filename} of the index, sha256 {source.sha256[:12]}"
    return f"commit {source.commit[:12]} of {source.url}"


def _source_table(source: SdistSource | GitSource) -> dict[str, object]:
    if isinstance(source, SdistSource):
        keys = ("filename", "sha256", "size")
        return {"sdist": {key: getattr(source, key) for key in keys}}
    return {"git": {key: getattr(source, key) for key in ("url", "commit", "submodules")}}


def _try(
    draft: Draft,
    project: Project,
    arguments: argparse.Namespace,
    workshop: Workshop,
    progress: Progress,
) -> tuple[Draft, WheelyardError | None]:
    """Ask setup.py; where it stops, the draft is what could be read, and the error is returned."""
    if not project.backend.startswith("setuptools"):
        return draft.leave(
            f"`wheel.extensions`: {project.backend} cannot be asked what it would build; the "
            "check of the first build names every difference"
        ), None
    workshop = _with_recipe(draft, workshop)
    _write_locks(draft, workshop)
    try:
        job = _job(draft, arguments, workshop)
    except ImpossibleCellError as error:
        return draft.leave("`python`, `torch`: nothing here is one that it takes, see below"), error
    try:
        return try_draft(draft, project, job, workshop, progress), None
    except BuildError as error:
        return draft.leave(_why_it_stops(project)), error


def _why_it_stops(project: Project) -> str:
    lines = ", ".join(map(str, project.script.gpu_lines))
    gpu = f" (setup.py asks for one at line {lines})" if lines else ""
    return (
        f"setup.py stops where nothing but its sandbox is: no GPU{gpu}, no network, and only "
        "`build.requires` beside torch; write a patch into patches/NAME/, and run `new` with "
        "--again"
    )


def _with_recipe(draft: Draft, workshop: Workshop) -> Workshop:
    farm = workshop.farm
    recipes = (*(one for one in farm.recipes if one.name != draft.name), recipe_of(draft))
    return dataclasses.replace(workshop, farm=dataclasses.replace(farm, recipes=recipes))


def _job(draft: Draft, arguments: argparse.Namespace, workshop: Workshop) -> Job:
    asked = dict(vars(arguments)) | {"recipe": str(draft.name), "recipe_version": None}
    job, _ = choose_job(type(arguments)(**asked), workshop)
    return job


def _write_locks(draft: Draft, workshop: Workshop) -> None:
    version = recipe_of(draft).versions[0]
    for cuda in {torch.cuda.major: torch.cuda for torch in workshop.farm.matrix.torches}.values():
        for request in version_locks(version, cuda):
            if not is_current(workshop.farm, request):
                write_lock(request, workshop)


def _write(draft: Draft, workshop: Workshop, *, again: bool) -> tuple[Path, ...]:
    folder = workshop.farm.folder
    for path in _helpers():
        bring_shared(path, folder)
    _write_locks(draft, workshop)
    smoke, recipe = _smoke_path(draft, folder), _recipe_path(draft, folder)
    with disk_errors(recipe):
        # a recipe without its smoke test would make the whole farm unusable
        if not (again and smoke.exists()):  # it may have cases by now
            replace_file(smoke, write_smoke_test(draft).encode())
        put = replace_file if again else create_file
        put(recipe, write_recipe(draft).encode())
    requests = version_locks(recipe_of(draft).versions[0], workshop.farm.matrix.torches[0].cuda)
    return recipe, smoke, *(folder / request.path for request in requests)


def _helpers() -> tuple[Path, ...]:
    return (Path("recipes", "smoking.py"),)


def _recipe_path(draft: Draft, folder: Path) -> Path:
    return folder / "recipes" / f"{draft.name}.toml"


def _smoke_path(draft: Draft, folder: Path) -> Path:
    return folder / "recipes" / draft.name / "smoke.py"


def _left_to_everybody(draft: Draft) -> Iterator[str]:
    yield (
        f"recipes/{draft.name}/smoke.py: it imports every extension; add cases that run its code "
        "on a GPU against a reference"
    )


def _linted(draft: Draft, farm: Farm) -> Iterator[str]:
    for problem in lint_farm(farm.folder).problems:
        if str(draft.name) in problem.file and not problem.message.startswith(_FILLED_LATER):
            yield f"{problem.file}: {problem.message}"


def _build(
    draft: Draft, arguments: argparse.Namespace, workshop: Workshop, progress: Progress
) -> tuple[Outcome | None, WheelyardError | None]:
    from wheelyard.pipeline import build_job  # noqa: PLC0415 - imports every room

    workshop = _with_recipe(draft, workshop)
    job = _job(draft, arguments, workshop)
    progress.say(f"building {job.identifier}")
    try:
        return build_job(job, workshop, progress), None
    except WheelyardError as error:
        return None, error


def _measured(draft: Draft, outcome: Outcome) -> Draft:
    """Put in what the build took, where all of it was really compiled."""
    origin = outcome.stored.record.origin
    if not isinstance(origin, Built) or any(origin.build.cache_hits.values()):
        return draft
    seconds, targets = origin.build.cpu_seconds, len(outcome.job.gpu_archs)
    guessed = draft.effort.host + draft.effort.device * targets
    share = seconds / guessed
    of = f" for {targets} GPU target{'s' if targets > 1 else ''}" if targets else ""
    effort = Effort(
        host=round(draft.effort.host * share, 1),
        device=round(draft.effort.device * share, 1),
        origin=f"measured: {seconds:.0f} CPU seconds{of}; how they divide is a guess",
    )
    return dataclasses.replace(draft, effort=effort)


def _rewrite(draft: Draft, workshop: Workshop) -> None:
    path = _recipe_path(draft, workshop.farm.folder)
    with disk_errors(path):
        replace_file(path, write_recipe(draft).encode())


def _show(
    draft: Draft,
    paths: tuple[Path, ...],
    outcome: Outcome | None,
    workshop: Workshop,
    *,
    as_json: bool,
) -> None:
    if as_json:
        print_json(
            {
                "files": [str(path) for path in paths],
                "inferred": [
                    {"from": entry.origin, "key": entry.key, "value": entry.value}
                    for entry in draft.entries
                    if entry.value
                ],
                "left": list(draft.left),
                "wheel": None if outcome is None else str(outcome.stored.path),
            }
        )
        return
    rows = [(entry.key, entry.origin, entry.value) for entry in draft.entries if entry.value]
    print_table(("INFERRED", "FROM", "VALUE"), rows)
    print_lines("", "written:", *(f"  {path}" for path in paths), "", "left to do by hand:")
    width = min(_WIDTH, shutil.get_terminal_size((_WIDTH, 24)).columns)
    print_lines(*(wrapped(sentence, width=width) for sentence in draft.left))
    if outcome is not None:
        show_outcome(outcome, workshop, as_json=False)
