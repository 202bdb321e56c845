"""Put a wheel beside the torch it is for, or beside all that are known to see which it fits."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from packaging.version import InvalidVersion, Version

from wheelyard.wheels.findings import FileVerdict, Finding, FindingKind, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from wheelyard.wheels.check_loading import Loading, LoadingCheck
    from wheelyard.wheels.findings import Surroundings
    from wheelyard.wheels.labels import Labels

_SHOWN: Final = 4


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Fitting:
    """How the wheel's compiled files do beside one torch, and which others they load beside."""

    torch: str = ""
    files: tuple[FileVerdict, ...] = ()
    fits: tuple[str, ...] | None = None
    findings: tuple[Finding, ...] = ()


def fit(
    wheel: LoadingCheck,
    surroundings: Surroundings | None,
    candidates: Iterable[Surroundings],
    labels: Labels,
) -> Fitting:
    """Find what is missing beside the given torch; without one, beside the best candidate.

    The other candidates are tried when none is given, or when the given one does not do.
    """
    if surroundings is None:
        return _fit_any(wheel, tuple(candidates), labels)
    given = wheel.beside(surroundings)
    if given.fits:
        return _beside(surroundings, given, fits=None)
    tried = _try(wheel, candidates, surroundings.machine)
    fits = tuple(name for name, loading in tried.items() if loading.fits)
    return _beside(surroundings, given, fits=fits, more=_advice(surroundings.torch, fits, tried))


def _fit_any(wheel: LoadingCheck, candidates: Sequence[Surroundings], labels: Labels) -> Fitting:
    by_name = {one.torch: one for one in candidates}
    machines = [labels.machine or one.machine for one in candidates[:1]]
    tried = _try(wheel, candidates, *machines) if machines else {}
    if not tried:
        return Fitting()
    fits = tuple(name for name, loading in tried.items() if loading.fits)
    best = fits[-1] if fits else min(tried, key=lambda name: tried[name].problems)
    more = _unfit_but_allowed(labels, fits, tried) if fits else _advice(best, fits, tried)
    return _beside(by_name[best], tried[best], fits=fits, more=more)


def _try(
    wheel: LoadingCheck, candidates: Iterable[Surroundings], machine: str
) -> Mapping[str, Loading]:
    return {one.torch: wheel.beside(one) for one in candidates if one.machine == machine}


def _beside(
    surroundings: Surroundings,
    loading: Loading,
    *,
    fits: tuple[str, ...] | None,
    more: Iterable[Finding] = (),
) -> Fitting:
    return Fitting(
        torch=surroundings.torch,
        files=loading.files,
        fits=fits,
        findings=(*loading.findings, *more),
    )


def _advice(torch: str, fits: Sequence[str], tried: Mapping[str, Loading]) -> Iterator[Finding]:
    """Say which torch would do, as a finding behind those that say why this one does not."""
    if fits:
        message = f"It does not load beside torch {torch}, but beside {', '.join(fits)}"
    elif tried:
        message = (
            f"It does not load beside torch {torch}, nor beside any other of the {len(tried)} "
            f"torch builds that are known here ({next(iter(tried))} to {list(tried)[-1]})"
        )
    else:
        return
    yield Finding(kind=FindingKind.TORCH, message=message)


def _unfit_but_allowed(
    labels: Labels, fits: Sequence[str], tried: Mapping[str, Loading]
) -> Iterator[Finding]:
    """Warn when the requirements let an installer choose a torch that it does not load beside."""
    if labels.metadata is None:
        return
    wanted = [one.specifier for one in labels.metadata.requires if one.name == "torch"]
    unfit = [
        name
        for name in tried
        if name not in fits and all(one.contains(_public(name)) for one in wanted)
    ]
    if wanted and unfit:
        shown = ", ".join(unfit[:_SHOWN]) + (", ..." if len(unfit) > _SHOWN else "")
        asked = " and ".join(str(one) or "any" for one in wanted)
        yield Finding(
            kind=FindingKind.REQUIREMENT,
            message=f"METADATA asks for torch {asked}, but it does not load beside {shown}",
            severity=Severity.WARNING,
            details=tuple(unfit),
        )


def _public(torch: str) -> Version:
    try:
        return Version(torch.partition("+")[0])
    except InvalidVersion:
        return Version("0")
