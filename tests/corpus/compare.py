"""Hold ``wheelyard check`` against what loading has shown, and print every disagreement.

    python tests/corpus/compare.py --wheels FOLDER [BEGINNING ...]

Two questions are asked. Of each file: does the check say that it loads where it loads, and that it
does not where it does not? And of each wheel: is it accepted beside its own torch, and refused
beside another one with which files fail that load beside its own?
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus import corpus_folder, fetch, is_crash, is_loaded, read_corpus, read_truth, select
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from corpus import CorpusWheel, Meeting, WheelTruth

SHOWN_CHARACTERS = 300
PYTHON_SUFFIX = re.compile(r"\.cpython-(\d{2,3}t?)-[\w-]+\.so$")
WHEELYARD = (sys.executable, "-m", "wheelyard")


class Disagreement(StrEnum):
    """How a check can be wrong."""

    FALSE_ALARM = "false alarm"
    MISS = "miss"
    OUTSIDE = "outside"
    """A wheel is refused for want of what it needs from elsewhere, which is known of it."""
    CRASH = "crash"
    """All symbols are there, and what runs while the file is loaded ends the process."""
    SILENT = "not judged"
    """The file loads or not, and the report has no word about it."""


Row = tuple[Disagreement, str, str]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One thing that check and loader see differently."""

    kind: Disagreement
    wheel: str
    torch: str
    member: str
    """Empty where it is about the whole wheel."""
    shown: str
    said: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What came of one wheel beside one torch build."""

    wheel: str
    torch: str
    verdicts: Mapping[str, int]
    differences: tuple[Difference, ...]


def main() -> None:
    """Compare, print, and exit with 1 if there is any false alarm or miss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheels_of", nargs="*", metavar="BEGINNING", help="of filenames")
    parser.add_argument("--wheels", type=Path, help="folder of the wheels; filled as needed")
    parser.add_argument("--torch", action="append", metavar="V", help="only these torch builds")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, help="keep the differences in a file")
    arguments = parser.parse_args()
    folder = corpus_folder(arguments.wheels)
    truth = read_truth().wheels
    wheels = select(read_corpus(), arguments.wheels_of)
    builds = dict.fromkeys(torch for wheel in wheels for torch in truth[wheel.filename].torch)
    comparisons = []
    for torch in arguments.torch or builds:
        met = [wheel for wheel in wheels if torch in truth[wheel.filename].torch]
        reports = check([fetch(wheel, folder) for wheel in met], torch, jobs=arguments.jobs)
        for wheel, report in zip(met, reports, strict=True):
            comparisons.append(compare(wheel, truth[wheel.filename], torch, report))
    differences = [one for comparison in comparisons for one in comparison.differences]
    show(comparisons, differences)
    if arguments.json:
        rows = [dataclasses.asdict(one) for one in differences]
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    wrong = {Disagreement.FALSE_ALARM, Disagreement.MISS}
    sys.exit(any(one.kind in wrong for one in differences))


def compare(
    wheel: CorpusWheel, truth: WheelTruth, torch: str, report: Mapping[str, Any]
) -> Comparison:
    """Hold every answer about one wheel beside one torch build against the truth."""
    said = {_installed(file["member"]): file["loads"] for file in report["files"]}
    why = {_installed(file["member"]): "; ".join(file["why"]) for file in report["files"]}
    meeting, own = truth.torch[torch], truth.torch.get(wheel.torch)
    rows = list(_member_rows(meeting, said, wheel.python_version.abi_tag))
    rows += _wheel_rows(wheel, meeting, own, report) if own else ()
    return Comparison(
        wheel=wheel.filename,
        torch=torch,
        verdicts=Counter(str(said.get(member)) for member in meeting.members),
        differences=tuple(
            Difference(
                kind=kind,
                wheel=wheel.filename,
                torch=torch,
                member=member,
                shown=shown,
                said=_cut((why.get(member) if member else _errors(report)) or "nothing is wrong"),
            )
            for kind, member, shown in rows
        ),
    )


def check(paths: Sequence[Path], torch: str, *, jobs: int) -> list[dict[str, Any]]:
    """Return the reports of ``wheelyard check``, whatever their verdicts are."""
    command = [*WHEELYARD, "check", *map(str, paths), "--torch", torch, "--json"]
    command += ["--jobs", str(jobs)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    try:
        reports: list[dict[str, Any]] = json.loads(done.stdout)["reports"]
    except ValueError:
        sys.exit(f"wheelyard check --torch {torch} ended with {done.returncode} and no report.")
    return reports


def _installed(member: str) -> str:
    """Return where installers put a member, relative to site-packages."""
    folder, _, rest = member.partition("/")
    if folder.endswith(".data"):
        return rest.partition("/")[2]
    return member


def _member_rows(meeting: Meeting, said: Mapping[str, bool | None], abi: str) -> Iterator[Row]:
    for member, shown in meeting.members.items():
        suffix = PYTHON_SUFFIX.search(member)
        if suffix is not None and f"cp{suffix[1]}" != abi:
            continue  # the Python that it was loaded with is not the one that it is for
        if member not in said:
            yield Disagreement.SILENT, member, shown
        elif said[member] is False and is_loaded(shown):
            yield Disagreement.FALSE_ALARM, member, shown
        elif said[member] is True and not is_loaded(shown):
            kind = Disagreement.CRASH if is_crash(shown) else Disagreement.MISS
            yield kind, member, shown


def _wheel_rows(
    wheel: CorpusWheel, meeting: Meeting, own: Meeting, report: Mapping[str, Any]
) -> Iterator[Row]:
    # Of files that differ in digits only, a package loads one: that for its torch or its CUDA.
    working = {_family(one) for one, shown in meeting.members.items() if is_loaded(shown)}
    broken = [
        member
        for member, shown in meeting.members.items()
        if not is_loaded(shown) and _has_all(own.members.get(member, ""))
        if _family(member) not in working
    ]
    if broken and report["passed"]:
        all_crash = all(is_crash(meeting.members[member]) for member in broken)
        yield (
            Disagreement.CRASH if all_crash else Disagreement.MISS,
            "",
            f"{broken[0]}: {meeting.members[broken[0]]}",
        )
    if not broken and not report["passed"]:
        kind = Disagreement.OUTSIDE if wheel.outside else Disagreement.FALSE_ALARM
        yield kind, "", "everything loads that loads beside its own torch"


def _has_all(shown: str) -> bool:
    return is_loaded(shown) or is_crash(shown)


def _family(member: str) -> str:
    return re.sub(r"\d+", "#", member)


def _errors(report: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{finding['kind']}: {finding['message']}"
        for finding in report["findings"]
        if finding["severity"] == "error"
    )


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."


def show(comparisons: list[Comparison], differences: list[Difference]) -> None:
    """Print the table of differences and the sums."""
    table = Table("what", "wheel", "torch", "file", "loading shows", "check says")
    for one in differences:
        table.add_row(str(one.kind), one.wheel, one.torch, one.member, one.shown, one.said)
    console = Console()
    if differences:
        console.print(table)
    verdicts = sum((Counter(one.verdicts) for one in comparisons), Counter())
    kinds = Counter(str(one.kind) for one in differences)
    wheels = len({one.wheel for one in comparisons})
    console.print(
        f"{wheels} wheels, {len(comparisons)} pairs with a torch build, "
        f"{sum(verdicts.values())} files: {verdicts['True']} load, {verdicts['False']} do not, "
        f"{verdicts['None']} not said."
    )
    for kind in Disagreement:
        console.print(f"{kind}: {kinds[kind]}")


if __name__ == "__main__":
    main()
