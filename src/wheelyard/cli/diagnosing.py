"""The command that says what this machine can build."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from wheelyard.cli.output import print_json
from wheelyard.cli.session import farm_folder, yard_path
from wheelyard.doctor.chinese import is_chinese
from wheelyard.doctor.report import diagnose, to_json, to_text
from wheelyard.farm import is_packed
from wheelyard.network.opening import UserSettings, open_settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from wheelyard.network.indexes import IndexSettings
    from wheelyard.network.settings import NetworkSettings


def doctor(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Print the whole diagnosis."""
    settings = open_settings(env, options=arguments.network)
    if arguments.part == "network":
        _doctor_network(arguments, settings)
        return
    rows = (
        *_place_rows(arguments, env),
        *_index_rows(settings.indexes),
        *_network_rows(settings.indexes.network, env),
    )
    lines = diagnose(env, settings=rows, python=arguments.python)
    language = arguments.language or ("zh" if is_chinese(_locale(env)) else "en")
    text = to_text(lines, in_chinese=language == "zh")
    sys.stdout.write(to_json(lines) if arguments.json else text)


def _locale(env: Mapping[str, str]) -> str:
    """Return what the user's messages should be in, as gettext has it."""
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    return next((env[name] for name in names if env.get(name)), "")


def _place_rows(
    arguments: argparse.Namespace, env: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    """Yield where recipes are read, and where wheels are written."""
    folder = farm_folder(arguments)
    origin = "ships with wheelyard, only read" if is_packed(folder) else "read and written"
    yield "recipes", str(folder), "--farm" if arguments.farm else origin
    where = "--yard" if arguments.yard else "where wheels go"
    yield "yard", str(yard_path(arguments, folder, env)), where


def _doctor_network(arguments: argparse.Namespace, settings: UserSettings) -> None:
    """Measure every way out, and suggest an order."""
    from wheelyard.doctor.network import (  # noqa: PLC0415 - requests takes long to import
        measure_network,
        network_to_json,
        network_to_text,
    )

    measured = measure_network(settings)
    if arguments.json:
        print_json(network_to_json(measured, settings.indexes.network))
    else:
        sys.stdout.write(network_to_text(measured, settings.indexes.network))


def _network_rows(
    settings: NetworkSettings, env: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    for name, place in settings.origins.items():
        yield name.replace("_", "-"), settings.shown(name), place
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        for variable in (name, name.upper()):
            if env.get(variable):
                yield name.replace("_", " "), env[variable], variable


def _index_rows(settings: IndexSettings) -> Iterator[tuple[str, str, str]]:
    for name, origin in settings.origins.items():
        if origin.tool == "wheelyard":
            continue  # one of the network's own rows
        value = getattr(settings, name)
        text = ", ".join(value) if isinstance(value, tuple) else str(value)
        yield name.replace("_", " "), text, str(origin)
