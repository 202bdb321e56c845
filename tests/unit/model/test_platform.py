"""Names of manylinux policies."""

from __future__ import annotations

import pytest

from wheelyard.errors import UsageError
from wheelyard.model.platform import DEFAULT_FLOOR, PlatformFloor


def test_floor_is_written_as_the_policy_that_it_is() -> None:
    assert str(PlatformFloor.parse("manylinux_2_28")) == "manylinux_2_28"
    assert PlatformFloor.parse("manylinux_2_28") == DEFAULT_FLOOR


@pytest.mark.parametrize("text", ["manylinux2014", "manylinux_2_28_x86_64", "linux", ""])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="Write it as in manylinux_2_28"):
        PlatformFloor.parse(text)
