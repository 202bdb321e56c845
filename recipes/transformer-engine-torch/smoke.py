"""Smoke test of an installed transformer-engine-torch: import it, or run its layers.

    python smoke.py --level imported|ran-on-gpu --json OUT

It needs torch, the wheel, what that requires and transformer-engine, and leaves 1 when a function
is missing or a number is out of tolerance. Parameters and inputs are rounded to the case's dtype
first and the reference is computed from the rounded values in float64.
"""

from __future__ import annotations

import ctypes
import importlib
import itertools
import math
import os
import sys
import warnings
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where it lies in the farm

from smoking import (
    Draw,
    Measurement,
    SmokeError,
    import_functions,
    leaf64,
    makes_triton_kernels,
    measure,
    run,
    short_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGE = "transformer_engine.pytorch"
EXTENSION = {
    "transformer_engine_torch": ("layernorm_fwd", "rmsnorm_fwd", "generic_gemm", "fused_attn_fwd")
}
LAYERS = {PACKAGE: ("Linear", "LayerNormLinear", "LayerNormMLP", "RMSNorm", "DotProductAttention")}

# In units of the dtype's epsilon, of max |x - reference| / max |reference|.
# layers: one rounding costs at most half an epsilon of the largest value; a layer rounds what it
#   hands from one of its steps to the next (norm, first product, activation, second product), and
#   gradients pass through the same steps once more. float32 is multiplied as TF32, which has as
#   many bits behind the point as float16.
# attention: the probabilities are rounded before the second product and the result once more; for
#   the gradients the differences of the scores are too, whose errors do not cancel as they do.
# FP8 rounds the inputs and weights of a product to 3 bits behind the point (E4M3, half an epsilon
#   is 2^-4 of a value) and gradients to 2 (E5M2, 2^-3); errors of a sum's terms partly cancel.
EPSILONS = {torch.float32: 4.0 * 2**13, torch.bfloat16: 4.0, torch.float16: 4.0}
ATTENTION_EPSILONS = 4.0
FP8_FORWARD = 2**-4
FP8_GRADIENT = 2**-3

SHAPES = ((64, 128, 256), (48, 64, 320))
"""Tokens, width, inner width; FP8 wants multiples of 16."""
ATTENTION_SHAPES = ((128, 4, 64), (200, 2, 128))
"""Tokens, heads, their width."""
OLDEST_FUSED = (8, 0)
OLDEST_FP8 = (8, 9)
"""GPUs, by compute capability."""

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


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool) -> torch.Tensor:
    """Return softmax(q k / sqrt(width)) v, the heads side by side."""
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(later, -math.inf)
    return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v).flatten(2)


def make_layers(
    width: int, inner: int, dtype: torch.dtype
) -> Iterator[tuple[torch.nn.Module, Callable[[torch.Tensor, Parameters], torch.Tensor]]]:
    """Yield every layer with its reference."""
    layers = importlib.import_module(PACKAGE)
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
    engine = importlib.import_module(PACKAGE)
    with warnings.catch_warnings():
        # newer releases call it autocast, and the old name, which all have, deprecated
        warnings.simplefilter("ignore")
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


def measure_attention(
    shape: tuple[int, int, int], dtype: torch.dtype, draw: Draw, *, causal: bool
) -> Iterator[Measurement]:
    """Run cuDNN's attention forward and backward on two sequences."""
    tokens, heads, width = shape
    layer = importlib.import_module(PACKAGE).DotProductAttention(
        heads,
        width,
        attention_dropout=0.0,
        qkv_format="bshd",
        attn_mask_type="causal" if causal else "no_mask",
    )
    inputs = [draw.normal((2, tokens, heads, width), dtype).requires_grad_() for _ in "qkv"]
    wanted = [leaf64(tensor) for tensor in inputs]
    out = layer(*inputs)
    gradient = draw.normal(tuple(out.shape), out.dtype)
    out.backward(gradient)
    expected = attention(*wanted, causal=causal)
    expected.backward(gradient.double())
    case = f"{short_name(dtype)} attention {'x'.join(map(str, shape))}{' causal' if causal else ''}"
    pairs = [("forward", out, expected)]
    pairs += [
        (f"d{name}", tensor.grad, wide.grad)
        for name, tensor, wide in zip("qkv", inputs, wanted, strict=True)
    ]
    for quantity, actual, wished in pairs:
        yield measure(case, quantity, actual, wished, dtype=dtype, epsilons=ATTENTION_EPSILONS)


def run_cases(device: torch.device) -> Iterator[Measurement]:
    """Yield the measurements of layers and attention, in FP8 where the GPU has it."""
    # float32 products are otherwise rounded to 10 bits behind the point
    torch.backends.cuda.matmul.allow_tf32 = False
    seeds = itertools.count()
    capability = torch.cuda.get_device_capability(device)
    for dtype, (tokens, width, inner) in itertools.product(EPSILONS, SHAPES):
        with_fp8 = capability >= OLDEST_FP8 and dtype == torch.bfloat16
        for fp8 in (False, True) if with_fp8 else (False,):
            for layer, reference in make_layers(width, inner, dtype):
                if fp8 and reference is rms_norm:
                    continue
                draw = Draw(next(seeds), device)
                x = draw.normal((tokens, width), dtype).requires_grad_()
                yield from measure_layer(layer, reference, x, draw, fp8=fp8)
    if capability >= OLDEST_FUSED:
        halves = (torch.float16, torch.bfloat16)
        for dtype, shape, causal in itertools.product(halves, ATTENTION_SHAPES, (False, True)):
            draw = Draw(next(seeds), device)
            yield from measure_attention(shape, dtype, draw, causal=causal)


def import_all() -> None:
    """Import the package as its users do; it loads its libraries, and then the extension."""
    lend_cuda_libraries()
    # of three ways to compute attention take cuDNN's, or none
    os.environ |= {"NVTE_FLASH_ATTN": "0", "NVTE_UNFUSED_ATTN": "0", "NVTE_FUSED_ATTN": "1"}
    try:
        import_functions(LAYERS)
    except (AssertionError, RuntimeError) as error:
        # it loads the extension first, and makes its Triton kernels then
        if not makes_triton_kernels() and EXTENSION.keys() <= sys.modules.keys():
            import_functions(EXTENSION)
            return
        msg = f"{PACKAGE} refuses to be imported: {error}"
        raise SmokeError(msg) from error
    import_functions(EXTENSION)


def lend_cuda_libraries() -> None:
    """Load torch's cuDNN whole, and say where the rest is.

    The package looks beside the interpreter, where torch need not be installed.
    """
    for folder in sys.path:
        libraries = Path(folder, "nvidia")
        if next(libraries.glob("*/lib/libcudnn.so.*"), None) is None:
            continue
        # 2.9.0 has no variable for NVRTC alone
        older = metadata.version("transformer-engine").startswith("2.9.")
        names = ("CUDNN_HOME", "CURAND_HOME", "CUDA_HOME" if older else "NVRTC_HOME")
        for name in names:
            os.environ.setdefault(name, str(libraries))
        for path in sorted(libraries.glob("cudnn/lib/libcudnn*.so.*")):
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        return


if __name__ == "__main__":
    sys.exit(run("transformer-engine-torch", import_all=import_all, run_cases=run_cases))
