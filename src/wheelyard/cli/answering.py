"""What `find` says: to people in columns that fit their terminal, to programs as JSON."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from wheelyard.cli.output import print_lines, print_table, readable_seconds, wrapped
from wheelyard.finding.cuda_versions import cuda_versions, runnable_cudas, still_run_by
from wheelyard.finding.offer import Origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wheelyard.finding.answer import Answer, Fit, HeldBack, LeftOut
    from wheelyard.finding.here import Here
    from wheelyard.finding.offer import Offer
    from wheelyard.finding.question import Question
    from wheelyard.model.cell import Cell

_FEW = 3
"""So many reasons of one kind are told one by one."""
_PLACES = {
    Origin.yard: "in the yard",
    Origin.published: "published",
    Origin.upstream: "upstream has it: adopt it",
    Origin.candidate: "upstream may have it: adopt it",
    Origin.build: "to be built",
}

_SOURCE = "a source only: the installer builds it"


def print_here(here: Here, question: Question) -> None:
    """Show this machine, its four CUDA versions, and what its driver still runs."""
    rows = [("C library", str(here.libc))]
    rows.append(("Python", ", ".join(map(str, here.pythons)) or "none"))
    rows += [
        ("GPU", f"{gpu.name}, {gpu.arch}") for gpu in (here.driver.gpus if here.driver else ())
    ]
    environment = here.environment
    if environment is not None:
        rows.append(("environment", f"{environment.prefix}, Python {environment.version}"))
    print_table(("THIS MACHINE", ""), rows)
    runtime = () if environment is None else environment.runtime()
    versions = [
        ("torch's build", f"{here.torch_cuda} ({here.torch})" if here.torch else "no torch here"),
        ("toolkit", ", ".join(f"{one.full_version} in {one.path}" for one in here.toolkits)),
        ("runtime wheels", ", ".join(map(str, runtime))),
        ("driver", _driver(here)),
    ]
    print_lines("")
    print_table(("ITS FOUR CUDA VERSIONS", ""), [(name, text or "none") for name, text in versions])
    if here.driver is not None:
        _print_runnable(here.driver.version, question)
    print_lines("")


def _driver(here: Here) -> str:
    if here.driver is None:
        return "none: wheels are imported here, not run"
    made_for = f" (made for CUDA {here.driver_cuda})" if here.driver_cuda else ""
    cudas = runnable_cudas(here.driver.version)
    runs = f"runs all of CUDA {cudas[-1].major}.x and older" if cudas else "too old for any torch"
    return f"{here.driver.version}{made_for}, {runs}"


def _print_runnable(driver: str, question: Question) -> None:
    torches = tuple(dict.fromkeys(cell.torch for cell in question.cells))
    still = still_run_by(driver, torches)
    too_new = [torch for torch in torches if torch not in still]
    if too_new:
        print_lines("", *wrapped(f"The driver is too old for torch {_join(too_new)}."))
        print_lines(*wrapped(f"It still runs torch {_join(still) or 'of no cell'}."))


def _join(items: Iterable[object]) -> str:
    return ", ".join(map(str, items))


def print_answer(found: Answer) -> None:
    """Show the combinations, why others are none, and how the best is had."""
    if found.fits:
        rows = [(fit.cell.identifier, state(fit)) for fit in found.fits]
        print_table(("COMBINATION", "STATE"), rows)
        print_lines("")
    _print_left_out(found.left_out)
    if found.elsewhere is not None:
        glibc = ".".join(map(str, found.elsewhere.glibc))
        fit = found.elsewhere.fit
        text = f"With glibc {glibc} or later: {fit.cell.identifier}, {state(fit)}"
        print_lines(*wrapped(text, indent=4))
        _print_ours(fit)
        _print_held_back(found.elsewhere.held_back)
        print_lines("")
    if found.best is not None:
        _print_best(found, found.best)


def state(fit: Fit) -> str:
    """Say in short what has to be done until everything exists."""
    if fit.works_now:
        count = len(fit.resolved.from_source)
        return f"works now, {count} from source" if count else "works now"
    building = sum(one.origin is Origin.build for one in fit.to_make)
    adopting = len(fit.to_make) - building
    parts = [f"adopt {adopting}"] if adopting else []
    parts += [f"build {building}"] if building else []
    return f"{', '.join(parts)} ({readable_seconds(fit.effort)} of CPU)"


def _print_left_out(items: Sequence[LeftOut]) -> None:
    """Say why others are left out; that there is no such torch is told once where it is much."""
    impossible = [item for item in items if item.impossible]
    if len({item.reason for item in impossible}) > _FEW:
        items = [item for item in items if not item.impossible]
    else:
        impossible = []
    groups: dict[str, list[Cell]] = {}
    for item in items:
        groups.setdefault(item.reason, []).append(item.cell)
    for reason, cells in groups.items():
        _print_group(cells, reason.split("; "))
    if impossible:
        reason = "torch has no wheels for that Python (--json: which it has)"
        _print_group([item.cell for item in impossible], [reason])


def _print_group(cells: Sequence[Cell], reasons: Iterable[str]) -> None:
    for text in cells_in_words(cells):
        print_lines(*wrapped(f"not {text}:", indent=4, first=0))
    for reason in reasons:
        print_lines(*wrapped(reason, indent=4, first=2))
    print_lines("")


def cells_in_words(cells: Iterable[Cell]) -> list[str]:
    """Name cells by the Pythons that have the same torch builds.

    For example ``cp312, cp311 x torch 2.15.0+cu132, 2.11.0+cu130``.
    """
    torches: dict[str, list[str]] = {}
    for cell in cells:
        torches.setdefault(cell.python.abi_tag, []).append(str(cell.torch))
    pythons: dict[tuple[str, ...], list[str]] = {}
    for python, builds in torches.items():
        pythons.setdefault(tuple(builds), []).append(python)
    return [f"{_join(names)} x torch {_join(builds)}" for builds, names in pythons.items()]


def _print_ours(fit: Fit) -> None:
    rows = [(offer.public, _PLACES[offer.origin]) for offer in fit.resolved.ours]
    rows += [(f"{item.name} {item.version}", _SOURCE) for item in fit.resolved.from_source]
    if not rows:
        print_lines("  the index has wheels of everything")
        return
    width = max(len(name) for name, _ in rows)
    print_lines(*(f"  {name.ljust(width)}  {place}" for name, place in rows))
    doubts = {offer.doubt: offer for offer in fit.to_make if offer.doubt}
    for doubt, offer in doubts.items():
        text = f"whether somebody has {offer.public} already is not known: {doubt}"
        print_lines(*wrapped(text, indent=4, first=2))


def _print_held_back(items: Iterable[HeldBack]) -> None:
    for item in items:
        print_lines(*wrapped(f"not {item.offer.public}, because", indent=4, first=2))
        for reason in item.reason.split("; "):
            print_lines(*wrapped(reason, indent=6, first=4))


def _print_best(found: Answer, best: Fit) -> None:
    print_lines(f"best: {best.cell.identifier}, {state(best)}")
    _print_ours(best)
    _print_held_back(found.held_back)
    versions = cuda_versions(best, driver=found.question.driver)
    driver = versions.driver or f"{versions.minimum_driver} or later"
    text = (
        f"CUDA: torch {versions.torch}, toolkit {versions.toolkit}, runtime wheels "
        f"{versions.runtime or 'in torch'}, driver {driver} ({versions.rule})"
    )
    print_lines(*wrapped(text, indent=4, first=2), "")
    print_lines(*(f"  {line}" for line in commands(best, found.question)))


def commands(fit: Fit, question: Question) -> tuple[str, ...]:
    """Return the lines that make what does not exist, and install everything."""
    making = [_making(offer) for offer in fit.to_make]
    urls = dict.fromkeys(offer.index_url for offer in fit.resolved.ours)
    others_index = (fit.resolved.torch_index,) if fit.resolved.torch_index else ()
    indexes = [word for url in (*urls, *others_index) for word in ("--index", url)]
    ours = {offer.name for offer in fit.resolved.ours}
    pins = [f"torch=={fit.resolved.version('torch')}"]
    pins += [f"{offer.name}=={offer.version}" for offer in fit.resolved.ours]
    others = [
        str(item)
        for item in question.requirements
        if canonicalize_name(item.name) not in {*ours, "torch"}
    ]
    # as pip does: what our index lacks is looked for in the next
    strategy = ["--index-strategy", "unsafe-best-match"] if indexes else []
    line = ["uv", "pip", "install", *indexes, *strategy, *pins, *others]
    return (*making, shlex.join(line))


def _making(offer: Offer) -> str:
    if offer.origin in {Origin.upstream, Origin.candidate}:
        return shlex.join(["wheelyard", "adopt", offer.place, "--recipe", offer.name])
    return shlex.join(["wheelyard", "build", "--job", offer.place])


def answer_to_json(found: Answer) -> dict[str, object]:
    return {
        "elsewhere": None
        if found.elsewhere is None
        else {
            **_fit_to_json(found.elsewhere.fit, found.question),
            "glibc": ".".join(map(str, found.elsewhere.glibc)),
            "held_back": [_held_to_json(item) for item in found.elsewhere.held_back],
        },
        "fits": [_fit_to_json(fit, found.question) for fit in found.fits],
        "held_back": [_held_to_json(item) for item in found.held_back],
        "left_out": [
            {"cell": item.cell.identifier, "reason": item.reason} for item in found.left_out
        ],
    }


def _fit_to_json(fit: Fit, question: Question) -> dict[str, object]:
    versions = cuda_versions(fit, driver=question.driver)
    return {
        "cell": fit.cell.identifier,
        "commands": list(commands(fit, question)),
        "cpu_seconds": fit.effort,
        "cuda": {
            "driver": versions.driver or None,
            "minimum_driver": versions.minimum_driver,
            "runtime": versions.runtime or None,
            "toolkit": str(versions.toolkit),
            "torch": str(versions.torch),
        },
        "from_source": [str(item.name) for item in fit.resolved.from_source],
        "ours": [_offer_to_json(offer) for offer in fit.resolved.ours],
        "packages": {name: str(item.version) for name, item in fit.resolved.packages.items()},
        "works_now": fit.works_now,
    }


def _held_to_json(item: HeldBack) -> dict[str, str]:
    return {"reason": item.reason, "taken": item.taken, "wheel": item.offer.public}


def _offer_to_json(offer: Offer) -> dict[str, str | None]:
    return {
        "doubt": offer.doubt or None,
        "name": offer.name,
        "origin": str(offer.origin),
        "place": offer.place,
        "version": str(offer.version),
    }


def here_to_json(here: Here) -> dict[str, object]:
    driver = here.driver
    environment = here.environment
    return {
        "driver": None if driver is None else driver.version,
        "driver_cuda": here.driver_cuda or None,
        "environment": None if environment is None else str(environment.python),
        "gpus": [] if driver is None else [{"arch": g.arch, "name": g.name} for g in driver.gpus],
        "libc": str(here.libc),
        "pythons": [str(python) for python in here.pythons],
        "runtime": [] if environment is None else [str(one) for one in environment.runtime()],
        "toolkits": [{"path": str(one.path), "version": one.full_version} for one in here.toolkits],
        "torch": here.torch or None,
    }
