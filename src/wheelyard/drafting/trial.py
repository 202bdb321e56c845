"""Try a draft in the sandbox of a build: which shared patches fit, and what setup.py answers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.drafting.asking import ask_setup
from wheelyard.drafting.draft import GENCODE_PATCH, STANDARD_PATCH, Entry, with_answer
from wheelyard.drafting.writing import write_recipe
from wheelyard.errors import PatchError
from wheelyard.farm import bring_shared
from wheelyard.folders import remove_tree
from wheelyard.locking import held
from wheelyard.model.decode import decode_table
from wheelyard.model.recipe import parse_recipe
from wheelyard.model.recipe_file import RecipeFile
from wheelyard.planning.fingerprint import PlanFingerprint
from wheelyard.stages import Run, Stages, build_request, patch, toolchain_for

if TYPE_CHECKING:
    from wheelyard.drafting.draft import Draft
    from wheelyard.drafting.project import Project
    from wheelyard.model.job import Job
    from wheelyard.model.recipe import Recipe
    from wheelyard.progress import Progress
    from wheelyard.sources.values import FetchedSource, PatchedSource
    from wheelyard.toolchain.values import Toolchain
    from wheelyard.workshop import Workshop

_NOTHING_STORED = PlanFingerprint(sha256="", shared={}, cell="")


def recipe_of(draft: Draft) -> Recipe:
    """Return the recipe that a draft is, read from the text that it is written as."""
    origin = f"recipes/{draft.name}.toml"
    return parse_recipe(decode_table(write_recipe(draft), RecipeFile, origin=origin), origin=origin)


def try_draft(
    draft: Draft, project: Project, job: Job, workshop: Workshop, progress: Progress
) -> Draft:
    """Return the draft with the patches that fit and with what setup.py answered.

    ``job`` is one of the draft's recipe. Raises ``BuildError`` where setup.py stops.
    """
    run = _run(job, workshop, progress)
    with held(run.work.with_name(f"{run.work.name}.lock"), what=f"work on {job.identifier}"):
        remove_tree(run.work)
        run.work.mkdir(parents=True)
        run.log_path.unlink(missing_ok=True)
        try:
            fetched = run.stages.timed("fetch", lambda: workshop.fetch(job))
            toolchain = run.stages.timed(
                "toolchain", lambda: toolchain_for(job, workshop, progress)
            )
            draft, patched = run.stages.timed(
                "patch", lambda: _fit_patches(draft, project, run, fetched, toolchain)
            )
            request = build_request(run, toolchain, whole=False)
            asked = run.stages.timed("ask", lambda: ask_setup(patched, request))
        finally:
            remove_tree(run.work)
    return with_answer(draft, asked, project)


def _run(job: Job, workshop: Workshop, progress: Progress) -> Run:
    run = Run.of(job, _NOTHING_STORED, workshop, Stages(progress))
    return dataclasses.replace(
        run,
        work=run.work.with_name(f"{job.identifier}.new"),
        log_path=workshop.yard.log_path(f"{job.identifier}.new"),
    )


def _fit_patches(
    draft: Draft, project: Project, run: Run, fetched: FetchedSource, toolchain: Toolchain
) -> tuple[Draft, PatchedSource]:
    """Keep of the shared patches those that setup.py calls for and that apply to it."""
    script = project.script
    for filename, lines in (
        (GENCODE_PATCH, script.gencode_lines),
        (STANDARD_PATCH, script.standard_lines),
    ):
        if not lines:
            continue
        bring_shared(Path("patches", filename), run.workshop.farm.folder)
        where = ", ".join(map(str, lines))
        wider = dataclasses.replace(draft, patches=(*draft.patches, filename))
        try:
            _apply(wider, run, fetched, toolchain)
        except PatchError as error:
            reason = str(error).splitlines()
            draft = draft.leave(
                f"patch {filename}: setup.py line {where} calls for it, and it does not fit "
                f"({reason[min(1, len(reason) - 1)]}); write one of its own"
            )
        else:
            key = f"patches {len(wider.patches)}"
            draft = wider.learn(Entry(key=key, value=filename, origin=f"setup.py:{where}"))
    return draft, _apply(draft, run, fetched, toolchain)


def _apply(draft: Draft, run: Run, fetched: FetchedSource, toolchain: Toolchain) -> PatchedSource:
    job = dataclasses.replace(run.job, version=recipe_of(draft).versions[0])
    remove_tree(run.work / "source")
    return patch(dataclasses.replace(run, job=job), fetched, toolchain)
