"""Smoke test of an installed mamba-ssm: import it, or run its selective scan against float64.

    python smoke.py --level imported|ran-on-gpu --json OUT

It needs torch, the wheel and what that requires, and leaves 1 when a function is missing or a
number is out of tolerance. The inputs of a case are rounded to its dtype first and the reference
is computed from the rounded values, so that what is measured is the kernel and not the input.
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

from smoking import (
    Draw,
    Measurement,
    import_functions,
    leaf64,
    makes_triton_kernels,
    measure,
    run,
    short_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

EXTENSION = {"selective_scan_cuda": ("fwd", "bwd")}
PACKAGE = {"mamba_ssm.ops.selective_scan_interface": ("selective_scan_fn", "mamba_inner_fn")}

# In units of the result's epsilon, of max |x - reference| / max |reference|.
# float16, bfloat16: results are rounded once at the end, which costs at most half an epsilon of the
#   largest value; with a gate the value before the gate is rounded too. An H100 reaches 0.6.
# float32: up to 2,051 steps of a recurrence whose factors come from exp2f and __expf of
#   --use_fast_math, a few epsilons each, and sums of up to 4,102 terms in an order that atomics
#   change. An H100 reaches 224. A step that is left out, or an element of another channel, costs
#   10^5 epsilons.
TOLERANCE_EPSILONS = {torch.float16: 1.0, torch.bfloat16: 1.0, torch.float32: 512.0}

DTYPES = (torch.float16, torch.bfloat16, torch.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One call of selective_scan_fn: shapes and options."""

    dtype: torch.dtype
    batch: int
    dim: int
    seqlen: int
    dstate: int
    groups: int | None = None
    """None: B and C are the same at every step and have no batch."""
    skip: bool = True
    gate: bool = True
    bias: bool = True
    softplus: bool = True
    is_complex: bool = False

    @property
    def name(self) -> str:
        """Return for example ``2x64x253 state 16 groups 1 skip gate bias softplus``."""
        flags = {
            "skip": self.skip,
            "gate": self.gate,
            "bias": self.bias,
            "softplus": self.softplus,
            "complex": self.is_complex,
        }
        words = [f"{self.batch}x{self.dim}x{self.seqlen}", f"state {self.dstate}"]
        words.append("constant" if self.groups is None else f"groups {self.groups}")
        words += [word for word, is_on in flags.items() if is_on]
        return " ".join(words)


Tensors = dict[str, torch.Tensor]
"""The arguments of selective_scan_fn by name."""


def make_inputs(case: Case, draw: Draw) -> Tensors:
    """Draw the tensors of a case: A is negative, steps are small, as in a model."""
    wide = (case.batch, case.dim, case.seqlen)
    weight = torch.complex64 if case.is_complex else torch.float32
    real = -0.5 * draw.uniform((case.dim, case.dstate), torch.float32)
    tensors = {
        "u": draw.normal(wide, case.dtype),
        "delta": (0.5 * draw.uniform(wide, torch.float32)).to(case.dtype),
        "A": real
        if not case.is_complex
        else torch.complex(real, draw.normal(real.shape, real.dtype)),
        "B": make_matrix(case, draw, weight),
        "C": make_matrix(case, draw, weight),
    }
    if case.skip:
        tensors["D"] = draw.normal((case.dim,), torch.float32)
    if case.gate:
        tensors["z"] = draw.normal(wide, case.dtype)
    if case.bias:
        tensors["delta_bias"] = 0.5 * draw.uniform((case.dim,), torch.float32)
    return tensors


def make_matrix(case: Case, draw: Draw, weight: torch.dtype) -> torch.Tensor:
    """Draw B or C: constant in the dtype of A, or for every step in the dtype of u."""
    if case.groups is None:
        real = draw.normal((case.dim, case.dstate), torch.float32)
        if weight == torch.float32:
            return real
        return torch.complex(real, draw.normal(real.shape, torch.float32))
    length = case.seqlen * (2 if case.is_complex else 1)  # real and imaginary parts alternate
    return draw.normal((case.batch, case.groups, case.dstate, length), case.dtype)


def reference_scan(inputs: Tensors, case: Case) -> torch.Tensor:
    """Return y of the recurrence x[t] = exp(dt A) x[t-1] + dt B u[t], y[t] = C x[t], in float64."""
    u, delta, decay = inputs["u"], inputs["delta"], inputs["A"]
    if case.bias:
        delta = delta + inputs["delta_bias"][:, None]
    if case.softplus:
        delta = torch.nn.functional.softplus(delta)
    factors = torch.exp(torch.einsum("bdl,dn->bdln", delta, decay))
    b_steps, c_steps = spread(inputs["B"], case), spread(inputs["C"], case)
    added = torch.einsum("bdl,bdln->bdln", delta * u, b_steps)
    state = added.new_zeros((case.batch, case.dim, case.dstate))
    out = []
    for step in range(case.seqlen):
        state = factors[:, :, step] * state + added[:, :, step]
        out.append((state * c_steps[:, :, step]).sum(-1))
    y = torch.stack(out, dim=2)
    y = 2 * y.real if case.is_complex else y
    if case.skip:
        y = y + u * inputs["D"][:, None]
    return y * torch.nn.functional.silu(inputs["z"]) if case.gate else y


def spread(matrix: torch.Tensor, case: Case) -> torch.Tensor:
    """Return B or C as batch x dim x seqlen x dstate."""
    shape = (case.batch, case.dim, case.seqlen, case.dstate)
    if case.groups is None:
        return matrix[None, :, None, :].expand(shape)
    if case.is_complex:
        pairs = matrix.reshape(*matrix.shape[:3], case.seqlen, 2)
        matrix = torch.complex(pairs[..., 0], pairs[..., 1])
    return matrix.repeat_interleave(case.dim // case.groups, dim=1).permute(0, 1, 3, 2)


def measure_case(case: Case, draw: Draw) -> Iterator[Measurement]:
    """Run forward and backward, and compare the output and every gradient."""
    scan = importlib.import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn
    inputs = {name: tensor.requires_grad_() for name, tensor in make_inputs(case, draw).items()}
    wanted = {name: leaf64(tensor) for name, tensor in inputs.items()}
    out = scan(**inputs, delta_softplus=case.softplus)
    gradient = draw.normal(tuple(out.shape), out.dtype)
    out.backward(gradient)
    expected = reference_scan(wanted, case)
    expected.backward(gradient.double())

    yield compare(case, "forward", out, expected)
    for name, leaf in inputs.items():
        yield compare(case, f"d{name}", leaf.grad, wanted[name].grad)


def compare(case: Case, quantity: str, actual: torch.Tensor, expected: torch.Tensor) -> Measurement:
    """Return one measurement; gradients in float32 carry the rounding of the case's dtype too."""
    name = f"{short_name(case.dtype)} {case.name}"
    real = actual.real.dtype if actual.is_complex() else actual.dtype
    epsilons = TOLERANCE_EPSILONS[real]
    coarse = TOLERANCE_EPSILONS[case.dtype] * torch.finfo(case.dtype).eps / torch.finfo(real).eps
    return measure(
        name, quantity, actual, expected, dtype=case.dtype, epsilons=max(epsilons, coarse)
    )


def cases() -> Iterator[Case]:
    """Yield the cases.

    The kernels scan 128 to 2,048 values at a time, by threads of 4 to 16: 253 fits neither, 2,051
    needs a second chunk for three values, 1 has no scan at all.
    """
    switches = (False, True)
    for dtype, groups, gate in itertools.product(DTYPES, (None, 1, 2), switches):
        yield Case(dtype=dtype, batch=2, dim=24, seqlen=253, dstate=16, groups=groups, gate=gate)
    for dtype, length in itertools.product(DTYPES, (1, 64, 1025, 2051)):
        yield Case(dtype=dtype, batch=2, dim=4, seqlen=length, dstate=8, groups=1)
    for dtype, (skip, bias, softplus) in itertools.product(
        DTYPES, itertools.product(switches, switches, switches)
    ):
        yield Case(dtype=dtype, batch=1, dim=8, seqlen=100, dstate=4, groups=1, skip=skip,
                   bias=bias, softplus=softplus)  # fmt: skip
    for dtype, groups in itertools.product(DTYPES, (None, 1)):
        yield Case(dtype=dtype, batch=2, dim=8, seqlen=253, dstate=8, groups=groups,
                   is_complex=True)  # fmt: skip


def run_cases(device: torch.device) -> list[Measurement]:
    """Return the measurements of all cases, each drawn from a seed of its own."""
    import_functions(PACKAGE)
    return [
        measurement
        for seed, case in enumerate(cases())
        for measurement in measure_case(case, Draw(seed, device))
    ]


def import_all() -> None:
    """Import the extension, and the package where that can be done without a GPU."""
    import_functions(EXTENSION)
    if makes_triton_kernels():
        import_functions(PACKAGE)


if __name__ == "__main__":
    sys.exit(run("mamba-ssm", import_all=import_all, run_cases=run_cases))
