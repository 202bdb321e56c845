"""The ways out as they were measured, as a table, with the order that follows as text to copy."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from wheelyard.machine.disk import readable_size
from wheelyard.network.probe import SAMPLES, measure_all, suggested_direct, suggested_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from wheelyard.network.opening import UserSettings
    from wheelyard.network.probe import Measured, Sample
    from wheelyard.network.settings import NetworkSettings


def measure_network(
    settings: UserSettings,
    *,
    samples: dict[str, Sample] = SAMPLES,
    say: Callable[[str], None] = lambda _text: None,
) -> tuple[Measured, ...]:
    """Measure every way that the settings name, and the straight ones."""
    from wheelyard.network.session import open_session  # noqa: PLC0415 - takes long to import

    with open_session(settings.indexes, settings.env) as session:
        return tuple(measure_all(settings.indexes, session, samples=samples, say=say))


def network_to_text(measured: Sequence[Measured], settings: NetworkSettings) -> str:
    """Return the page for people."""
    header = ("FOR", "WAY", "FIRST BYTE", "RATE", "HONEST", "")
    rows = [header, *map(_row, measured)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", *_suggestion(measured, settings)]) + "\n"


def _row(one: Measured) -> tuple[str, ...]:
    latency = "-" if one.latency is None else f"{one.latency * 1000:.0f} ms"
    rate = "-" if one.rate is None else f"{readable_size(round(one.rate))}/s"
    return (one.group, one.name, latency, rate, one.honest, one.reason)


def _suggestion(measured: Sequence[Measured], settings: NetworkSettings) -> Iterator[str]:
    order = suggested_order(measured)
    if not order:
        yield "No proxy or mirror is configured; docs/network.md says how to name one."
        if any(not one.usable for one in measured):
            yield "What could not be reached above needs one."
        return
    yield "Best order, for `[network]` in config.toml:"
    yield ""
    yield "[network]"
    for key, urls in order.items():
        if urls:
            yield f"{key} = {json.dumps(list(urls))}"
        else:
            yield f"# nothing that {key} names can be used now: keep it, or name others"
    if settings.direct == "never":
        yield 'direct = "never"'
    else:
        yield f'direct = "{suggested_direct(measured)}"'
    if any("***@" in url for urls in order.values() for url in urls):
        yield "# *** stands for credentials: put them in again"


def network_to_json(measured: Sequence[Measured], settings: NetworkSettings) -> dict[str, object]:
    """Return the same for programs."""
    return {
        "direct": settings.direct if settings.direct == "never" else suggested_direct(measured),
        "order": {key: list(urls) for key, urls in suggested_order(measured).items()},
        "ways": [{**dataclasses.asdict(one), "usable": one.usable} for one in measured],
    }
