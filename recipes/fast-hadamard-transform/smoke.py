"""Smoke test of an installed fast-hadamard-transform: import it, or hold it against float64.

    python smoke.py --level imported|ran-on-gpu --json OUT

It needs torch and the wheel, and leaves 1 when a function is missing or a number is out of
tolerance. The inputs are rounded to the dtype first and the reference is computed from the rounded
values, so that what is measured is the kernel and not the input.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where it lies in the farm

from smoking import Draw, Measurement, import_functions, leaf64, measure, run

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERFACE = "fast_hadamard_transform.fast_hadamard_transform_interface"
MULTIPLES = {12: 1024, 20: 1024, 28: 1024, 40: 1024}
"""Sizes that are no power of two, and the largest power of two they are multiplied with."""
FUNCTIONS = {
    "fast_hadamard_transform": ("hadamard_transform",),
    INTERFACE: tuple(f"hadamard_transform_{multiple}N" for multiple in MULTIPLES),
    "fast_hadamard_transform_cuda": (
        "fast_hadamard_transform",
        *(f"fast_hadamard_transform_{multiple}N" for multiple in MULTIPLES),
    ),
}

# In units of the dtype's epsilon, of max |x - reference| / max |reference|.
# float16, bfloat16: sums are in float32 and rounded once, which costs at most half an epsilon of
#   the largest value: 1 is twice what a right kernel can reach.
# float32: 15 to 16 levels of additions, each of which rounds once: the errors add up to a few
#   epsilons of the largest value, and 16 is one for each level. A sign that is wrong costs 10^4
#   epsilons and more at the largest size.
TOLERANCE_EPSILONS = {torch.float16: 1.0, torch.bfloat16: 1.0, torch.float32: 16.0}

DTYPES = (torch.float16, torch.bfloat16, torch.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One call of the package."""

    dtype: torch.dtype
    rows: tuple[int, ...]
    dim: int
    multiple: int = 1
    is_strided: bool = False

    @property
    def name(self) -> str:
        """Return for example ``3x2 rows of 1000``."""
        words = [f"{'x'.join(map(str, self.rows))} rows of {self.dim}"]
        words += [f"multiple of {self.multiple}"] if self.multiple > 1 else []
        words += ["strided"] if self.is_strided else []
        return " ".join(words)

    @property
    def scale(self) -> float:
        """Return what keeps the length of a vector, as users take."""
        return float(self.dim**-0.5)


def hadamard64(size: int, device: torch.device) -> torch.Tensor:
    """Return Sylvester's matrix: element (i, j) is -1 where i & j has an odd number of ones."""
    matrix = torch.ones((1, 1), dtype=torch.float64, device=device)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix


def reference(x: torch.Tensor, scale: float) -> torch.Tensor:
    """Multiply with the matrix of the next power of two, as if zeros stood behind x.

    The matrix is the Kronecker product of two smaller ones; as a whole it would be 8 GiB.
    """
    dim = x.shape[-1]
    power = (dim - 1).bit_length()
    left, right = 1 << (power // 2), 1 << (power - power // 2)
    padded = torch.nn.functional.pad(x, (0, left * right - dim))
    blocks = padded.reshape(*x.shape[:-1], left, right)
    out = hadamard64(left, x.device) @ blocks @ hadamard64(right, x.device)
    return scale * out.reshape(padded.shape)[..., :dim]


def make_input(case: Case, draw: Draw) -> torch.Tensor:
    """Draw x, with every second element of wider rows where it is to be strided."""
    if not case.is_strided:
        return draw.normal((*case.rows, case.dim), case.dtype)
    return draw.normal((*case.rows, 2 * case.dim), case.dtype)[..., ::2]


def compare(
    case: Case, quantity: str, actual: torch.Tensor, expected: torch.Tensor, *, exact: bool = False
) -> Measurement:
    """Return one measurement; ``exact`` is for small whole numbers, which every dtype holds."""
    epsilons = 0.0 if exact else TOLERANCE_EPSILONS[actual.dtype]
    return measure(case.name, quantity, actual, expected, dtype=case.dtype, epsilons=epsilons)


def measure_transform(case: Case, draw: Draw) -> Iterator[Measurement]:
    """Run forward and backward of the transform that the package exports."""
    transform = importlib.import_module("fast_hadamard_transform").hadamard_transform
    x = make_input(case, draw).requires_grad_()
    before = x.detach().clone()
    out = transform(x, case.scale)
    gradient = draw.normal(tuple(out.shape), out.dtype)
    out.backward(gradient)

    wanted = leaf64(x)
    expected = reference(wanted, case.scale)
    expected.backward(gradient.double())
    yield compare(case, "forward", out, expected)
    yield compare(case, "dx", x.grad, wanted.grad)
    yield compare(case, "x afterwards", x, before.double(), exact=True)


def measure_multiple(case: Case, draw: Draw) -> Iterator[Measurement]:
    """Run the transform of a size that is no power of two, forward.

    Its matrix is not unique, so the package is asked for it: it must be a Hadamard matrix, that is
    hold 1 and -1 only and be orthogonal, and every other product must be one with that matrix.
    Backward is left out: upstream takes the matrix itself for its transpose, which is wrong where
    it is not symmetric (those of 20, 28 and 40 are not).
    """
    transform = getattr(importlib.import_module(INTERFACE), f"hadamard_transform_{case.multiple}N")
    x = make_input(case, draw)
    identity = torch.eye(case.dim, dtype=case.dtype, device=x.device)
    matrix = transform(identity, 1.0)
    rows = matrix.double()
    yield compare(case, "elements", matrix.abs(), torch.ones_like(rows), exact=True)
    product = rows @ rows.T
    yield compare(case, "product with its transpose", product, case.dim * identity.double(),
                  exact=True)  # fmt: skip
    yield compare(case, "forward", transform(x, case.scale), case.scale * x.double() @ rows)


def transform_cases() -> Iterator[Case]:
    """Yield sizes from one vector to the largest that is supported, full and padded."""
    for dtype, dim in itertools.product(DTYPES, (8, 64, 256, 1024, 2048, 4096, 8192, 32768)):
        yield Case(dtype=dtype, rows=(5,), dim=dim)
    for dtype, dim in itertools.product(DTYPES, (1, 13, 137, 1000, 5000)):
        yield Case(dtype=dtype, rows=(3, 2), dim=dim)
    for dtype in DTYPES:
        yield Case(dtype=dtype, rows=(3, 2), dim=512, is_strided=True)


def multiple_cases() -> Iterator[Case]:
    """Yield sizes up to an eighth of the largest, whose matrix would be too large to ask for."""
    for dtype, (multiple, largest) in itertools.product(DTYPES, MULTIPLES.items()):
        for power in (4, 64, largest // 8):
            yield Case(dtype=dtype, rows=(5,), dim=multiple * power, multiple=multiple)


def run_cases(device: torch.device) -> list[Measurement]:
    """Return the measurements of all cases, each drawn from a seed of its own."""
    plan = [
        *((measure_transform, case) for case in transform_cases()),
        *((measure_multiple, case) for case in multiple_cases()),
    ]
    return [
        measurement
        for seed, (measure_case, case) in enumerate(plan)
        for measurement in measure_case(case, Draw(seed, device))
    ]


def import_all() -> None:
    """Import the package and its extension module."""
    import_functions(FUNCTIONS)


if __name__ == "__main__":
    sys.exit(run("fast-hadamard-transform", import_all=import_all, run_cases=run_cases))
