"""Commands over what the yard keeps: its list, show, yank, remove, prune, import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.cli.output import print_json, print_lines, print_table
from wheelyard.cli.session import open_farm, opened_yard, yard_folder
from wheelyard.errors import IntegrityError, UnknownNameError, UsageError
from wheelyard.machine.disk import readable_size
from wheelyard.machine.folders import cache_folder
from wheelyard.model.index_page import install_lines
from wheelyard.model.words import nearest
from wheelyard.yard.removing import find_litter, prune, remove_wheels, superseded
from wheelyard.yard.store import Yard, open_yard
from wheelyard.yard.yanking import unyank_wheel, yank_wheel

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from wheelyard.model.index_entry import IndexEntry


def list_yard(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Show the wheels of the yard."""
    yard = opened_yard(arguments, env)
    entries = list(yard.entries(yard.record_names()))
    if arguments.json:
        print_json({"wheels": [_entry_to_json(entry, yard) for entry in entries]})
        return
    rows = [
        (
            entry.identifier,
            str(entry.revision or ""),
            readable_size(entry.size),
            str(yard.best_level(entry.sha256) or "not"),
            _state(entry, yard),
        )
        for entry in sorted(entries, key=lambda entry: (entry.identifier, entry.revision))
    ]
    print_table(("WHEEL", "REVISION", "SIZE", "TESTED", ""), rows)
    total = readable_size(sum(entry.size for entry in entries))
    print_lines("", f"{len(entries)} wheels, {total}, in {yard.path}")


def _state(entry: IndexEntry, yard: Yard) -> str:
    if yard.damage(entry) is not None:
        return "damaged"
    if entry.yanked is not None:
        return f"yanked: {entry.yanked}" if entry.yanked else "yanked"
    return f"adopted from {entry.adopted}" if entry.adopted else ""


def _entry_to_json(entry: IndexEntry, yard: Yard) -> dict[str, object]:
    return {
        "adopted": entry.adopted or None,
        "damaged": yard.damage(entry) is not None,
        "filename": entry.filename,
        "identifier": entry.identifier,
        "path": str(yard.wheel_path(entry.filename)),
        "revision": entry.revision,
        "sha256": entry.sha256,
        "size": entry.size,
        "tested": yard.best_level(entry.sha256),
        "yanked": entry.yanked,
    }


def show(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Show all that the yard knows of a wheel."""
    yard = opened_yard(arguments, env)
    entry = find_entry(yard, arguments.wheel)
    record = yard.record(entry.filename)
    reports = yard.reports(entry.sha256)
    lines = install_lines(entry, yard.index_url(entry.index_label))
    if arguments.json:
        print_json(
            {
                **_entry_to_json(entry, yard),
                "index_url": yard.index_url(entry.index_label),
                "install": lines._asdict(),
                "record": str(yard.record_path(entry.filename)),
                "record_sha256": entry.record_sha256,
                "reports": [
                    {"level": report.level, "machine": report.machine_description}
                    for report in reports
                ],
            }
        )
        return
    assert record is not None
    tested = [f"{report.level} on {report.machine_description}" for report in reports]
    rows = [
        ("wheel", str(yard.wheel_path(entry.filename))),
        ("size", readable_size(entry.size)),
        ("sha256", entry.sha256),
        ("record", str(yard.record_path(entry.filename))),
        ("for", f"Python {entry.python}, torch {entry.torch}, {entry.machine}"),
        ("gpu_archs", " ".join(entry.gpu_archs)),
        ("made", f"{record.created:%Y-%m-%d %H:%M} UTC, sandbox {record.sandbox}"),
        ("tested", "; ".join(tested) or "not"),
        ("attested", "yes" if entry.provenance_sha256 else "no"),
        ("state", _state(entry, yard) or "in the index"),
    ]
    print_table(("", entry.identifier), rows)
    print_lines("", "install it with:", f"  {lines.pip}", f"  {lines.uv}")
    print_lines("", "or, in a project of uv:", *(f"  {line}" for line in _indented(lines.project)))


def _indented(text: str) -> list[str]:
    return text.rstrip("\n").split("\n")


def yank(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Mark wheels as yanked, or take the mark away."""
    if arguments.undo and arguments.reason:
        msg = "--undo takes the mark away, so there is no reason to give. Leave out --reason."
        raise UsageError(msg)
    if arguments.at is not None:
        from wheelyard.cli.publishing import yank_published  # noqa: PLC0415 - needs the network

        yank_published(arguments, env)
        return
    yard = opened_yard(arguments, env)
    entries = [find_entry(yard, wheel) for wheel in arguments.wheels]
    for entry in entries:
        if arguments.undo:
            unyank_wheel(yard, entry.filename)
        else:
            yank_wheel(yard, entry.filename, reason=arguments.reason)
    names = [entry.filename for entry in entries]
    if arguments.json:
        print_json({"wheels": names, "yanked": not arguments.undo})
        return
    said = "no longer yanked" if arguments.undo else "yanked"
    print_lines(*(f"{said}: {name}" for name in names))
    if not arguments.undo:
        print_lines("published indexes learn of it with the next `wheelyard publish`")


def remove(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Remove wheels with all that is known of them."""
    yard = opened_yard(arguments, env)
    names = [find_entry(yard, wheel).filename for wheel in arguments.wheels]
    removed = remove_wheels(yard, names)
    if arguments.json:
        print_json({"removed": [str(path) for path in removed]})
        return
    print_lines(*(f"removed {path}" for path in removed))


def prune_yard(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Remove what the index does not name."""
    yard = opened_yard(arguments, env)
    older = superseded(yard) if arguments.superseded else ()
    names = [entry.filename for entry in older]
    if arguments.dry_run:
        gone = [str(yard.wheel_path(name)) for name in names]
        litter = find_litter(yard)
    else:
        gone = [str(path) for path in remove_wheels(yard, names)] if names else []
        litter = prune(yard)
    if arguments.json:
        paths = [*gone, *(str(item.path) for item in litter)]
        print_json({"dry_run": arguments.dry_run, "removed": paths})
        return
    verb = "would remove" if arguments.dry_run else "removed"
    print_lines(*(f"{verb} {path}: a higher revision is there" for path in gone))
    print_lines(*(f"{verb} {item.path}: {item.why}" for item in litter))
    if not gone and not litter:
        print_lines(f"nothing to prune in {yard.path}")


def import_wheels(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Check wheels that another yard made, and store them."""
    from wheelyard.yard.importing import find_arrival, import_wheel  # noqa: PLC0415 - checks

    if arguments.record is not None and len(arguments.wheels) != 1:
        msg = "--record is of one wheel. Import the wheels one by one, or leave it out."
        raise UsageError(msg)
    farm = open_farm(arguments)
    arrivals = [
        find_arrival(path.absolute(), record_path=arguments.record) for path in arguments.wheels
    ]
    yard = open_yard(yard_folder(arguments, farm, env))
    stored = [
        import_wheel(yard, arrival, farm=farm, cache=cache_folder(env)) for arrival in arrivals
    ]
    if arguments.json:
        names = [{"identifier": one.record.identifier, "path": str(one.path)} for one in stored]
        print_json({"wheels": names})
        return
    print_lines(*(f"{one.record.identifier}: {one.path}" for one in stored))


def verify_files(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Verify wheels, yards or published folders offline, and fail at the end."""
    from wheelyard.yard.attesting import Trust  # noqa: PLC0415 - others do without
    from wheelyard.yard.verifying import verify  # noqa: PLC0415

    if (arguments.trust_root is None) != (arguments.signed_by is None):
        msg = "--trust-root and --signed-by belong together: which keys, and whose signatures."
        raise UsageError(msg)
    trust = None
    if arguments.trust_root is not None:
        trust = Trust(root=arguments.trust_root, repository=arguments.signed_by)
    paths = arguments.paths or [opened_yard(arguments, env).path]
    found = [(path, verify(path, trust=trust)) for path in paths]
    if arguments.json:
        documents = [
            {"counts": one.counts, "path": str(path), "problems": list(one.problems)}
            for path, one in found
        ]
        print_json({"verified": documents})
    else:
        for path, one in found:
            print_lines(str(path), *(f"  {count:>6}  {name}" for name, count in one.counts.items()))
            print_lines(*(f"  WRONG   {problem}" for problem in one.problems))
    wrong = sum(len(one.problems) for _, one in found)
    if wrong:
        msg = f"{wrong} things are wrong. Do not use these files; bring or build them again."
        raise IntegrityError(msg)


def find_entry(yard: Yard, wheel: str) -> IndexEntry:
    """Return the wheel of a filename, a path or an identifier; of revisions the highest."""
    names = yard.record_names()
    filename = Path(wheel).name
    named = list(yard.entries((filename,) if filename in names else ()))
    if named:
        return named[0]
    entries = [entry for entry in yard.entries(names) if entry.identifier == wheel]
    if entries:
        return max(entries, key=lambda entry: entry.order)
    known = [*names, *(entry.identifier for entry in yard.entries(names))]
    msg = (
        f"The yard {yard.path} has no wheel {wheel!r}.{nearest(wheel, known)} "
        "`wheelyard list --yard` shows all."
    )
    raise UnknownNameError(msg)
