"""Runs the real command line on the tiny extension, with the caches of this user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from wheelyard.machine.folders import cache_folder

SHARED = ("requirements", "sources", "toolkits", "tools", "torch")
"""Parts of the cache that are made once and then only read."""

FARM = Path(__file__).parents[1] / "packages"

Wheelyard = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session", autouse=True)
def own_compile_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Compile into a cache of this run alone, beside the user's torch, toolkits and sources.

    Two runs of one user would otherwise empty one another's.
    """
    shared, own = cache_folder(os.environ), tmp_path_factory.mktemp("cache")
    for name in SHARED:
        (shared / name).mkdir(parents=True, exist_ok=True)
        (own / name).symlink_to(shared / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHEELYARD_CACHE", str(own))
        yield own


@pytest.fixture(scope="session")
def wheelyard() -> Wheelyard:
    """Return a function that runs ``wheelyard`` with words, in a process of its own."""

    def run(
        *words: str | Path,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        command = [*prefix, sys.executable, "-m", "wheelyard", *map(str, words)]
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, **(env or {})},
            timeout=1200,
        )
        if check and done.returncode != 0:
            pytest.fail(f"exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    return run


@pytest.fixture(scope="session")
def farm() -> Path:
    return FARM


@pytest.fixture
def own_farm(tmp_path: Path) -> Path:
    """Return a copy of the tests' farm that a test may change."""
    return Path(shutil.copytree(FARM, tmp_path / "farm"))


@pytest.fixture(scope="session")
def empty_compile_cache() -> Callable[[], None]:
    """Return a function that makes the next build of the tiny extension compile for real."""

    def empty() -> None:
        shutil.rmtree(cache_folder(os.environ) / "compile" / "tinyscale", ignore_errors=True)

    return empty


@pytest.fixture(scope="session")
def built(
    tmp_path_factory: pytest.TempPathFactory,
    wheelyard: Wheelyard,
    empty_compile_cache: Callable[[], None],
) -> tuple[Path, dict[str, object]]:
    """Build the tiny extension once, compiling for real; return its yard and what was printed."""
    yard = tmp_path_factory.mktemp("built") / "yard"
    empty_compile_cache()
    done = wheelyard("build", "tinyscale", "--farm", FARM, "--yard", yard, "--json")
    wheel: dict[str, object] = json.loads(done.stdout)["wheels"][0]
    return yard, wheel
