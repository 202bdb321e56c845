from __future__ import annotations

import pytest

from wheelyard.machine.libc import find_libc


@pytest.mark.parametrize(
    ("answer", "version", "text"),
    [
        pytest.param("glibc 2.36", (2, 36), "glibc 2.36", id="release"),
        pytest.param("glibc 2.36.9000", (2, 36), "glibc 2.36", id="development"),
        pytest.param(None, (0, 0), "musl", id="no-answer"),
    ],
)
def test_answer_of_the_library(answer: str | None, version: tuple[int, int], text: str) -> None:
    libc = find_libc(confstr=lambda _name: answer)
    assert (libc.version, str(libc)) == (version, text)


def test_library_that_does_not_know_the_question_is_musl() -> None:
    def refuse(_name: str) -> str:
        msg = "unrecognized configuration name"
        raise ValueError(msg)

    assert find_libc(confstr=refuse).name == "musl"
