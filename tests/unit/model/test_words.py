from __future__ import annotations

import pytest

from wheelyard.model.words import nearest


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        pytest.param("causal-conv", " Did you mean 'causal-conv1d'?", id="unfinished"),
        pytest.param("aepx", " Did you mean 'apex'?", id="swapped"),
        pytest.param("zzz", "", id="like-nothing"),
    ],
)
def test_only_a_word_that_is_nearly_right_gets_a_suggestion(word: str, expected: str) -> None:
    assert nearest(word, ["apex", "causal-conv1d", "mamba-ssm"]) == expected
