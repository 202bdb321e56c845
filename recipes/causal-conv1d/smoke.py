"""Smoke test of an installed causal-conv1d: import it, or run its kernels against float64.

    python smoke.py --level imported|ran-on-gpu --json OUT

It needs torch and the wheel, and leaves 1 when a function is missing or a number is out of
tolerance. The inputs of a case are rounded to its dtype first and the reference is computed
from the rounded values, so that what is measured is the kernel and not the input. The kernels
accumulate in float32 and round once, at the end.
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

from smoking import Draw, Measurement, import_functions, leaf64, measure, run, short_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

FUNCTIONS = {
    "causal_conv1d": ("causal_conv1d_fn", "causal_conv1d_update"),
    "causal_conv1d_cuda": ("causal_conv1d_fwd", "causal_conv1d_bwd", "causal_conv1d_update"),
}

# In units of the dtype's epsilon, of max |x - reference| / max |reference|.
# float16, bfloat16: one rounding costs at most half an epsilon of the largest value, and the
#   float32 sums in front of it a thousandth, so 1 is twice what a right kernel can reach.
# float32: nothing hides the sums (up to 4 taps; up to 4,124 terms for the gradients of weight and
#   bias, in an order that atomics change), nor expf and division of --use_fast_math, a few
#   epsilons each. A dropped tap or a wrong element costs 10^5 epsilons and more.
TOLERANCE_EPSILONS = {torch.float16: 1.0, torch.bfloat16: 1.0, torch.float32: 64.0}

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
WIDTHS = (2, 3, 4)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One call of the package: shapes, layout and options."""

    dtype: torch.dtype
    batch: int
    dim: int
    seqlen: int
    width: int
    weight_dtype: torch.dtype | None = None
    channel_last: bool = False
    bias: bool = True
    silu: bool = True
    initial_states: bool = False
    final_states: bool = False
    sequences: bool = False
    state_len: int | None = None
    circular: bool = False

    @property
    def name(self) -> str:
        """Return for example ``channel-last 2x72x253 width 4 bias silu``.

        The three sizes are batch, dim and seqlen.
        """
        flags = {
            "bias": self.bias,
            "silu": self.silu,
            "initial-states": self.initial_states,
            "final-states": self.final_states,
            "sequences": self.sequences,
            "circular": self.circular,
        }
        kind = "channel-last" if self.channel_last else "channel-first"
        if self.state_len is not None:
            kind = f"update state {self.state_len}"
        words = [kind, f"{self.batch}x{self.dim}x{self.seqlen}", f"width {self.width}"]
        words += [word for word, is_on in flags.items() if is_on]
        if self.weight_dtype is not None:
            words.append(f"weight {short_name(self.weight_dtype)}")
        return " ".join(words)

    @property
    def activation(self) -> str | None:
        """Return the name that the package takes."""
        return "silu" if self.silu else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """The tensors of a case, in its dtype."""

    x: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None
    states: torch.Tensor | None
    sequences: torch.Tensor | None

    def leaves(self) -> dict[str, torch.Tensor]:
        """Return the tensors that get a gradient, by the name of the gradient."""
        named = {
            "dx": self.x,
            "dweight": self.weight,
            "dbias": self.bias,
            "dinitial_states": self.states,
        }
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def in_float64(self) -> Inputs:
        """Return copies in float64, as leaves of a graph of their own."""
        return Inputs(
            x=leaf64(self.x),
            weight=leaf64(self.weight),
            bias=None if self.bias is None else leaf64(self.bias),
            states=None if self.states is None else leaf64(self.states),
            sequences=self.sequences,
        )


# ---------------------------------------------------------------- reference


def reference_conv(inputs: Inputs, history: torch.Tensor, *, silu: bool) -> torch.Tensor:
    """Return y[t] = act(bias + sum over k of weight[k] * x[t - (width - 1) + k]).

    ``history`` stands in front of x. Where sequences are given, a tap counts only when it lies
    in the sequence of the value it adds to.
    """
    width, seqlen = inputs.weight.shape[1], inputs.x.shape[2]
    padded = torch.cat([history, inputs.x], dim=2)
    total = torch.zeros_like(inputs.x)
    for tap in range(width):
        product = inputs.weight[:, tap, None] * padded[:, :, tap : tap + seqlen]
        if inputs.sequences is not None:
            ids = torch.nn.functional.pad(inputs.sequences, (width - 1, 0), value=-1)
            product = product * (ids[:, tap : tap + seqlen] == inputs.sequences)[:, None, :]
        total = total + product
    if inputs.bias is not None:
        total = total + inputs.bias[:, None]
    return total * torch.sigmoid(total) if silu else total


def empty_history(inputs: Inputs) -> torch.Tensor:
    """Return the zeros in front of an x without initial states."""
    return inputs.x.new_zeros((*inputs.x.shape[:2], inputs.weight.shape[1] - 1))


# ------------------------------------------------------------------- inputs


def make_inputs(case: Case, draw: Draw) -> Inputs:
    """Draw the inputs of a training case."""
    weight_dtype = case.weight_dtype or case.dtype
    shape = (case.batch, case.dim, case.seqlen)
    states = (case.batch, case.dim, case.width - 1)
    return Inputs(
        x=draw.normal(shape, case.dtype, channel_last=case.channel_last),
        weight=draw.normal((case.dim, case.width), weight_dtype),
        bias=draw.normal((case.dim,), weight_dtype) if case.bias else None,
        states=draw.normal(states, case.dtype, channel_last=True) if case.initial_states else None,
        sequences=None,
    )


def with_sequences(inputs: Inputs) -> Inputs:
    """Return the inputs with x cut into three sequences of unequal length."""
    batch, _, seqlen = inputs.x.shape
    position = torch.arange(seqlen, device=inputs.x.device)
    ids = (position >= seqlen // 3).int() + (position >= seqlen // 2 + 1).int()
    sequences = ids[None, :].expand(batch, seqlen).contiguous()
    return dataclasses.replace(inputs, sequences=sequences)


# -------------------------------------------------------------- measurement


def compare(
    case: Case, quantity: str, actual: torch.Tensor, expected: torch.Tensor, *, exact: bool = False
) -> Measurement:
    """Return one measurement; ``exact`` is for what is copied and may not differ at all."""
    epsilons = 0.0 if exact else TOLERANCE_EPSILONS[actual.dtype]
    return measure(case.name, quantity, actual, expected, dtype=case.dtype, epsilons=epsilons)


def measure_training(package: ModuleType, case: Case, draw: Draw) -> Iterator[Measurement]:
    """Run forward and backward, and compare the output and every gradient."""
    inputs = make_inputs(case, draw)
    if case.sequences:
        inputs = with_sequences(inputs)
    for leaf in inputs.leaves().values():
        leaf.requires_grad_()
    out = package.causal_conv1d_fn(
        inputs.x,
        inputs.weight,
        inputs.bias,
        seq_idx=inputs.sequences,
        initial_states=inputs.states,
        activation=case.activation,
    )
    gradient = draw.normal(tuple(out.shape), out.dtype, channel_last=case.channel_last)
    out.backward(gradient)

    wanted = inputs.in_float64()
    history = empty_history(wanted) if wanted.states is None else wanted.states
    expected = reference_conv(wanted, history, silu=case.silu)
    expected.backward(gradient.double())

    yield compare(case, "forward", out, expected)
    for name, leaf in inputs.leaves().items():
        yield compare(case, name, leaf.grad, wanted.leaves()[name].grad)


def measure_final_states(package: ModuleType, case: Case, draw: Draw) -> Iterator[Measurement]:
    """Run forward with the final states asked for; they are the last values of x."""
    inputs = make_inputs(case, draw)
    out, final = package.causal_conv1d_fn(
        inputs.x,
        inputs.weight,
        inputs.bias,
        initial_states=inputs.states,
        return_final_states=case.final_states,
        activation=case.activation,
    )
    wanted = inputs.in_float64()
    expected = reference_conv(wanted, wanted.states, silu=case.silu)
    yield compare(case, "forward", out, expected)
    last = torch.cat([wanted.states, wanted.x], dim=2)[:, :, -(case.width - 1) :]
    yield compare(case, "final_states", final, last, exact=True)


def measure_update(package: ModuleType, case: Case, draw: Draw) -> Iterator[Measurement]:
    """Run one step of decoding, and compare its output and the state it leaves."""
    inputs = make_inputs(case, draw)
    state = draw.normal((case.batch, case.dim, case.state_len), case.dtype)
    before = state.double()
    # 0, 2, 4, ...: the first wraps to the end of the buffer, later ones have gone round it
    used = 2 * torch.arange(case.batch, device=state.device) if case.circular else None
    out = package.causal_conv1d_update(
        inputs.x.squeeze(2) if case.seqlen == 1 else inputs.x,
        state,
        inputs.weight,
        inputs.bias,
        activation=case.activation,
        cache_seqlens=None if used is None else used.int(),
    )
    wanted = inputs.in_float64()
    history, after = reference_state(wanted.x.detach(), before, used, width=case.width)
    expected = reference_conv(wanted, history, silu=case.silu)
    yield compare(case, "update", out.reshape(inputs.x.shape), expected)
    yield compare(case, "conv_state", state, after, exact=True)


def reference_state(
    x: torch.Tensor, state: torch.Tensor, used: torch.Tensor | None, *, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what stands in front of x, and the state after it.

    The state is a queue, or, where ``used`` counts the values written so far, a ring.
    """
    state_len = state.shape[2]
    if used is None:
        return state[:, :, state_len - width + 1 :], torch.cat([state, x], dim=2)[:, :, -state_len:]

    def places(first: int, last: int) -> torch.Tensor:
        offsets = torch.arange(first, last, device=x.device)
        return ((used[:, None] + offsets) % state_len)[:, None, :].expand(-1, x.shape[1], -1)

    history = state.gather(2, places(1 - width, 0))
    return history, state.scatter(2, places(0, x.shape[2]), x)


# -------------------------------------------------------------------- cases


def training_cases() -> Iterator[Case]:
    """Yield the cases of forward and backward.

    The kernels read vectors of 4 (float32) or 8 values where seqlen allows, in chunks of at most
    1,024 values: 253 fits neither, 2,048 both, 1,031 needs a second chunk for its tail.
    """
    switches = (False, True)
    for dtype, last, width, bias, silu in itertools.product(
        DTYPES, switches, WIDTHS, switches, switches
    ):
        yield Case(
            dtype=dtype, batch=2, dim=72, seqlen=253, width=width,
            channel_last=last, bias=bias, silu=silu,
        )  # fmt: skip
    for dtype, last, (batch, dim, seqlen) in itertools.product(
        DTYPES, switches, ((1, 512, 2048), (4, 64, 1031))
    ):
        yield Case(dtype=dtype, batch=batch, dim=dim, seqlen=seqlen, width=4, channel_last=last)
    for dtype in DTYPES:
        yield Case(dtype=dtype, batch=2, dim=5, seqlen=1, width=4)
        yield Case(dtype=dtype, batch=2, dim=64, seqlen=256, width=4, channel_last=True,
                   sequences=True)  # fmt: skip
        for width in WIDTHS:
            yield Case(dtype=dtype, batch=2, dim=64, seqlen=100, width=width, channel_last=True,
                       initial_states=True)  # fmt: skip
    for dtype, last in itertools.product((torch.float16, torch.bfloat16), switches):
        yield Case(dtype=dtype, batch=2, dim=64, seqlen=253, width=4, channel_last=last,
                   weight_dtype=torch.float32)  # fmt: skip


def final_states_cases() -> Iterator[Case]:
    """Yield the cases of forward that return the final states."""
    for dtype, width in itertools.product(DTYPES, WIDTHS):
        yield Case(dtype=dtype, batch=2, dim=64, seqlen=100, width=width, channel_last=True,
                   initial_states=True, final_states=True)  # fmt: skip


def update_cases() -> Iterator[Case]:
    """Yield the cases of decoding: one value or several, a queue or a ring."""
    for dtype, width, seqlen in itertools.product(DTYPES, WIDTHS, (1, 3)):
        for bias_and_silu, circular in itertools.product((False, True), (False, True)):
            yield Case(
                dtype=dtype, batch=3, dim=200, seqlen=seqlen, width=width,
                bias=bias_and_silu, silu=bias_and_silu,
                state_len=width + 2 if circular else width - 1, circular=circular,
            )  # fmt: skip


def run_cases(device: torch.device) -> list[Measurement]:
    """Return the measurements of all cases, each drawn from a seed of its own."""
    package = importlib.import_module("causal_conv1d")
    plan = [
        *((measure_training, case) for case in training_cases()),
        *((measure_final_states, case) for case in final_states_cases()),
        *((measure_update, case) for case in update_cases()),
    ]
    return [
        measurement
        for seed, (measure_case, case) in enumerate(plan)
        for measurement in measure_case(package, case, Draw(seed, device))
    ]


def import_all() -> None:
    """Import the package and its extension module."""
    import_functions(FUNCTIONS)


if __name__ == "__main__":
    sys.exit(run("causal-conv1d", import_all=import_all, run_cases=run_cases))
