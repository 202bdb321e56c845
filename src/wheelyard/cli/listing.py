"""Commands that show what there is: recipes, cells, jobs. They must be quick."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wheelyard.cli.output import print_json, print_lines, print_table
from wheelyard.cli.session import open_farm, open_workshop
from wheelyard.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from wheelyard.model.job import Job
    from wheelyard.model.recipe import Recipe
    from wheelyard.planning.plan import PlannedJob, Standing, Unwanted


def list_recipes(arguments: argparse.Namespace, _env: Mapping[str, str]) -> None:
    """Show recipes and their versions."""
    farm = open_farm(arguments)
    if arguments.json:
        print_json({"recipes": [_recipe_to_json(recipe) for recipe in farm.recipes]})
        return
    rows = [
        (recipe.name, ", ".join(str(item.version) for item in recipe.versions), recipe.summary)
        for recipe in farm.recipes
    ]
    print_table(("RECIPE", "VERSIONS", "WHAT IT IS"), rows)


def _recipe_to_json(recipe: Recipe) -> dict[str, object]:
    return {
        "homepage": recipe.homepage,
        "license": recipe.license,
        "name": recipe.name,
        "summary": recipe.summary,
        "versions": [str(item.version) for item in recipe.versions],
    }


def show_matrix(arguments: argparse.Namespace, _env: Mapping[str, str]) -> None:
    """Show wanted cells and, when asked, the others with their reasons."""
    from wheelyard.planning.plan import expand_matrix  # noqa: PLC0415

    farm = open_farm(arguments)
    recipes = (farm.recipe(arguments.recipe),) if arguments.recipe else farm.recipes
    jobs, unwanted = expand_matrix(recipes, farm.matrix)
    if arguments.json:
        print_json(
            {
                "unwanted": [_unwanted_to_json(item) for item in unwanted],
                "wanted": [_job_to_json(job) for job in jobs],
            }
        )
        return
    print_lines(*(job.identifier for job in jobs))
    if arguments.impossible:
        rows = [(f"{item.version.label}-{item.cell.identifier}", item.reason) for item in unwanted]
        print_lines("")
        print_table(("NOT BUILT", "WHY"), rows)
    print_lines("", f"{len(jobs)} wanted, {len(unwanted)} not (with --impossible: why)")


def _job_to_json(job: Job) -> dict[str, object]:
    return {
        "gpu_archs": [str(arch) for arch in job.gpu_archs],
        "group": job.group,
        "identifier": job.identifier,
    }


def _unwanted_to_json(item: Unwanted) -> dict[str, object]:
    return {
        "cell": item.cell.identifier,
        "impossible": item.impossible,
        "reason": item.reason,
        "recipe": item.version.label,
    }


def show_plan(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Show the jobs of the matrix as they stand against the yard."""
    if arguments.missing:
        from wheelyard.cli.missing import show_missing  # noqa: PLC0415 - imports every room

        show_missing(arguments, env)
        return
    _refuse_without_missing(arguments)
    from wheelyard.planning.plan import select_jobs, wanted_jobs  # noqa: PLC0415
    from wheelyard.survey import planning, survey  # noqa: PLC0415

    farm = open_farm(arguments)
    workshop = open_workshop(arguments, farm, env)
    with planning():
        patterns = (*arguments.select, *arguments.patterns) or ("*",)
        jobs = select_jobs(wanted_jobs(farm.recipes, farm.matrix), *patterns)
        found = survey(jobs, workshop)
    planned, unlocked = found.planned, found.unlocked
    if arguments.json:
        print_json(
            {
                "jobs": [_planned_to_json(item) for item in planned],
                "unlocked": [
                    {"identifier": item.job.identifier, "reason": item.reason} for item in unlocked
                ],
            }
        )
        return
    print_table(
        ("STATE", "JOB", ""),
        [(item.standing.state, item.job.identifier, _remark(item.standing)) for item in planned],
    )
    print_lines("", f"{len(planned)} jobs; {len(unlocked)} more have no lock (--json: which)")


def _refuse_without_missing(arguments: argparse.Namespace) -> None:
    for name in (
        "limit",
        "engine",
        "digest",
        "outputs",
        "index",
        "trust_index",
        "upstream",
        "judge",
    ):
        if getattr(arguments, name):
            msg = f"--{name.replace('_', '-')} is about what exists elsewhere. Add --missing."
            raise UsageError(msg)


def _remark(standing: Standing) -> str:
    adopted = (f"adopted from {standing.adopted}",) if standing.adopted else ()
    probed = (f"units compile for {' '.join(standing.probed)}",) if standing.probed else ()
    return "; ".join((*adopted, *probed, *standing.differences))


def _planned_to_json(item: PlannedJob) -> dict[str, object]:
    return {
        "adopted": item.standing.adopted or None,
        "differences": list(item.standing.differences),
        "identifier": item.job.identifier,
        "plan_fingerprint": item.fingerprint.sha256,
        "probed": list(item.standing.probed) or None,
        "state": str(item.standing.state),
    }


def show_schema(_arguments: argparse.Namespace, _env: Mapping[str, str]) -> None:
    """Print the JSON schema of the files that people write."""
    from wheelyard.model.schema import file_schemas  # noqa: PLC0415

    print_json({"schemas": file_schemas()})
