from __future__ import annotations

from typing import TYPE_CHECKING

from wheelyard.network.health import HALF_LIFE, Health

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def order(health: Health, *servers: str) -> list[str]:
    return list(health.sort(servers, lambda server: server))


def test_server_that_failed_comes_after_the_others_which_keep_their_order(tmp_path: Path) -> None:
    health = Health(tmp_path / "health.json")
    health.failed("a")
    assert order(health, "a", "b", "c") == ["b", "c", "a"]
    health.failed("b")
    health.failed("b")
    assert order(health, "a", "b", "c") == ["c", "a", "b"]


def test_next_process_remembers(tmp_path: Path) -> None:
    Health(tmp_path / "network" / "health.json").failed("a")
    assert order(Health(tmp_path / "network" / "health.json"), "a", "b") == ["b", "a"]


def test_failure_is_forgotten_in_time_and_after_a_success(tmp_path: Path) -> None:
    clock = Clock()
    health = Health(tmp_path / "health.json", clock=clock)
    health.failed("a")
    clock.now += 1.5 * HALF_LIFE
    assert order(health, "a", "b") == ["a", "b"]
    health.failed("a")
    health.succeeded("a")
    assert order(health, "a", "b") == ["a", "b"]
    assert b'"a"' not in (tmp_path / "health.json").read_bytes()


def test_two_processes_add_to_the_same_memory(tmp_path: Path) -> None:
    one, two = Health(tmp_path / "health.json"), Health(tmp_path / "health.json")
    one.failed("a")
    two.failed("b")
    assert order(Health(tmp_path / "health.json"), "a", "b", "c") == ["c", "a", "b"]


def test_cache_that_is_broken_or_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "health.json"
    broken.write_bytes(b"{")
    Health(broken).failed("a")
    assert order(Health(broken), "a", "b") == ["b", "a"]
    health = Health(broken / "below-a-file")
    health.failed("a")
    assert order(health, "a", "b") == ["b", "a"]


def test_without_a_file_only_this_process_remembers() -> None:
    health = Health(None)
    health.failed("a")
    assert order(health, "a", "b") == ["b", "a"]
    assert order(Health(None), "a", "b") == ["a", "b"]
