"""Smoke test of an installed transformer-engine-torch: import it, or run its layers.

    python smoke.py --level imported|ran-on-gpu --json OUT

It needs torch, the wheel and what that requires, and leaves 1 when a function is missing or a
number is out of tolerance. The layers' parameters and inputs are rounded to the case's dtype first
and the reference is computed from the rounded values in float64.
"""

from __future__ import annotations

import importlib
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where it lies in the farm

from smoking import Draw, Measurement, import_functions, leaf64, measure, run, short_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXTENSION = {"transformer_engine_torch": ("layernorm_fwd", "rmsnorm_fwd", "generic_gemm")}
LAYERS = {"transformer_engine.pytorch": ("Linear", "LayerNormLinear", "LayerNormMLP", "RMSNorm")}

# In units of the dtype's epsilon, of max |x - reference| / max |reference|.
# One rounding costs at most half an epsilon of the largest value; a layer rounds what it hands from
#   one of its steps to the next (norm, first product, activation, second product), and gradients
#   pass through the same steps once more.
# FP8 rounds the inputs and weights of a product to 3 bits behind the point (E4M3, half an epsilon
#   is 2^-4 of a value) and gradients to 2 (E5M2, 2^-3); errors of a sum's terms partly cancel.
EPSILONS = {torch.float32: 64.0, torch.bfloat16: 4.0, torch.float16: 4.0}
FP8_FORWARD = 2**-4
FP8_GRADIENT = 2**-3

Parameters = dict[str, torch.Tensor]


def linear(x: torch.Tensor, weights: Parameters) -> torch.Tensor:
    """Return the product and the bias."""
    return functional.linear(x, weights["weight"], weights["bias"])


def layer_norm_linear(x: torch.Tensor, weights: Parameters) -> torch.Tensor:
    """Return the product of what was normalized."""
    return linear(_norm(x, weights), weights)


def layer_norm_mlp(x: torch.Tensor, weights: Parameters) -> torch.Tensor:
    """Return two products with a GELU, which is the tanh one, between them."""
    hidden = functional.linear(_norm(x, weights), weights["fc1_weight"], weights["fc1_bias"])
    hidden = functional.gelu(hidden, approximate="tanh")
    return functional.linear(hidden, weights["fc2_weight"], weights["fc2_bias"])


def rms_norm(x: torch.Tensor, weights: Parameters) -> torch.Tensor:
    """Return what has the mean square 1, times the weight."""
    return functional.rms_norm(x, x.shape[-1:], weights["weight"], eps=1e-5)


def _norm(x: torch.Tensor, weights: Parameters) -> torch.Tensor:
    shape = x.shape[-1:]
    return functional.layer_norm(
        x, shape, weights["layer_norm_weight"], weights["layer_norm_bias"], eps=1e-5
    )


SHAPES = ((64, 128, 256), (48, 64, 320))
"""Tokens, width, inner width; FP8 wants multiples of 16."""


def make_layers(
    width: int, inner: int, dtype: torch.dtype
) -> Iterator[tuple[torch.nn.Module, Callable[[torch.Tensor, Parameters], torch.Tensor]]]:
    """Yield every layer with its reference."""
    layers = importlib.import_module("transformer_engine.pytorch")
    options = {"params_dtype": dtype, "device": "cuda"}
    yield layers.Linear(width, inner, bias=True, **options), linear
    yield layers.LayerNormLinear(width, inner, bias=True, **options), layer_norm_linear
    yield layers.LayerNormMLP(width, inner, bias=True, **options), layer_norm_mlp
    yield layers.RMSNorm(width, dtype=dtype, device="cuda"), rms_norm


def measure_layer(
    layer: torch.nn.Module,
    reference: Callable[[torch.Tensor, Parameters], torch.Tensor],
    x: torch.Tensor,
    draw: Draw,
    *,
    fp8: bool,
) -> Iterator[Measurement]:
    """Run forward and backward, and compare the output and every gradient."""
    for parameter in layer.parameters():
        drawn = draw.normal(tuple(parameter.shape), parameter.dtype)
        scale = parameter.shape[-1] ** -0.5 if parameter.dim() > 1 else 1.0
        parameter.data.copy_(drawn * scale)
    wanted = {name: leaf64(parameter) for name, parameter in layer.named_parameters()}
    x64 = leaf64(x)
    engine = importlib.import_module("transformer_engine.pytorch")
    with engine.fp8_autocast(enabled=fp8):
        out = layer(x)
    gradient = draw.normal(tuple(out.shape), out.dtype)
    out.backward(gradient)
    expected = reference(x64, wanted)
    expected.backward(gradient.double())
    name = f"{type(layer).__name__} {'x'.join(map(str, x.shape))}{' FP8' if fp8 else ''}"
    dtype = x.dtype
    pairs = [("forward", out, expected), ("dx", x.grad, x64.grad)]
    pairs += [
        (f"d{key}", parameter.grad, wanted[key].grad) for key, parameter in layer.named_parameters()
    ]
    for quantity, actual, wished in pairs:
        allowed = EPSILONS[dtype]
        if fp8:
            error = FP8_FORWARD if quantity == "forward" else FP8_GRADIENT
            allowed = error / torch.finfo(actual.dtype).eps
        yield measure(
            f"{short_name(dtype)} {name}", quantity, actual, wished, dtype=dtype, epsilons=allowed
        )


def run_cases(device: torch.device) -> Iterator[Measurement]:
    """Yield the measurements of all layers, in FP8 where the GPU has it."""
    import_functions(LAYERS)
    # float32 products are otherwise rounded to 10 bits behind the point
    torch.backends.cuda.matmul.allow_tf32 = False
    seeds = itertools.count()
    has_fp8 = torch.cuda.get_device_capability(device) >= (8, 9)
    for dtype, (tokens, width, inner) in itertools.product(EPSILONS, SHAPES):
        for fp8 in (False, True) if has_fp8 and dtype == torch.bfloat16 else (False,):
            for layer, reference in make_layers(width, inner, dtype):
                if fp8 and reference is rms_norm:
                    continue
                draw = Draw(next(seeds), device)
                x = draw.normal((tokens, width), dtype).requires_grad_()
                yield from measure_layer(layer, reference, x, draw, fp8=fp8)


def import_all() -> None:
    """Import the package, which loads the libraries in the order that the extension needs."""
    importlib.import_module("transformer_engine.pytorch")
    import_functions(EXTENSION | LAYERS)


if __name__ == "__main__":
    sys.exit(run("transformer-engine-torch", import_all=import_all, run_cases=run_cases))
