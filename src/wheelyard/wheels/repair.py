"""Repair a wheel: torch, CUDA and driver libraries stay outside, the platform tag is earned."""

from __future__ import annotations

import functools
import re
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from wheelyard.errors import ProcessError, RepairError
from wheelyard.files import file_sha256
from wheelyard.model.matrix import parse_machine
from wheelyard.model.metadata import parse_core_metadata, parse_record
from wheelyard.run import run
from wheelyard.wheels.audit import (
    auditwheel_path,
    is_above,
    is_excluded,
    is_misled,
    last_words,
    lowest_platform_tag,
    show_wheel,
    tool_environment,
)
from wheelyard.wheels.excess import refuse_above
from wheelyard.wheels.stamp import member_names, read_dist_info, stamp_wheel
from wheelyard.wheels.values import RepairedWheel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packaging.requirements import Requirement
    from packaging.version import Version

    from wheelyard.model.platform import PlatformFloor
    from wheelyard.wheels.audit import Audit
    from wheelyard.wheels.values import AdoptedWheel, BuiltWheel

EXCLUDES = (
    "libtorch*",
    "libc10*",
    "libcaffe2*",
    "libshm.so*",
    "libcuda*",
    "libcudart*",
    "libcublas*",
    "libcudnn*",
    "libcufft*",
    "libcufile*",
    "libcupti*",
    "libcurand*",
    "libcusolver*",
    "libcusparse*",
    "libnccl*",
    "libnv*",
    "libibverbs*",
    "libmlx5*",
)
"""What torch, its CUDA wheels and the driver bring; the last two belong to the kernel's driver."""

_GRAFT_MARK = re.compile(r"-[0-9a-f]{8}(?=\.)")


def repair_wheel(
    built: BuiltWheel | AdoptedWheel,
    *,
    destination: Path,
    version: Version,
    torch_requirement: Requirement | None,
    build_tag: str | None,
    env: Mapping[str, str],
    floor: PlatformFloor | None = None,
    object_folders: Sequence[Path] = (),
    excludes: Sequence[str] = (),
    extra_files: Mapping[str, bytes] | None = None,
) -> RepairedWheel:
    """Write the wheel into the folder ``destination``, with its identity, fit for an index.

    auditwheel rewrites it only where a library has to be grafted: otherwise all that its
    ``repair`` does is to change the tags, which the stamp does as well. A wheel that needs newer
    systems than the ``floor`` is refused; ``object_folders`` are where its build compiled.
    """
    patterns = (*EXCLUDES, *excludes)
    stamp = functools.partial(
        stamp_wheel, version=version, torch_requirement=torch_requirement, build_tag=build_tag
    )
    _refuse_other_version(built.path, version)
    _refuse_unlisted_members(built.path)
    destination.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".repair-", dir=destination) as folder:
        scratch = Path(folder)
        audit = show_wheel(built.path, env=env, scratch=scratch)
        refuse = functools.partial(
            _refuse_above, floor, audit=audit, folders=object_folders, scratch=scratch
        )
        platform_tag = None
        if not is_misled(audit, patterns):
            refuse(built.path, audit.symbols_tag)
            platform_tag = lowest_platform_tag(audit, patterns)
        wheel = built.path
        grafted: tuple[str, ...] = ()
        if platform_tag is None:
            linux = stamp(wheel, destination=scratch, platform_tag=f"linux_{audit.machine}")
            wheel = _graft(linux, patterns, env=env, scratch=scratch, log_path=built.log_path)
            grafted = _refuse_excluded(linux, wheel, patterns)
            platform_tag = wheel.stem.rpartition("-")[2]
            audit = show_wheel(wheel, env=env, scratch=scratch)
        refuse(wheel, platform_tag)
        path = stamp(
            wheel, destination=destination, platform_tag=platform_tag, extra_files=extra_files
        )
    return RepairedWheel(
        path=path,
        sha256=file_sha256(path),
        version=version,
        platform_tag=platform_tag,
        external_libraries=tuple(sorted(audit.external)),
        grafted_libraries=grafted,
        policy_symbols=audit.newest_symbols,
    )


def _refuse_above(
    floor: PlatformFloor | None,
    wheel: Path,
    tag: str,
    *,
    audit: Audit,
    folders: Sequence[Path],
    scratch: Path,
) -> None:
    if floor is not None and is_above(tag, floor):
        machine = parse_machine(audit.machine)
        refuse_above(floor, wheel, machine=machine, object_folders=folders, scratch=scratch)


def _graft(
    wheel: Path,
    patterns: Sequence[str],
    *,
    env: Mapping[str, str],
    scratch: Path,
    log_path: Path,
) -> Path:
    """Run ``auditwheel repair`` and return the one wheel that it wrote."""
    folder = scratch / "grafted"
    command = [auditwheel_path(env), "repair", f"--wheel-dir={folder}"]
    command += [f"--exclude={pattern}" for pattern in patterns]
    try:
        run([*command, wheel], env=tool_environment(env, scratch), log_path=log_path)
    except ProcessError as error:
        msg = (
            f"{wheel.name} cannot be repaired: {last_words(error)}\nInstall the library that is "
            "missing and build again."
        )
        raise RepairError(msg) from error
    match sorted(folder.glob("*.whl")):
        case [repaired]:
            return repaired
        case found:
            msg = f"auditwheel repair left {len(found)} wheels for {wheel.name}, not one."
            raise RepairError(msg)


def _refuse_excluded(before: Path, after: Path, patterns: Sequence[str]) -> tuple[str, ...]:
    """Return the libraries that were grafted; an excluded one among them is an error."""
    added = sorted({*member_names(after)} - {*member_names(before)})
    grafted = tuple(name for name in added if ".so" in PurePosixPath(name).name)
    for name in grafted:
        soname = _GRAFT_MARK.sub("", PurePosixPath(name).name)
        if is_excluded(soname, patterns):
            msg = (
                f"auditwheel grafted {name!r} into {after.name}, though {soname!r} has to stay "
                "outside: two copies of it in one process do not work. This is a bug: report it."
            )
            raise RepairError(msg)
    return grafted


def _refuse_other_version(wheel: Path, version: Version) -> None:
    found = parse_core_metadata(read_dist_info(wheel, "METADATA")).version
    if found.public != version.public:
        msg = (
            f"The build wrote version {str(found)!r} into {wheel.name}, the recipe says "
            f"{version.public!r}. Correct the recipe's version or its source."
        )
        raise RepairError(msg)


def _refuse_unlisted_members(wheel: Path) -> None:
    """auditwheel looks at the members that RECORD lists, and at no other."""
    listed = {row.path for row in parse_record(read_dist_info(wheel, "RECORD"))}
    unlisted = [name for name in member_names(wheel) if name not in listed]
    if unlisted:
        msg = f"RECORD of {wheel.name} does not list {unlisted[0]!r}; its build has to be fixed."
        raise RepairError(msg)
