"""Smoke test of an installed flash-attn: import it, or run its attention against float64.

    python smoke.py --level imported|ran-on-gpu --json OUT

It needs torch, the wheel and what that requires, and leaves 1 when a function is missing or a
number is out of tolerance. The inputs of a case are rounded to its dtype first and the reference
is computed from the rounded values, so that what is measured is the kernel and not the input.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where it lies in the farm

from smoking import Draw, Measurement, import_functions, leaf64, measure, run, short_name

if TYPE_CHECKING:
    from collections.abc import Iterator

EXTENSION = {"flash_attn_2_cuda": ("fwd", "bwd", "varlen_fwd", "varlen_bwd", "fwd_kvcache")}
PACKAGE = {
    "flash_attn": ("flash_attn_func", "flash_attn_varlen_func", "flash_attn_with_kvcache"),
}

# In units of the dtype's epsilon, of max |x - reference| / max |reference|.
# forward: the probabilities are rounded to the dtype before the second product, and the result is
#   rounded once more, each at most half an epsilon of a value that is below the largest.
# gradients: the differences of the scores are rounded too, and are summed over a whole row or
#   column, where what cancels in the sum does not cancel in its error.
FORWARD_EPSILONS = 2.0
GRADIENT_EPSILONS = 4.0

DTYPES = (torch.float16, torch.bfloat16)
HEAD_DIMS = (32, 40, 64, 96, 128, 192, 256)
"""Each has kernels of its own, except 40, which is padded."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One call of flash_attn_func: shapes and options."""

    dtype: torch.dtype
    head_dim: int
    queries: int = 113
    keys: int = 203
    heads: int = 4
    kv_heads: int = 2
    causal: bool = False
    window: tuple[int, int] = (-1, -1)
    softcap: float = 0.0
    slopes: bool = False

    @property
    def name(self) -> str:
        """Return for example ``113x203 heads 4/2 of 64 causal``."""
        words = [
            f"{self.queries}x{self.keys} heads {self.heads}/{self.kv_heads} of {self.head_dim}"
        ]
        words += ["causal"] if self.causal else []
        words += [f"window {self.window[0]},{self.window[1]}"] if self.window != (-1, -1) else []
        words += [f"softcap {self.softcap:g}"] if self.softcap else []
        words += ["slopes"] if self.slopes else []
        return " ".join(words)


def visible(case: Case, device: torch.device) -> torch.Tensor:
    """Return which key each query sees; the last query stands at the last key."""
    query = torch.arange(case.queries, device=device)[:, None] + case.keys - case.queries
    key = torch.arange(case.keys, device=device)[None, :]
    left, right = case.window
    right = 0 if case.causal else right
    seen = torch.ones(case.queries, case.keys, dtype=torch.bool, device=device)
    seen = seen & (key >= query - left) if left >= 0 else seen
    return seen & (key <= query + right) if right >= 0 else seen


def reference(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, case: Case, slopes: torch.Tensor | None
) -> torch.Tensor:
    """Return softmax(q k / sqrt(d)) v in float64; a query that sees nothing gives zeros."""
    group = case.heads // case.kv_heads
    k, v = k.repeat_interleave(group, dim=2), v.repeat_interleave(group, dim=2)
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(case.head_dim)
    if case.softcap:
        scores = case.softcap * torch.tanh(scores / case.softcap)
    if slopes is not None:
        query = torch.arange(case.queries, device=q.device)[:, None] + case.keys - case.queries
        distance = (query - torch.arange(case.keys, device=q.device)[None, :]).abs()
        scores = scores - slopes.double()[:, :, None, None] * distance
    seen = visible(case, q.device)
    weights = torch.softmax(scores.masked_fill(~seen, -math.inf), dim=-1)
    weights = weights.masked_fill(~seen.any(-1)[None, None, :, None], 0.0)
    return torch.einsum("bhqk,bkhd->bqhd", weights, v)


def draw_inputs(case: Case, draw: Draw) -> dict[str, torch.Tensor]:
    """Draw q, k and v of two sequences."""
    lengths = {"q": case.queries, "k": case.keys, "v": case.keys}
    heads = {"q": case.heads, "k": case.kv_heads, "v": case.kv_heads}
    return {
        name: draw.normal((2, lengths[name], heads[name], case.head_dim), case.dtype)
        for name in lengths
    }


def measure_case(case: Case, draw: Draw) -> Iterator[Measurement]:
    """Run forward and backward, and compare the output and every gradient."""
    attention = importlib.import_module("flash_attn").flash_attn_func
    inputs = {name: tensor.requires_grad_() for name, tensor in draw_inputs(case, draw).items()}
    wanted = {name: leaf64(tensor) for name, tensor in inputs.items()}
    slopes = draw.uniform((2, case.heads), torch.float32) if case.slopes else None
    out = attention(
        **inputs,
        causal=case.causal,
        window_size=case.window,
        softcap=case.softcap,
        alibi_slopes=slopes,
    )
    gradient = draw.normal(tuple(out.shape), out.dtype)
    out.backward(gradient)
    expected = reference(**wanted, case=case, slopes=slopes)
    expected.backward(gradient.double())
    yield compare(case.name, "forward", out, expected, FORWARD_EPSILONS)
    for name, leaf in inputs.items():
        yield compare(case.name, f"d{name}", leaf.grad, wanted[name].grad, GRADIENT_EPSILONS)


def compare(
    name: str, quantity: str, actual: torch.Tensor, expected: torch.Tensor, epsilons: float
) -> Measurement:
    """Return one measurement."""
    return measure(
        f"{short_name(actual.dtype)} {name}",
        quantity,
        actual,
        expected,
        dtype=actual.dtype,
        epsilons=epsilons,
    )


def measure_packed(dtype: torch.dtype, head_dim: int, draw: Draw) -> Iterator[Measurement]:
    """Compare sequences of different lengths in one tensor, among them one without a token."""
    attention = importlib.import_module("flash_attn").flash_attn_varlen_func
    lengths = (1, 0, 65, 130)
    ends = [sum(lengths[:count]) for count in range(len(lengths) + 1)]
    case = Case(dtype=dtype, head_dim=head_dim, causal=True)
    shapes = {"q": case.heads, "k": case.kv_heads, "v": case.kv_heads}
    inputs = {
        name: draw.normal((ends[-1], heads, head_dim), dtype).requires_grad_()
        for name, heads in shapes.items()
    }
    wanted = {name: leaf64(tensor) for name, tensor in inputs.items()}
    cumulative = torch.tensor(ends, dtype=torch.int32, device=inputs["q"].device)
    longest = max(lengths)
    out = attention(**inputs, cu_seqlens_q=cumulative, cu_seqlens_k=cumulative,
                    max_seqlen_q=longest, max_seqlen_k=longest, causal=True)  # fmt: skip
    gradient = draw.normal(tuple(out.shape), out.dtype)
    out.backward(gradient)
    parts = []
    for begin, end in itertools.pairwise(ends):
        if begin < end:
            one = dataclasses.replace(case, queries=end - begin, keys=end - begin)
            part = {name: tensor[None, begin:end] for name, tensor in wanted.items()}
            parts.append(reference(**part, case=one, slopes=None)[0])
    expected = torch.cat(parts)
    expected.backward(gradient.double())
    name = f"packed {'+'.join(map(str, lengths))} of {head_dim}"
    yield compare(name, "forward", out, expected, FORWARD_EPSILONS)
    for key, leaf in inputs.items():
        yield compare(name, f"d{key}", leaf.grad, wanted[key].grad, GRADIENT_EPSILONS)


def measure_cache(dtype: torch.dtype, head_dim: int, draw: Draw) -> Iterator[Measurement]:
    """Compare a step of decoding: new keys and values go into a cache, few queries see it all."""
    attention = importlib.import_module("flash_attn").flash_attn_with_kvcache
    held, new, room = 517, 3, 640
    case = Case(dtype=dtype, head_dim=head_dim, queries=new, keys=held + new, causal=True)
    q = draw.normal((2, new, case.heads, head_dim), dtype)
    k, v = (draw.normal((2, held + new, case.kv_heads, head_dim), dtype) for _ in range(2))
    caches = []
    for tensor in (k, v):
        cache = tensor.new_zeros((2, room, case.kv_heads, head_dim))
        cache[:, :held] = tensor[:, :held]
        caches.append(cache)
    out = attention(q, *caches, k=k[:, held:], v=v[:, held:], cache_seqlens=held, causal=True)
    expected = reference(q.double(), k.double(), v.double(), case=case, slopes=None)
    name = f"cache {held}+{new} of {head_dim}"
    yield compare(name, "forward", out, expected, FORWARD_EPSILONS)
    for key, cache, tensor in zip("kv", caches, (k, v), strict=True):
        yield compare(name, f"{key} kept", cache[:, : held + new], tensor.double(), 0.0)


def cases() -> Iterator[Case]:
    """Yield the cases: every kernel's head dimension, masked and not; then the options."""
    for dtype, head_dim, causal in itertools.product(DTYPES, HEAD_DIMS, (False, True)):
        yield Case(dtype=dtype, head_dim=head_dim, causal=causal)
    for dtype, head_dim in itertools.product(DTYPES, (64, 128)):
        yield Case(dtype=dtype, head_dim=head_dim, queries=256, keys=256, kv_heads=4)
        yield Case(dtype=dtype, head_dim=head_dim, queries=1, keys=1)
        yield Case(dtype=dtype, head_dim=head_dim, queries=203, keys=113, causal=True)
        yield Case(dtype=dtype, head_dim=head_dim, window=(40, 20))
        yield Case(dtype=dtype, head_dim=head_dim, window=(64, 0), kv_heads=1)
        yield Case(dtype=dtype, head_dim=head_dim, softcap=15.0, causal=True)
        yield Case(dtype=dtype, head_dim=head_dim, slopes=True)


def run_cases(device: torch.device) -> Iterator[Measurement]:
    """Yield the measurements of all cases, each drawn from a seed of its own."""
    import_functions(PACKAGE)
    seeds = itertools.count()
    for case in cases():
        yield from measure_case(case, Draw(next(seeds), device))
    for dtype, head_dim in itertools.product(DTYPES, HEAD_DIMS):
        yield from measure_packed(dtype, head_dim, Draw(next(seeds), device))
        yield from measure_cache(dtype, head_dim, Draw(next(seeds), device))


def import_all() -> None:
    """Import the extension and the package."""
    import_functions(EXTENSION | PACKAGE)


if __name__ == "__main__":
    sys.exit(run("flash-attn", import_all=import_all, run_cases=run_cases))
