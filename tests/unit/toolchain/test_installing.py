"""Locked distributions in a flat folder: hashes or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import FetchError
from wheelyard.toolchain.installing import install_locked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wheelyard.toolchain.interpreters import Interpreter


@pytest.fixture
def install(
    tmp_path: Path, interpreter: Interpreter, uv_env: dict[str, str]
) -> Callable[[str], Path]:
    """Return a function that installs a lock's text and returns the folder."""

    def run(text: str) -> Path:
        target = tmp_path / "target"
        target.mkdir()
        install_locked(
            text,
            target=target,
            interpreter=interpreter,
            env=uv_env,
            scratch=tmp_path,
            log_path=tmp_path / "log",
        )
        return target

    return run


def test_what_is_locked_is_installed_flat(
    install: Callable[[str], Path], lock_wheel: Callable[..., str], tmp_path: Path
) -> None:
    target = install(lock_wheel("alpha") + lock_wheel("beta"))
    assert (target / "alpha" / "__init__.py").is_file()
    assert (target / "beta-1.0.dist-info" / "METADATA").is_file()
    assert not list(tmp_path.glob("*.requirements.txt"))
    assert "uv pip install" in (tmp_path / "log").read_text(encoding="utf-8").replace("/", " ")


def test_other_bytes_than_the_locked_ones_are_refused(
    install: Callable[[str], Path], lock_wheel: Callable[..., str]
) -> None:
    with pytest.raises(FetchError, match="could not be installed") as caught:
        install(lock_wheel("alpha", sha256="0" * 64))
    assert "hash" in str(caught.value).lower()


def test_entry_without_a_hash_is_refused(
    install: Callable[[str], Path], lock_wheel: Callable[..., str]
) -> None:
    text = lock_wheel("alpha").partition(" ")[0] + "\n"
    with pytest.raises(FetchError, match=r"(?i)hash"):
        install(text)


def test_requirements_of_what_is_locked_are_not_followed(
    install: Callable[[str], Path], lock_wheel: Callable[..., str]
) -> None:
    target = install(lock_wheel("alpha", requires=["beta"]))
    assert not (target / "beta").exists()


def test_distribution_that_is_nowhere_is_named(install: Callable[[str], Path]) -> None:
    with pytest.raises(FetchError, match="nowhere"):
        install(f"nowhere==1.0 \\\n    --hash=sha256:{'0' * 64}\n")
