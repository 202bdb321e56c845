"""The compile caches that there are, by the names that users give them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wheelyard.toolchain.ccache import Ccache
from wheelyard.toolchain.compile_cache import NoCache
from wheelyard.toolchain.sccache import Sccache

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wheelyard.toolchain.compile_cache import CacheName, CompileCache

CACHES: Mapping[CacheName, CompileCache] = {
    "sccache": Sccache(),
    "ccache": Ccache(),
    "none": NoCache(),
}
