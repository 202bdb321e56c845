"""The wheels of a torch build: torch's own, and the CUDA libraries that its METADATA pins."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from wheelyard.abi.wheel_symbols import read_wheel
from wheelyard.errors import FetchError
from wheelyard.model.markers import marker_environment
from wheelyard.model.releases import default_torch_build
from wheelyard.network.wheel_index import list_wheels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from packaging.requirements import Requirement
    from packaging.version import Version

    from wheelyard.abi.wheel_symbols import WheelSymbols
    from wheelyard.model.cell import Machine, TorchBuild
    from wheelyard.network.indexes import IndexSettings
    from wheelyard.network.wheel_index import IndexWheel

_PREFERRED_PYTHON: Final = "cp312"
# It has no libraries; its extras pin those of one CUDA release.
_TOOLKIT: Final = "cuda-toolkit"


def collect_wheels(
    torch: TorchBuild,
    machine: Machine,
    *,
    kept: Path,
    settings: IndexSettings,
    env: Mapping[str, str],
    say: Callable[[str], None],
) -> tuple[WheelSymbols, ...]:
    """Read torch's wheel and those that it pins, torch's first, in the order of their names."""
    # Imported here: requests takes 0.4 s, and a table that is there needs it not.
    from wheelyard.network.session import open_session  # noqa: PLC0415

    with open_session(settings, env) as session:

        def read(wheel: IndexWheel) -> WheelSymbols:
            return read_wheel(wheel, session=session, kept=kept, say=say)

        wheel = _torch_wheel(
            torch, machine, list_wheels("torch", settings=settings, session=session)
        )
        environment = _environment(machine, _python(wheel))
        first = read(wheel)
        found: dict[str, WheelSymbols] = {}
        queue = deque(_followed(first.requires, environment))
        while queue:
            requirement = queue.popleft()
            name = canonicalize_name(requirement.name)
            if name in found:
                continue
            listed = list_wheels(name, settings=settings, session=session)
            found[name] = read(_newest(requirement, listed, machine))
            queue += _followed(found[name].requires, environment, requirement.extras)
    return (first, *(found[name] for name in sorted(found)))


def _torch_wheel(torch: TorchBuild, machine: Machine, listed: Iterable[IndexWheel]) -> IndexWheel:
    """Choose the wheel of one Python; the index's own builds have no local version."""
    usable = [wheel for wheel in listed if _is_for(wheel, machine)]
    exact = [wheel for wheel in usable if str(wheel.version) == str(torch)]
    if not exact and default_torch_build(torch.version, machine) == torch:
        exact = [wheel for wheel in usable if wheel.version == torch.version]
    if not exact:
        msg = (
            f"no index has a wheel of torch {torch} for {machine}. If another index has it, name "
            "that one, for example in PIP_EXTRA_INDEX_URL."
        )
        raise FetchError(msg)
    return max(exact, key=lambda wheel: (_rank(_python(wheel)), wheel.build))


def _rank(abi_tag: str) -> tuple[bool, bool, int]:
    """Prefer one Python, then those with a GIL, then the newest."""
    digits = abi_tag.removeprefix("cp").removesuffix("t")
    return abi_tag == _PREFERRED_PYTHON, not abi_tag.endswith("t"), int(digits or 0)


def _python(wheel: IndexWheel) -> str:
    """For example ``cp313t``."""
    return min(tag.abi for tag in wheel.tags)


def _newest(requirement: Requirement, listed: Iterable[IndexWheel], machine: Machine) -> IndexWheel:
    """Choose as pip does; most requirements leave one version only."""
    usable = [
        wheel
        for wheel in listed
        if _is_for(wheel, machine)
        and requirement.specifier.contains(wheel.version, prereleases=False)
    ]
    if not usable:
        msg = f"no index has a wheel for {machine} that fits {str(requirement)!r}."
        raise FetchError(msg)
    return max(usable, key=_by_version)


def _by_version(wheel: IndexWheel) -> tuple[bool, Version, object]:
    return not wheel.yanked, wheel.version, wheel.build


def _is_for(wheel: IndexWheel, machine: Machine) -> bool:
    return any(
        tag.platform == "any"
        or tag.platform.endswith(f"linux_{machine}")
        or (tag.platform.startswith("manylinux") and tag.platform.endswith(machine))
        for tag in wheel.tags
    )


def _followed(
    requirements: Iterable[Requirement], environment: Mapping[str, str], extras: Iterable[str] = ()
) -> Iterator[Requirement]:
    """Yield what brings CUDA libraries; what pins others first, so that the pins win."""
    wanted = [
        one
        for one in requirements
        if canonicalize_name(one.name).startswith(("nvidia-", _TOOLKIT))
        and _applies(one, environment, extras)
    ]
    yield from sorted(
        wanted, key=lambda one: (one.name != _TOOLKIT, one.specifier == SpecifierSet())
    )


def _applies(
    requirement: Requirement, environment: Mapping[str, str], extras: Iterable[str]
) -> bool:
    if requirement.marker is None:
        return True
    return any(
        requirement.marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras)
    )


def _environment(machine: Machine, abi_tag: str) -> dict[str, str]:
    digits = abi_tag.removeprefix("cp").removesuffix("t")
    return marker_environment(python=f"{digits[:1]}.{digits[1:]}.0", machine=machine)
