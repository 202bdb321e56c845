"""Smoke test of an installed nv-grouped-gemm: import it, or run its kernels against float64.

    python smoke.py --level imported|ran-on-gpu --json OUT

It needs torch, the wheel and what that requires, and leaves 1 when a function is missing or a
number is out of tolerance. The inputs of a case are rounded to its dtype first and the reference
is computed from the rounded values, so that what is measured is the kernel and not the input.
"""

from __future__ import annotations

import importlib
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where it lies in the farm

from smoking import Draw, Measurement, import_functions, leaf64, measure, run, short_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EXTENSION = {"grouped_gemm_backend": ("gmm", "sinkhorn", "permute", "unpermute", "unpermute_bwd")}
PACKAGE = {"grouped_gemm.ops": ("gmm", "permute", "unpermute", "sinkhorn_kernel")}

# In units of the dtype's epsilon, of max |x - reference| / max |reference|.
# product: sums in float32, one rounding of the result, at most half an epsilon of the largest.
# unpermute: adds up to topk weighted rows in the dtype or in float32 and rounds once.
# gradient of a probability: a sum over the hidden size in float32, of products that are rounded to
#   the dtype of the rows, at most half an epsilon of that each.
# sinkhorn: the iteration ends when a step changes less than its tolerance of 1e-4, which the
#   reference knows nothing of; a column or row sum that is far from 1 is what a fault looks like.
PRODUCT_EPSILONS = 1.0
UNPERMUTE_EPSILONS = 2.0
PROBABILITY_EPSILONS = 64.0
SINKHORN_EPSILONS = 1e-3 / torch.finfo(torch.float32).eps

GROUPS = ((7, 0, 130, 1), (64, 64), (33,))
"""Tokens of each expert; one of them may have none."""


def measure_product(
    sizes: Sequence[int], hidden: tuple[int, int], *, trans_b: bool, draw: Draw
) -> Iterator[Measurement]:
    """Compare the product of every expert's tokens with its matrix, and both gradients."""
    gmm = importlib.import_module("grouped_gemm.ops").gmm
    wide, narrow = hidden
    shape = (len(sizes), narrow, wide) if trans_b else (len(sizes), wide, narrow)
    a = draw.normal((sum(sizes), wide), torch.bfloat16).requires_grad_()
    b = draw.normal(shape, torch.bfloat16).requires_grad_()
    a64, b64 = leaf64(a), leaf64(b)
    out = gmm(a, b, torch.tensor(sizes, dtype=torch.int64), trans_b=trans_b)
    gradient = draw.normal(tuple(out.shape), out.dtype)
    out.backward(gradient)
    matrices = b64.transpose(1, 2) if trans_b else b64
    parts = [rows @ matrix for rows, matrix in zip(a64.split(sizes), matrices, strict=True)]
    expected = torch.cat(parts)
    expected.backward(gradient.double())
    name = f"{'+'.join(map(str, sizes))} x {wide} x {narrow}{' transposed' if trans_b else ''}"
    yield compare(name, "product", out, expected, PRODUCT_EPSILONS)
    yield compare(name, "da", a.grad, a64.grad, PRODUCT_EPSILONS)
    yield compare(name, "db", b.grad, b64.grad, PRODUCT_EPSILONS)


def measure_permutation(
    dtype: torch.dtype, tokens: int, topk: int, draw: Draw
) -> Iterator[Measurement]:
    """Compare tokens in the order of their experts, and brought back with weights."""
    ops = importlib.import_module("grouped_gemm.ops")
    hidden, experts = 96, 8
    x = draw.normal((tokens, hidden), dtype).requires_grad_()
    choice = draw.uniform((tokens, experts), torch.float32).argsort(dim=1)[:, :topk]
    indices = choice.to(torch.int32).contiguous()
    probabilities = draw.uniform((tokens, topk), torch.float32).requires_grad_()
    x64, probabilities64 = leaf64(x), leaf64(probabilities)
    permuted, row_map = ops.permute(x, indices, None, tokens)
    order = indices.flatten().long().argsort(stable=True)
    name = f"{short_name(dtype)} {tokens} tokens of {hidden} to {topk} of {experts}"
    yield compare(name, "permuted", permuted, x64[order // topk], 0.0)
    # with one expert a token upstream leaves the weight out, and its gradient too
    out = ops.unpermute(permuted, row_map, probabilities if topk > 1 else None)
    gradient = draw.normal(tuple(out.shape), out.dtype)
    out.backward(gradient)
    expected = x64 * probabilities64.sum(dim=1, keepdim=True) if topk > 1 else x64 * 1
    expected.backward(gradient.double())
    yield compare(name, "unpermuted", out, expected, UNPERMUTE_EPSILONS)
    yield compare(name, "dx", x.grad, x64.grad, UNPERMUTE_EPSILONS * topk)
    if topk > 1:
        single, own = torch.finfo(torch.float32).eps, torch.finfo(dtype).eps
        allowed = max(PROBABILITY_EPSILONS, own / single)
        yield compare(name, "dprobabilities", probabilities.grad, probabilities64.grad, allowed)


def measure_sinkhorn(draw: Draw, shape: tuple[int, int]) -> Measurement:
    """Compare with an iteration in float64 that goes on until nothing changes."""
    cost = draw.normal(shape, torch.float32)
    out = importlib.import_module("grouped_gemm.ops").sinkhorn_kernel(cost.clone())  # in place
    weights = cost.double().exp()
    rows = weights.new_ones(shape[0])
    columns = weights.new_ones(shape[1])
    for _ in range(2000):
        rows = 1 / shape[0] / (weights * columns).sum(1)
        columns = 1 / shape[1] / (weights * rows[:, None]).sum(0)
    expected = weights * rows[:, None] * columns
    return compare(f"{shape[0]}x{shape[1]}", "sinkhorn", out, expected, SINKHORN_EPSILONS)


def compare(
    name: str, quantity: str, actual: torch.Tensor, expected: torch.Tensor, epsilons: float
) -> Measurement:
    """Return one measurement."""
    return measure(name, quantity, actual, expected, dtype=actual.dtype, epsilons=epsilons)


def run_cases(device: torch.device) -> Iterator[Measurement]:
    """Yield the measurements of all cases, each drawn from a seed of its own."""
    import_functions(PACKAGE)
    seeds = itertools.count()
    for sizes, trans_b in itertools.product(GROUPS, (False, True)):
        for hidden in ((128, 64), (264, 520)):
            draw = Draw(next(seeds), device)
            yield from measure_product(sizes, hidden, trans_b=trans_b, draw=draw)
    for dtype, tokens, topk in itertools.product(
        (torch.float32, torch.float16, torch.bfloat16), (1, 250), (1, 2, 3)
    ):
        yield from measure_permutation(dtype, tokens, topk, Draw(next(seeds), device))
    for shape in ((16, 8), (250, 8)):
        yield measure_sinkhorn(Draw(next(seeds), device), shape)


def import_all() -> None:
    """Import the extension and the package."""
    import_functions(EXTENSION | PACKAGE)


if __name__ == "__main__":
    sys.exit(run("nv-grouped-gemm", import_all=import_all, run_cases=run_cases))
