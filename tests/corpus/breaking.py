"""What a broken wheel is made from, what has to be found in it, and how that is judged."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from typing import TYPE_CHECKING, Final

from corpus import fetch, read_corpus
from packaging.metadata import parse_email
from packaging.requirements import Requirement
from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_wheel_filename
from workpiece import Workpiece

from wheelyard.abi.tables import own_tables_folder
from wheelyard.machine.folders import cache_folder
from wheelyard.model.cell import parse_gpu_archs
from wheelyard.wheels.check import Expectation, Finding, FindingKind, check
from wheelyard.wheels.surrounding import torch_candidates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from typing import TypeAlias

    from wheelyard.wheels.check import CheckReport, Surroundings

    Breaking: TypeAlias = Callable[[Workpiece], object]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A real wheel that passes, and what is true of it."""

    filename: str
    torch: str
    tag: str
    """One of its tags."""
    extensions: tuple[str, ...] = ()
    gpu_archs: str = ""
    mend: Breaking | None = None
    """Makes it pass as one of ours, where upstream was careless."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One way to break a wheel, and what has to be said of it."""

    name: str
    source: str
    breaking: Breaking
    kind: FindingKind
    message: str
    """A regular expression for the explanation, searched in a finding of this kind."""
    torch: str | None
    """The torch it is put beside; None for all that are known."""
    gpu: str
    ours: bool
    """Whether it is checked as a wheel that a recipe asked for."""
    refused: bool
    """Whether it must not be used; else a warning is enough."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What came of one case."""

    case: Case
    report: CheckReport
    new: tuple[Finding, ...]
    """What is not found in the wheel as it was."""
    explanation: str
    """The right one, where there is one."""

    @property
    def found(self) -> bool:
        """Whether there is a finding of this kind, and grave enough."""
        is_seen = any(one.kind is self.case.kind for one in self.new)
        return is_seen and (not self.report.passed or not self.case.refused)

    @property
    def explained(self) -> bool:
        return self.found and bool(self.explanation)


def _mend_torchaudio(piece: Workpiece) -> None:
    """Do what a repair would do: no path of the build machine, and the torch it is for."""
    for member in (name for name in piece.members if name.endswith(".so")):
        piece.patch(member, "--remove-rpath")
    piece.require("torch==2.11.0")


_TORCHAUDIO: Final = Source(
    filename="torchaudio-2.11.0-cp312-cp312-manylinux_2_28_x86_64.whl",
    torch="2.11.0+cu130",
    tag="cp312-cp312-manylinux_2_28_x86_64",
    gpu_archs="7.5 8.0 8.6 9.0 10.0 12.0+PTX",
)
SOURCES: Final[Mapping[str, Source]] = {
    "torchvision 0.26": Source(
        filename="torchvision-0.26.0-cp312-cp312-manylinux_2_28_x86_64.whl",
        torch="2.11.0+cu130",
        tag="cp312-cp312-manylinux_2_28_x86_64",
    ),
    "torchvision 0.21": Source(
        filename="torchvision-0.21.0-cp312-cp312-manylinux1_x86_64.whl",
        torch="2.6.0+cu124",
        tag="cp312-cp312-manylinux1_x86_64",
    ),
    "torchaudio": _TORCHAUDIO,
    "torchaudio, mended": dataclasses.replace(_TORCHAUDIO, mend=_mend_torchaudio),
    "torch-harmonics": Source(
        filename=(
            "torch_harmonics_cuda_latest-0.9.1-cp312-cp312-"
            "manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl"
        ),
        torch="2.11.0+cu130",
        tag="cp312-cp312-manylinux_2_24_x86_64",
        extensions=(
            "attention_helpers",
            "disco_helpers",
            "torch_harmonics.attention._C",
            "torch_harmonics.disco._C",
        ),
    ),
    "torchao": Source(
        filename=(
            "torchao-0.9.0-cp39-abi3-"
            "manylinux_2_17_x86_64.manylinux2014_x86_64.manylinux_2_28_x86_64.whl"
        ),
        torch="2.6.0+cu124",
        tag="cp39-abi3-manylinux_2_17_x86_64",
    ),
    "flash-mla": Source(
        filename="sgl_flash_mla-1.0.0-cp310-abi3-manylinux2014_x86_64.whl",
        torch="2.14.1+cu130",
        tag="cp310-abi3-manylinux2014_x86_64",
    ),
    "tensordict": Source(
        filename="tensordict-0.14.3-cp312-cp312-manylinux_2_28_x86_64.whl",
        torch="2.11.0+cu130",
        tag="cp312-cp312-manylinux_2_28_x86_64",
    ),
}
CASES: Final[dict[str, Case]] = {}


def broken(
    source: str,
    kind: FindingKind,
    message: str,
    *,
    torch: str | None = "its own",
    gpu: str = "",
    ours: bool = False,
    refused: bool = True,
) -> Callable[[Breaking], Breaking]:
    """Register a way to break a wheel; the function's name says what is wrong with it then."""

    def register(breaking: Breaking) -> Breaking:
        name = breaking.__name__.replace("_", " ").strip()
        assert name not in CASES, f"there are two cases of the name {name!r}"
        CASES[name] = Case(
            name=name,
            source=source,
            breaking=breaking,
            kind=kind,
            message=message,
            torch=SOURCES[source].torch if torch == "its own" else torch,
            gpu=gpu,
            ours=ours,
            refused=refused,
        )
        return breaking

    return register


class Bench:
    """The real wheels in one folder, the torches they are put beside, and room to break them in."""

    def __init__(self, wheels: Path, scratch: Path) -> None:
        self._wheels, self._scratch = wheels, scratch
        tables = own_tables_folder(cache_folder(os.environ))
        self._torches = {one.torch: one for one in torch_candidates("x86_64", own_tables=tables)}
        self._pins = {one.filename: one for one in read_corpus()}
        self._as_it_was = functools.cache(self._check_as_it_was)

    def judge(self, case: Case) -> Verdict:
        """Break a wheel, check it, and compare with what is said of it when it is whole."""
        piece = self.open(case.source)
        case.breaking(piece)
        path = piece.write(self._scratch)
        try:
            report = self._check(path, case.source, case.torch, gpu=case.gpu, ours=case.ours)
        finally:
            path.unlink()
        before = {
            (one.kind, one.message, one.details)
            for one in self._as_it_was(case.source, case.gpu, case.ours).findings
        }
        new = tuple(
            one for one in report.findings if (one.kind, one.message, one.details) not in before
        )
        right = (one.message for one in new if _is_right(one, case))
        return Verdict(case=case, report=report, new=new, explanation=next(right, ""))

    def check_whole(self, source: str, *, ours: bool) -> CheckReport:
        """Check a wheel that nobody broke, beside its own torch."""
        return self._as_it_was(source, "", ours)

    def open(self, source: str) -> Workpiece:
        """Return a real wheel, to be broken, as it is before."""
        piece = Workpiece(self.fetch(source))
        mend = SOURCES[source].mend
        if mend is not None:
            mend(piece)
        return piece

    def fetch(self, source: str) -> Path:
        return fetch(self._pins[SOURCES[source].filename], self._wheels)

    def surroundings(self, torch: str) -> Surroundings:
        return self._torches[torch]

    def _check_as_it_was(self, source: str, gpu: str, ours: bool) -> CheckReport:  # noqa: FBT001
        path = self.open(source).write(self._scratch)
        report = self._check(path, source, SOURCES[source].torch, gpu=gpu, ours=ours)
        path.unlink()
        return report

    def _check(
        self, path: Path, source: str, torch: str | None, *, gpu: str, ours: bool
    ) -> CheckReport:
        return check(
            path,
            expectation=self._expectation(source) if ours else None,
            surroundings=None if torch is None else self._torches[torch],
            candidates=tuple(self._torches.values()),
            gpus=parse_gpu_archs(gpu) if gpu else (),
            scratch=self._scratch,
        )

    def _expectation(self, source: str) -> Expectation:
        """Return what a recipe for the wheel would say."""
        piece, about = self.open(source), SOURCES[source]
        name, version, _, _ = parse_wheel_filename(piece.filename)
        metadata, _ = parse_email(piece.members[piece.path("METADATA")])
        interpreter, abi, platform = about.tag.split("-")
        return Expectation(
            name=canonicalize_name(name),
            version=version,
            tag=Tag(interpreter, abi, platform),
            build_tag=None,
            extensions=about.extensions,
            top_levels=frozenset(_top_levels(piece.members)),
            requires=tuple(Requirement(text) for text in metadata.get("requires_dist", ())),
            gpu_archs=parse_gpu_archs(about.gpu_archs) if about.gpu_archs else (),
            machine="x86_64",
        )


def _top_levels(members: Iterable[str]) -> Iterable[str]:
    tops = {member.partition("/")[0] for member in members}
    return {top.partition(".")[0] for top in tops if not top.endswith((".dist-info", ".libs"))}


def _is_right(finding: Finding, case: Case) -> bool:
    text = "\n".join([finding.message, *finding.details])
    return finding.kind is case.kind and re.search(case.message, text, re.DOTALL) is not None
