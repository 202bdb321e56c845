"""The user's settings, read once: pip's, uv's and wheelyard's own, and what children inherit."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from wheelyard.machine.folders import config_folder
from wheelyard.network.health import health_file
from wheelyard.network.indexes import IndexSettings, read_index_settings, with_network
from wheelyard.network.settings import CONFIG_NAME, read_network_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UserSettings:
    """How this user reaches things."""

    indexes: IndexSettings
    env: Mapping[str, str] = dataclasses.field(repr=False)
    """The environment, with the ordinary proxy of the configuration where it names none."""


def open_settings(
    env: Mapping[str, str], *, options: Sequence[str] = (), cwd: Path | None = None
) -> UserSettings:
    """Read all files and variables; ``options`` are ``KEY=VALUE`` words of the command line."""
    home = Path(env.get("HOME", os.path.expanduser("~")))  # noqa: PTH111 - of this user, whoever
    network = read_network_settings(
        env,
        config=config_folder(env) / CONFIG_NAME,
        options=options,
        health_path=health_file(env),
    )
    indexes = read_index_settings(env, home=home, cwd=cwd or Path.cwd())
    return UserSettings(
        indexes=with_network(indexes, network),
        env={**env, **network.connection_variables(env)},
    )
