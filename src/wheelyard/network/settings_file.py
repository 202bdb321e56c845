"""The user's ``config.toml`` as people write it, and its table ``[network]``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from wheelyard.model.recipe_file import Table
from wheelyard.model.slurm_settings import SlurmTable

Seconds = Annotated[float, msgspec.Meta(gt=0, description="seconds")]
Direct = Literal["first", "last", "never"]


class NetworkTable(Table, frozen=True, kw_only=True):
    """How sources are reached; every key is a variable and a ``--network`` option too."""

    github_proxies: tuple[str, ...] = ()
    python_indexes: tuple[str, ...] = ()
    pytorch_indexes: tuple[str, ...] = ()
    redist_urls: tuple[str, ...] = ()
    hf_endpoints: tuple[str, ...] = ()
    direct: Direct = "last"
    proxy: str = ""
    no_proxy: tuple[str, ...] = ()
    certificate: str = ""
    offline: bool = False
    connect_timeout: Seconds = 5.0
    stall_timeout: Seconds = 10.0
    slowest: Annotated[int, msgspec.Meta(ge=1, description="bytes a second")] = 16384
    attempts: Annotated[int, msgspec.Meta(ge=1, le=20)] = 4
    hedge_after: Seconds = 2.0
    parallel: Annotated[int, msgspec.Meta(ge=1, le=32)] = 4


class ConfigFile(Table, frozen=True, kw_only=True):
    """The user's own configuration file."""

    network: NetworkTable = NetworkTable()
    slurm: SlurmTable = SlurmTable()
