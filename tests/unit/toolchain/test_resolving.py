"""Locks made by uv, from wheels that were written on the spot."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import FetchError
from wheelyard.model.lock import Lock, LockRequest
from wheelyard.toolchain.resolving import resolve_lock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _request(*requirements: str, python: str = "3.10", machines: str = "x86_64") -> LockRequest:
    return LockRequest(
        kind="build",
        name="probe-1.0",
        requirements=requirements,
        python=python,
        machines=tuple(machines.split()),
    )


@pytest.fixture
def resolve(tmp_path: Path, uv_env: dict[str, str]) -> Callable[[LockRequest], str]:
    def run(request: LockRequest) -> str:
        return resolve_lock(request, env=uv_env, scratch=tmp_path)

    return run


def test_lock_has_its_header_and_every_distribution_with_its_hash(
    resolve: Callable[[LockRequest], str], make_wheel: Callable[..., Path]
) -> None:
    make_wheel(name="alpha", requires=["beta>=1"])
    make_wheel(name="beta")
    request = _request("alpha")
    text = resolve(request)
    assert text.startswith(f"{request.header}\n")
    assert Lock(request=request, text=text).names_for(python="3.12.1", machine="x86_64") == {
        "alpha",
        "beta",
    }
    assert len(re.findall(r"^    --hash=sha256:[0-9a-f]{64}$", text, re.MULTILINE)) == 2
    assert "://" not in text


def test_lock_is_for_linux_on_the_machines_asked_for(
    resolve: Callable[[LockRequest], str], make_wheel: Callable[..., Path]
) -> None:
    names = {"win": "sys_platform == 'win32'", "arm": "platform_machine == 'aarch64'"}
    make_wheel(name="alpha", requires=[f"{name}; {marker}" for name, marker in names.items()])
    for name in names:
        make_wheel(name=name)
    one = resolve(_request("alpha"))
    assert "arm==" not in one
    assert "win==" not in one
    both = resolve(_request("alpha", machines="aarch64 x86_64"))
    assert "arm==" in both
    assert "win==" not in both


def test_lock_serves_the_oldest_python_too(
    resolve: Callable[[LockRequest], str], make_wheel: Callable[..., Path]
) -> None:
    make_wheel(name="alpha", requires=["backport; python_version < '3.11'"])
    make_wheel(name="backport")
    assert "backport==" in resolve(_request("alpha", python="3.10"))
    assert "backport==" not in resolve(_request("alpha", python="3.11"))


def test_taste_of_the_user_decides_nothing(
    resolve: Callable[[LockRequest], str], make_wheel: Callable[..., Path], tmp_path: Path
) -> None:
    configuration = tmp_path / "home" / ".config" / "uv" / "uv.toml"
    configuration.parent.mkdir(parents=True)
    configuration.write_text('resolution = "lowest"\n', encoding="ascii")
    for version in ("1.0", "2.0"):
        make_wheel(name="alpha", version=version)
    assert "alpha==2.0" in resolve(_request("alpha"))


def test_same_wheels_give_the_same_lock(
    resolve: Callable[[LockRequest], str], make_wheel: Callable[..., Path]
) -> None:
    make_wheel(name="alpha")
    assert resolve(_request("alpha")) == resolve(_request("alpha"))


def test_nothing_to_lock_is_a_header_and_asks_nobody(tmp_path: Path) -> None:
    request = _request()
    assert resolve_lock(request, env={}, scratch=tmp_path) == f"{request.header}\n"


def test_what_cannot_be_resolved_is_told_in_uv_s_words(
    resolve: Callable[[LockRequest], str], make_wheel: Callable[..., Path]
) -> None:
    make_wheel(name="alpha")
    with pytest.raises(FetchError, match=r"No lock probe-1\.0: uv did not resolve it") as caught:
        resolve(_request("alpha>=2"))
    assert "alpha" in str(caught.value).partition("\n")[2]
