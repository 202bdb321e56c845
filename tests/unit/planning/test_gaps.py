"""Wanted minus existing: against a truth written by hand, and against upstream's own matrices."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.utils import canonicalize_name

from wheelyard.model.asset_name import Asset, AssetTemplate, Verdict
from wheelyard.model.published import Published, PublishedWheel, parse_published
from wheelyard.planning.gaps import (
    Existing,
    Gap,
    GapState,
    Release,
    count_reasons,
    find_gap,
    gpu_archs_lacking,
)
from wheelyard.planning.plan import JobState, Standing, expand_matrix, wanted_jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wheelyard.farm import Farm
    from wheelyard.model.job import Job

    MakeJob = Callable[..., Job]

PROBE = canonicalize_name("probe")
TEMPLATE = AssetTemplate.parse(
    "probe-{version}+cu{cuda}torch{torch}cxx11abi{abi}-{python}-{python}-linux_{machine}.whl"
)
MATRICES = Path(__file__).with_name("release_matrices.json")
MISSING = Standing(state=JobState.missing)


def _asset(name: str, template: AssetTemplate = TEMPLATE, *, sha256: str | None = None) -> Asset:
    promise = template.read(name)
    assert promise is not None
    url = f"https://example.org/{name}"
    return Asset(filename=name, url=url, size=1, sha256=sha256, promise=promise)


def _probe_asset(python: str, *, abi: str = "TRUE", sha256: str | None = None) -> Asset:
    name = f"probe-1.1+cu13torch2.11cxx11abi{abi}-{python}-{python}-linux_x86_64.whl"
    return _asset(name, sha256=sha256)


def _wheel(local: str, tag: str, *, build: str = "") -> PublishedWheel:
    name = f"probe-1.1+{local}{build}-{tag}.whl"
    wheel = parse_published(name, url=f"https://example.org/{name}", sha256="0" * 64)
    assert wheel is not None
    return wheel


def _index(*wheels: PublishedWheel, unknown: str = "") -> Published:
    return Published(
        url="https://example.org/simple/",
        wheels={} if unknown else {PROBE: wheels},
        unknown={PROBE: unknown} if unknown else {},
    )


def _verdict(identifier: str, *gpu_archs: str) -> Verdict:
    return Verdict(sha256="1" * 64, identifier=identifier, gpu_archs=gpu_archs, refusal="")


def test_gaps_are_those_of_a_truth_written_by_hand(make_probe_job: MakeJob) -> None:
    """Eight jobs of one farm, each with its own past."""
    jobs = {
        (python, torch): make_probe_job(python=python, torch=torch)
        for torch, python in itertools.product(
            ("2.11.0+cu130", "2.8.0+cu128"), ("3.10", "3.11", "3.12", "3.13")
        )
    }
    good, bad, poor = ("1" * 64, "2" * 64, "3" * 64)
    assets = (
        _probe_asset("cp310", sha256=good),
        _probe_asset("cp311", sha256=bad),
        _probe_asset("cp311", abi="FALSE"),
        _probe_asset("cp313", sha256=poor),
    )
    verdicts = {
        good: _verdict(
            "probe-1.1-cp310-torch2.11.0-cu130-x86_64-sm80.sm90.sm120.sm121",
            *("8.0", "9.0", "12.0", "12.1"),
        ),
        bad: Verdict(sha256=bad, identifier="", gpu_archs=(), refusal="undefined symbol _ZN3c10"),
        poor: _verdict("probe-1.1-cp313-torch2.11.0-cu130-x86_64-sm80.sm90", "8.0", "9.0"),
    }
    standings: dict[tuple[str, str], Standing | str] = dict.fromkeys(jobs, MISSING)
    standings["3.10", "2.8.0+cu128"] = Standing(state=JobState.done)
    standings["3.11", "2.8.0+cu128"] = Standing(
        state=JobState.stale, differences=("locks: a -> b",)
    )
    standings["3.13", "2.8.0+cu128"] = "There is no lock."
    index = _index(
        _wheel("cu130.torch2.11.0", "cp312-cp312-manylinux_2_28_x86_64"),
        _wheel("cu130.torch2.11.0", "cp313-cp313-manylinux_2_28_aarch64"),  # another machine
        _wheel("cu130.torch2.11.0", "cp313-cp313t-manylinux_2_28_x86_64"),  # another ABI
        _wheel("cu130.torch2.11.0.sm90", "cp313-cp313-manylinux_2_28_x86_64"),  # other targets
        _wheel("cu128.torch2.8.0", "cp311-cp311-manylinux_2_28_x86_64"),
    )
    existing = Existing(
        covered=lambda job: "adopted" if job is jobs["3.12", "2.8.0+cu128"] else "",
        published=(index,),
        releases={"probe-1.1": Release(assets=assets)},
        verdict=lambda asset, _job: verdicts.get(asset.sha256 or ""),
    )
    found = {key: find_gap(job, standings[key], existing) for key, job in jobs.items()}
    assert {key: (str(gap.state), gap.note) for key, gap in found.items()} == {
        ("3.10", "2.11.0+cu130"): ("adoptable", assets[0].url),
        ("3.11", "2.11.0+cu130"): ("candidate", assets[2].url),
        ("3.12", "2.11.0+cu130"): ("existing", index.wheels[PROBE][0].url),
        ("3.13", "2.11.0+cu130"): (
            "missing",
            f"{assets[3].filename}: it has no GPU code for 12.0",
        ),
        ("3.10", "2.8.0+cu128"): ("existing", "yard"),
        ("3.11", "2.8.0+cu128"): ("stale", "locks: a -> b"),
        ("3.12", "2.8.0+cu128"): ("existing", "yard: adopted serves it too"),
        ("3.13", "2.8.0+cu128"): ("unlocked", "There is no lock."),
    }
    assert found["3.10", "2.11.0+cu130"].adopt == assets[0]


def _gap(job: Job, *published: Published, release: Release | None = None) -> Gap:
    releases = {} if release is None else {job.version.label: release}
    return find_gap(job, MISSING, Existing(published=published, releases=releases))


def test_index_that_could_not_be_read_makes_nothing_missing(make_probe_job: MakeJob) -> None:
    gap = _gap(make_probe_job(), _index(unknown="answers 503"))
    assert (gap.state, gap.note) == (GapState.unknown, "answers 503")


def test_wheel_that_one_index_names_exists_whatever_another_says(make_probe_job: MakeJob) -> None:
    wheel = _wheel("cu130.torch2.11.0", "cp312-cp312-manylinux_2_28_x86_64")
    gap = _gap(make_probe_job(), _index(unknown="answers 503"), _index(wheel))
    assert gap.state is GapState.existing


@pytest.mark.parametrize(
    ("build", "expected"),
    [("", GapState.stale), ("-2", GapState.existing), ("-3", GapState.existing)],
)
def test_older_revision_in_an_index_is_stale(
    make_probe_job: MakeJob, build: str, expected: GapState
) -> None:
    job = make_probe_job()
    version = dataclasses.replace(job.version, revision=2)
    job = dataclasses.replace(job, version=version)
    wheel = _wheel("cu130.torch2.11.0", "cp312-cp312-manylinux_2_28_x86_64", build=build)
    assert _gap(job, _index(wheel)).state is expected


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        ("0.cu130.torch2.11.0", GapState.existing),
        ("0.cu132.torch2.15.0", GapState.missing),
        ("0", GapState.missing),
    ],
)
def test_wheel_without_a_local_version_is_known_by_its_build_tag(
    make_probe_job: MakeJob, recipe_text: str, build: str, expected: GapState
) -> None:
    job = make_probe_job(
        text=recipe_text.replace("[gpu-archs]", "bare-version = true\n[gpu-archs]")
    )
    name = f"probe-1.1-{build}-cp312-cp312-manylinux_2_28_x86_64.whl"
    wheel = parse_published(name, url=f"https://example.org/{name}", sha256="0" * 64)
    assert wheel is not None
    assert _gap(job, _index(wheel)).state is expected


def test_release_that_could_not_be_listed_makes_nothing_missing(make_probe_job: MakeJob) -> None:
    gap = _gap(make_probe_job(), release=Release(unknown="answers 403"))
    assert (gap.state, gap.note) == (GapState.unknown, "answers 403")


def test_wheel_of_another_torch_is_none_for_the_job(make_probe_job: MakeJob) -> None:
    asset = _probe_asset("cp312", sha256="1" * 64)
    lying = _verdict("probe-1.1-cp312-torch2.11.0-cu128-x86_64", "8.0", "9.0", "12.0")
    existing = Existing(
        releases={"probe-1.1": Release(assets=(asset,))}, verdict=lambda _asset, _job: lying
    )
    gap = find_gap(make_probe_job(), MISSING, existing)
    assert gap.state is GapState.missing
    assert "it is the wheel of probe-1.1-cp312-torch2.11.0-cu128-x86_64" in gap.note


@pytest.mark.parametrize(
    ("has", "lacking"),
    [
        (("8.0", "9.0", "12.0"), ()),
        (("8.0", "9.0+PTX", "12.0", "12.1"), ()),
        (("8.0", "9.0"), ("12.0",)),
        (("8.6", "9.0a", "12.0"), ("8.0",)),
    ],
)
def test_wheel_serves_if_its_code_runs_natively_on_all_that_is_wanted(
    make_probe_job: MakeJob, has: tuple[str, ...], lacking: tuple[str, ...]
) -> None:
    assert gpu_archs_lacking(make_probe_job(), has) == lacking


def test_reasons_are_counted_without_what_differs_from_cell_to_cell(real_farm: Farm) -> None:
    _, unwanted = expand_matrix(real_farm.recipes, real_farm.matrix)
    counts = count_reasons(unwanted)
    assert sum(count for _, count in counts) == len(unwanted)
    assert len(counts) < len(unwanted) / 10
    assert dict(counts)["its torch on aarch64 has no CUDA wheels on the index"] > 50
    assert counts == count_reasons(reversed(unwanted))


# -- upstream's own matrices


def _expanded(matrix: dict[str, list[str]]) -> Iterator[dict[str, str]]:
    axes = {key: values for key, values in matrix.items() if key != "exclude"}
    excluded: list[dict[str, str]] = matrix["exclude"]  # type: ignore[assignment]
    for values in itertools.product(*axes.values()):
        one = dict(zip(axes, values, strict=True))
        if not any(one.items() >= item.items() for item in excluded):
            yield one


def _published_name(label: str, one: dict[str, str]) -> str:
    name, _, version = label.rpartition("-")
    torch = one["torch-version"].rpartition(".")[0]
    python = "cp" + one["python-version"].replace(".", "")
    machine = "aarch64" if one["os"].endswith("-arm") else "x86_64"
    local = f"cu{one['cuda-version'].partition('.')[0]}torch{torch}cxx11abi{one['cxx11_abi']}"
    return f"{name.replace('-', '_')}-{version}+{local}-{python}-{python}-linux_{machine}.whl"


def _releases_of_upstream() -> list[tuple[str, list[dict[str, str]]]]:
    document = json.loads(MATRICES.read_text(encoding="utf-8"))
    del document["source"]
    return [
        (f"{name}-{tag.removeprefix('v')}", list(_expanded(matrix)))
        for name, tags in document.items()
        for tag, matrix in tags.items()
    ]


@pytest.mark.parametrize(
    ("label", "expanded"),
    [pytest.param(*item, id=item[0]) for item in _releases_of_upstream()],
)
def test_candidates_are_the_cells_of_upstream_s_own_matrix(
    real_farm: Farm, label: str, expanded: list[dict[str, str]]
) -> None:
    """What upstream's workflow builds, named as it names it, held against the planner."""
    jobs = [
        job
        for job in wanted_jobs(real_farm.recipes, real_farm.matrix)
        if job.version.label == label
    ]
    releases = jobs[0].version.releases
    assert releases is not None
    names = sorted({_published_name(label, one) for one in expanded})
    assets = tuple(_asset(name, releases.template) for name in names)
    existing = Existing(releases={label: Release(assets=assets)})
    found = {
        job.identifier
        for job in jobs
        if find_gap(job, MISSING, existing).state is GapState.candidate
    }
    cells = {
        (
            one["python-version"],
            one["torch-version"].rpartition(".")[0],
            one["cuda-version"].partition(".")[0],
            one["os"].endswith("-arm"),
        )
        for one in expanded
    }
    truth = {
        job.identifier
        for job in jobs
        if (
            str(job.cell.python),
            f"{job.cell.torch.version.major}.{job.cell.torch.version.minor}",
            str(job.cell.torch.cuda.major),
            job.cell.machine == "aarch64",
        )
        in cells
    }
    assert found == truth
    assert 0 < len(found) < len(jobs)
