"""Where wheelyard keeps what it may delete, what it was told, and what it must remember."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = "wheelyard"


def cache_folder(env: Mapping[str, str]) -> Path:
    """Return ``WHEELYARD_CACHE``, or the user's cache folder for wheelyard."""
    return (
        _overridden(env, "WHEELYARD_CACHE")
        or _user_folder(env, variable="XDG_CACHE_HOME", below_home=".cache")
        or platformdirs.user_cache_path(_NAME, appauthor=False)
    )


def config_folder(env: Mapping[str, str]) -> Path:
    """Return ``WHEELYARD_CONFIG``, or the user's configuration folder for wheelyard."""
    return (
        _overridden(env, "WHEELYARD_CONFIG")
        or _user_folder(env, variable="XDG_CONFIG_HOME", below_home=".config")
        or platformdirs.user_config_path(_NAME, appauthor=False)
    )


def state_folder(env: Mapping[str, str]) -> Path:
    """Return ``WHEELYARD_STATE``, or the user's state folder for wheelyard."""
    return (
        _overridden(env, "WHEELYARD_STATE")
        or _user_folder(env, variable="XDG_STATE_HOME", below_home=".local/state")
        or platformdirs.user_state_path(_NAME, appauthor=False)
    )


def work_folder(env: Mapping[str, str]) -> Path:
    """Return ``WHEELYARD_WORK``, such as a disk of this very node, or a part of the cache."""
    return _overridden(env, "WHEELYARD_WORK") or cache_folder(env) / "work"


def _overridden(env: Mapping[str, str], variable: str) -> Path | None:
    value = env.get(variable, "")
    if value.startswith("~/") and env.get("HOME"):
        return Path(env["HOME"], value[2:])
    return Path(value).absolute() if value else None


def _user_folder(env: Mapping[str, str], *, variable: str, below_home: str) -> Path | None:
    """Apply the rules of the XDG specification to ``env``.

    platformdirs reads the environment of the process only, so it is left with what no variable
    tells: the home folder of the account.
    """
    # a relative path in these variables must be ignored, says the specification
    if env.get(variable, "").startswith("/"):
        return Path(env[variable], _NAME)
    return Path(env["HOME"], below_home, _NAME) if env.get("HOME") else None
