"""The oldest systems that wheels have to load on, as a manylinux policy."""

from __future__ import annotations

import dataclasses
import re

from wheelyard.errors import UsageError

_NAME = re.compile(r"manylinux_(\d+)_(\d+)")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PlatformFloor:
    """No wheel may need more of a system than this, for example ``manylinux_2_28``."""

    glibc: tuple[int, int]

    def __str__(self) -> str:
        return f"manylinux_{self.glibc[0]}_{self.glibc[1]}"

    @classmethod
    def parse(cls, text: str) -> PlatformFloor:
        """Parse the name of a policy, without a machine."""
        match = _NAME.fullmatch(text)
        if match is None:
            msg = f"{text!r} is not a manylinux policy. Write it as in manylinux_2_28."
            raise UsageError(msg)
        return cls(glibc=(int(match[1]), int(match[2])))


DEFAULT_FLOOR = PlatformFloor(glibc=(2, 28))
"""What torch's own wheels ask for."""
