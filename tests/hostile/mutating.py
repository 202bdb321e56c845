"""Changes of bytes as a fuzzer makes them, the same for the same seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

_EDGES = (0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1)


def mutate(data: bytes, chance: random.Random, *, head: int = 4096) -> bytes:
    """Change some places, half of them near the beginning, where the headers are."""
    changed = bytearray(data)
    for _ in range(chance.choice([1, 2, 4, 16])):
        size = len(changed)
        at = chance.randrange(size if chance.random() < 0.5 else min(size, head))
        match chance.randrange(5):
            case 0:
                changed[at] = chance.randrange(256)
            case 1:
                changed[at] ^= 1 << chance.randrange(8)
            case 2:
                width = chance.choice([2, 4, 8])
                value = chance.choice([*_EDGES, size, size - 1]) % (1 << 8 * width)
                changed[at : at + width] = value.to_bytes(width, "little")[: size - at]
            case 3:
                del changed[size // 2 + chance.randrange(size // 2 + 1) :]
            case _:
                source = chance.randrange(size)
                changed[at : at + 64] = changed[source : source + chance.randrange(64)]
        changed = changed or bytearray(b"\0")
    return bytes(changed)
