"""The command that publishes wheels and their index."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from wheelyard.cli.output import print_json, print_lines, print_table
from wheelyard.cli.session import open_farm, opened_yard
from wheelyard.cli.telling import make_progress
from wheelyard.errors import UsageError
from wheelyard.machine.disk import readable_size
from wheelyard.model.record import TestLevel
from wheelyard.network.open_store import open_object_store
from wheelyard.network.opening import open_settings
from wheelyard.shipping.publish import Publisher, Wishes
from wheelyard.shipping.shelf import ReleaseShelf, Shelf, StoreShelf
from wheelyard.yard.coverage import coverage, find_failures
from wheelyard.yard.index import PAGE_NAME
from wheelyard.yard.page import page_html

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from wheelyard.network.object_store import ObjectStore
    from wheelyard.network.opening import UserSettings
    from wheelyard.shipping.publish import PublishPlan
    from wheelyard.shipping.site import Site

LOGS = "logs/"
_GITHUB = re.compile(r"github:(?P<repository>[A-Za-z0-9-]+/[A-Za-z0-9._-]+)")


def publish(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Show what publishing will do, and do it."""
    yard = opened_yard(arguments, env)
    publisher = open_publisher(arguments, env)
    wishes = Wishes(
        select=arguments.select,
        level=TestLevel(arguments.level) if arguments.level else None,
        unsandboxed=arguments.unsandboxed,
    )
    alone = contextlib.nullcontext() if arguments.dry_run else publisher.store.alone()
    with yard.lock("publish"), alone:
        plan = publisher.plan(yard, wishes)
        if arguments.dry_run:
            _show_plan(plan, publisher, as_json=arguments.json)
            return
        published = publisher.publish(plan, say=make_progress().say)
    if arguments.json:
        print_json(
            {
                "brought": [parcel.entry.filename for parcel in plan.bring],
                "dry_run": False,
                "files": published.files,
                "level": plan.level,
                "pages_written": published.pages_written,
                "skipped": _skipped(plan),
                "wheels": published.wheels,
            }
        )
        return
    _show_skipped(plan)
    print_lines(
        f"{published.files} files brought to {publisher.shelf.name}",
        f"{published.wheels} wheels in the index, {published.pages_written} pages written to "
        f"{publisher.store.name}",
    )


def open_publisher(arguments: argparse.Namespace, env: Mapping[str, str]) -> Publisher:
    """Open where the command line says that index and wheels go."""
    settings = open_settings(env, options=arguments.network)
    store = open_object_store(arguments.target, settings=settings.indexes, env=settings.env)
    return Publisher(
        store=store,
        shelf=_shelf(arguments, settings, store),
        extra_pages=_pages(arguments, env),
    )


def _pages(
    arguments: argparse.Namespace, env: Mapping[str, str]
) -> Callable[[Site], Mapping[str, bytes]]:
    """Return what makes the coverage page, and the logs that it leads to, of a site."""
    yard, farm = opened_yard(arguments, env), open_farm(arguments)
    with_logs = getattr(arguments, "logs", False)

    def make(site: Site) -> Mapping[str, bytes]:
        failures = find_failures(yard, log_urls=LOGS if with_logs else "")
        pages = {
            failure.log_url: yard.log_path(failure.identifier).read_bytes()
            for failure in failures
            if failure.log_url
        }
        pages[PAGE_NAME] = page_html(coverage(site.shown, farm, failures))
        return pages

    return make


def _shelf(arguments: argparse.Namespace, settings: UserSettings, store: ObjectStore) -> Shelf:
    place = arguments.wheels
    if place is None:
        return StoreShelf(store)
    match = _GITHUB.fullmatch(place)
    if match is None:
        msg = (
            f"--wheels {place!r} is nowhere to put wheels. Write github:OWNER/REPOSITORY, or leave "
            "it out: then they lie beside the index."
        )
        raise UsageError(msg)
    # Imported here, as everything of the network: a folder needs none of it.
    from wheelyard.network.github_releases import open_github  # noqa: PLC0415
    from wheelyard.network.github_token import github_token  # noqa: PLC0415

    github = open_github(
        match["repository"],
        settings=settings.indexes,
        env=settings.env,
        token=github_token(settings.env),
    )
    return ReleaseShelf(github)


def _show_plan(plan: PublishPlan, publisher: Publisher, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "bring": [parcel.entry.filename for parcel in plan.bring],
                "dry_run": True,
                "level": plan.level,
                "lost": list(plan.lost),
                "size": plan.size,
                "skipped": _skipped(plan),
                "there": [parcel.entry.filename for parcel in plan.there],
            }
        )
        return
    rows = [("bring", parcel.entry.identifier, readable_size(parcel.size)) for parcel in plan.bring]
    rows += [("there", parcel.entry.identifier, "") for parcel in plan.there]
    print_table(("", "WHEEL", "SIZE"), rows)
    _show_skipped(plan)
    print_lines(*(f"gone there, so the index forgets it: {name}" for name in plan.lost))
    print_lines(
        "",
        f"would bring {len(plan.bring)} wheels ({readable_size(plan.size)}) to "
        f"{publisher.shelf.name}, and write the index to {publisher.store.name}; it asks for "
        f"wheels tested: {plan.level}",
    )


def _show_skipped(plan: PublishPlan) -> None:
    print_lines(*(f"left out {item.identifier}: {item.reason}" for item in plan.skipped))


def _skipped(plan: PublishPlan) -> list[dict[str, str]]:
    return [{"identifier": item.identifier, "reason": item.reason} for item in plan.skipped]


def yank_published(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Mark wheels of a published index as yanked, or take the mark away."""
    settings = open_settings(env, options=arguments.network)
    store = open_object_store(arguments.at, settings=settings.indexes, env=settings.env)
    farm = open_farm(arguments)
    publisher = Publisher(
        store=store,
        shelf=StoreShelf(store),
        extra_pages=lambda site: {PAGE_NAME: page_html(coverage(site.shown, farm))},
    )
    reason = None if arguments.undo else arguments.reason
    with store.alone():
        names = [publisher.yank(wheel, reason=reason).filename for wheel in arguments.wheels]
    if arguments.json:
        print_json({"wheels": names, "yanked": not arguments.undo})
        return
    said = "no longer yanked" if arguments.undo else "yanked"
    print_lines(*(f"{said}: {name}" for name in names))
