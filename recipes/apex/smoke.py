"""Smoke test of an installed apex: import all extensions, or run them against float64.

    python smoke.py --level imported|ran-on-gpu --json OUT

It needs torch and the wheel, and leaves 1 when a module is missing or a number is out of tolerance.
Inputs are rounded to the dtype first and the reference is computed in float64 from the rounded
values, so that what is measured is the kernel and not the input. What needs several GPUs
(distributed optimizers, peer memory, NCCL, batch norm across GPUs) is imported only; so are the
deprecated optimizers, the transducer's loss, the bottleneck and the permutation search.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
import sys
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
    measure,
    run,
    short_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CORE = {
    "amp_C": ("multi_tensor_adam", "multi_tensor_lamb", "multi_tensor_l2norm", "multi_tensor_sgd"),
    "apex_C": ("flatten", "unflatten"),
    "fused_dense_cuda": ("linear_bias_forward", "linear_gelu_linear_backward"),
    "fused_layer_norm_cuda": ("forward_affine", "rms_backward_affine"),
    "fused_rotary_positional_embedding": ("forward", "backward_thd", "backward_2d"),
    "fused_weight_gradient_mlp_cuda": ("wgrad_gemm_accum_fp32", "wgrad_gemm_accum_fp16"),
    "generic_scaled_masked_softmax_cuda": ("forward", "backward"),
    "mlp_cuda": ("forward", "backward"),
    "scaled_masked_softmax_cuda": ("forward", "backward", "get_batch_per_block"),
    "scaled_softmax_cuda": ("forward", "backward"),
    "scaled_upper_triang_masked_softmax_cuda": ("forward", "backward"),
    "syncbn": (),
    "apex.fused_dense": ("FusedDense", "FusedDenseGeluDense"),
    "apex.mlp": ("MLP",),
    "apex.normalization": ("FusedLayerNorm", "FusedRMSNorm", "MixedFusedLayerNorm"),
    "apex.optimizers": ("FusedAdam", "FusedLAMB", "FusedSGD"),
}
CONTRIB = {
    "_apex_nccl_allocator": (),
    "bnp": (),
    "cudnn_gbn_lib": (),
    "distributed_adam_cuda": (),
    "distributed_lamb_cuda": (),
    "fast_bottleneck": (),
    "fast_layer_norm": ("ln_fwd", "ln_bwd"),
    "focal_loss_cuda": ("forward", "backward"),
    "fused_adam_cuda": (),
    "fused_conv_bias_relu": ("forward", "backward"),
    "fused_index_mul_2d": ("float_forward", "half_backward"),
    "fused_lamb_cuda": (),
    "group_norm_cuda": ("forward", "backward"),
    "group_norm_v2_cuda": ("gn", "gn_bwd"),
    "nccl_p2p_cuda": (),
    "peer_memory_cuda": (),
    "permutation_search_cuda": (),
    "transducer_joint_cuda": ("forward", "backward"),
    "transducer_loss_cuda": ("forward", "backward"),
    "xentropy_cuda": ("forward", "backward"),
    "apex.contrib.clip_grad": ("clip_grad_norm_",),
    "apex.contrib.conv_bias_relu": ("ConvBias",),
    "apex.contrib.focal_loss.focal_loss": ("focal_loss",),
    "apex.contrib.group_norm": ("GroupNorm",),
    "apex.contrib.index_mul_2d": ("index_mul_2d",),
    "apex.contrib.layer_norm": ("FastLayerNorm",),
    "apex.contrib.transducer": ("TransducerJoint",),
    "apex.contrib.xentropy": ("SoftmaxCrossEntropyLoss",),
}
CORE_ONLY = "0.1.post20250804"
"""The version that the farm builds without contrib."""

HALVES = (torch.float16, torch.bfloat16)
DTYPES = (*HALVES, torch.float32)

# In units of the result's epsilon, of max |x - reference| / max |reference|.
# float16, bfloat16: one rounding costs half an epsilon. ROUNDED is for sums in float32 that are
#   rounded once, at twice what a right kernel can reach; CHAINED for what was rounded up to eight
#   times on its way: an activation between two layers, a product of rounded factors, five steps of
#   an optimizer.
# float32: sums of up to some thousand terms in an order of their own, and expf, division and rsqrt
#   of --use_fast_math, a few epsilons each.
# A wrong element, a row that is left out or a mask that is shifted costs 0.01 and more, which are
# 10 epsilons of float16 but only 1.3 of bfloat16: each case has both.
ROUNDED = {torch.float16: 1.0, torch.bfloat16: 1.0, torch.float32: 512.0}
CHAINED = {torch.float16: 4.0, torch.bfloat16: 4.0, torch.float32: 512.0}

Tensors = dict[str, torch.Tensor]


# -------------------------------------------------------------- measurement


def measure_operation(
    name: str,
    dtype: torch.dtype,
    inputs: Tensors,
    *,
    draw: Draw,
    fused: Callable[..., torch.Tensor],
    plain: Callable[..., torch.Tensor],
    epsilons: dict[torch.dtype, float],
) -> Iterator[Measurement]:
    """Run forward and backward of both, and compare the output and the gradient of each input."""
    wanted = {key: leaf64(tensor) for key, tensor in inputs.items()}
    for tensor in inputs.values():
        tensor.requires_grad_()
    out = fused(**inputs)
    gradient = draw.normal(tuple(out.shape), out.dtype)
    expected = plain(**wanted)
    expected.backward(gradient.double())
    out.backward(gradient)
    yield measure(name, "forward", out, expected, dtype=dtype, epsilons=epsilons[out.dtype])
    for key, tensor in inputs.items():
        actual, grad = tensor.grad, wanted[key].grad
        allowed = epsilons[actual.dtype]
        yield measure(name, f"d{key}", actual, grad, dtype=dtype, epsilons=allowed)


class Extension(torch.autograd.Function):
    """Functions of an extension that has no module: forward(x), and backward(gradient, result)."""

    @staticmethod
    def forward(ctx, x, forward, backward):  # noqa: ANN001, ANN205
        """Keep the result and how to go back."""
        out = forward(x)
        ctx.save_for_backward(out)
        ctx.go_back = backward
        return out

    @staticmethod
    def backward(ctx, gradient):  # noqa: ANN001, ANN205
        """Go back from a copy: some of them write over what they are given."""
        return ctx.go_back(gradient.clone(), *ctx.saved_tensors), None, None


def with_parameters(module: torch.nn.Module, **parameters: torch.Tensor) -> Callable[..., object]:
    """Return a call of the module with other tensors in place of its parameters."""
    return lambda x: torch.func.functional_call(module, parameters, (x,))


def near_one(draw: Draw, size: int, dtype: torch.dtype) -> torch.Tensor:
    """Draw a weight by which a norm can be divided."""
    return (0.5 + draw.uniform((size,), torch.float32)).to(dtype)


# --------------------------------------------------------------------- norms


def norms(draw: Draw) -> Iterator[Measurement]:
    """Compare layer norm and RMS norm, of short and long rows, with both ways to save memory."""
    library = importlib.import_module("apex.normalization")
    shapes = ((5, 7, 64), (33, 1000), (1025, 4096), (3, 8193))
    for dtype, shape, saves in itertools.product(DTYPES, shapes, (False, True)):
        size = shape[-1]
        more = {"device": "meta"}
        inputs = {"x": draw.normal(shape, dtype), "weight": near_one(draw, size, dtype)}
        rms = library.FusedRMSNorm(size, memory_efficient=saves).to(**more)
        name = f"{'x'.join(map(str, shape))}{' memory-efficient' if saves else ''}"
        yield from measure_operation(
            f"FusedRMSNorm {name}", dtype, inputs, draw=draw, epsilons=CHAINED,
            fused=lambda x, weight, rms=rms: with_parameters(rms, weight=weight)(x),
            plain=lambda x, weight: weight * x * (x.pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt(),
        )  # fmt: skip
        inputs = {
            "x": draw.normal(shape, dtype),
            "weight": near_one(draw, size, dtype),
            "bias": draw.normal((size,), dtype),
        }
        layer = library.FusedLayerNorm(size, memory_efficient=saves).to(**more)
        yield from measure_operation(
            f"FusedLayerNorm {name}", dtype, inputs, draw=draw, epsilons=CHAINED,
            fused=lambda x, weight, bias, layer=layer: with_parameters(
                layer, weight=weight, bias=bias)(x),
            plain=lambda x, weight, bias: functional.layer_norm(
                x, weight.shape, weight, bias, eps=1e-5),
        )  # fmt: skip


def fast_layer_norms(draw: Draw) -> Iterator[Measurement]:
    """Compare the layer norm of contrib, at some of the sizes that it is compiled for."""
    library = importlib.import_module("apex.contrib.layer_norm")
    for dtype, size, saves in itertools.product(DTYPES, (768, 1024, 4096, 12288), (False, True)):
        inputs = {
            "x": draw.normal((257, size), dtype),
            "weight": near_one(draw, size, dtype),
            "bias": draw.normal((size,), dtype),
        }
        module = library.FastLayerNorm(size, memory_efficient=saves).to(device="meta")
        yield from measure_operation(
            f"FastLayerNorm 257x{size}{' memory-efficient' if saves else ''}", dtype, inputs,
            draw=draw, epsilons=CHAINED,
            fused=lambda x, weight, bias, module=module: with_parameters(
                module, weight=weight, bias=bias)(x),
            plain=lambda x, weight, bias: functional.layer_norm(
                x, weight.shape, weight, bias, eps=1e-5),
        )  # fmt: skip


def group_norms(draw: Draw) -> Iterator[Measurement]:
    """Compare group norm: one pass, two passes, and the shapes of version 2 where a GPU has it."""
    library = importlib.import_module("apex.contrib.group_norm")
    shapes = ((2, 320, 9, 7), (1, 640, 32, 40), (2, 1280, 8, 8))
    for dtype, shape, (groups, act) in itertools.product(
        DTYPES, shapes, ((32, ""), (16, "silu"), (32, "silu"))
    ):
        channels = shape[1]
        inputs = {
            "x": draw.normal(shape, dtype).to(memory_format=torch.channels_last),
            "weight": near_one(draw, channels, dtype),
            "bias": draw.normal((channels,), dtype),
        }
        module = library.GroupNorm(groups, channels, device=inputs["x"].device, act=act)

        def plain(
            x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor,
            groups: int = groups, act: str = act,
        ) -> torch.Tensor:  # fmt: skip
            out = functional.group_norm(x, groups, weight, bias, eps=1e-5)
            return functional.silu(out) if act else out

        yield from measure_operation(
            f"GroupNorm {'x'.join(map(str, shape))} groups {groups} {act}".rstrip(), dtype, inputs,
            draw=draw, epsilons=CHAINED, plain=plain,
            fused=lambda x, weight, bias, module=module: with_parameters(
                module, weight=weight, bias=bias)(x),
        )  # fmt: skip


# -------------------------------------------------------------------- layers


def dense_layers(draw: Draw) -> Iterator[Measurement]:
    """Compare one dense layer, and two with a GELU between them."""
    library = importlib.import_module("apex.fused_dense")
    for dtype, (rows, first, middle, last) in itertools.product(
        DTYPES, ((64, 128, 256, 64), (520, 1024, 512, 256))
    ):

        def layer(inputs: int, outputs: int, dtype: torch.dtype = dtype) -> torch.Tensor:
            return (draw.normal((outputs, inputs), torch.float32) / inputs**0.5).to(dtype)

        inputs = {
            "x": draw.normal((rows, first), dtype),
            "weight": layer(first, middle),
            "bias": draw.normal((middle,), dtype),
        }
        one = library.FusedDense(first, middle).to(device="meta")
        yield from measure_operation(
            f"FusedDense {rows}x{first}x{middle}", dtype, inputs, draw=draw, epsilons=ROUNDED,
            fused=lambda x, one=one, **parameters: with_parameters(one, **parameters)(x),
            plain=functional_linear,
        )  # fmt: skip
        inputs = {
            "x": draw.normal((rows, first), dtype),
            "weight1": layer(first, middle),
            "bias1": draw.normal((middle,), dtype),
            "weight2": layer(middle, last),
            "bias2": draw.normal((last,), dtype),
        }
        two = library.FusedDenseGeluDense(first, middle, last).to(device="meta")
        yield from measure_operation(
            f"FusedDenseGeluDense {rows}x{first}x{middle}x{last}", dtype, inputs, draw=draw,
            epsilons=GELU,
            fused=lambda x, two=two, **parameters: with_parameters(two, **parameters)(x),
            plain=lambda x, weight1, bias1, weight2, bias2: functional.linear(
                functional.gelu(functional.linear(x, weight1, bias1), approximate="tanh"),
                weight2, bias2),
        )  # fmt: skip


# cuBLAS takes tanh of the hardware for its GELU, which is good to 11 bits
GELU = {torch.float16: 8.0, torch.bfloat16: 4.0, torch.float32: 2.0**14}


def functional_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return a dense layer by the names that its tensors have here."""
    return functional.linear(x, weight, bias)


def perceptrons(draw: Draw) -> Iterator[Measurement]:
    """Compare MLPs of two layers.

    ReLU is in float32 only: where a sum is near zero, the rounding of the layer before decides
    whether its gradient counts.
    """
    library = importlib.import_module("apex.mlp")
    activations = {
        "none": lambda x: x, "sigmoid": torch.sigmoid, "relu": functional.relu,
    }  # fmt: skip
    for dtype, bias, (activation, act) in itertools.product(
        (torch.float16, torch.float32), (True, False), activations.items()
    ):
        if activation == "relu" and dtype != torch.float32:
            continue
        sizes = (96, 256, 64)
        inputs = {"x": draw.normal((48, sizes[0]), dtype)}
        for number, (one, other) in enumerate(itertools.pairwise(sizes)):
            weight = draw.normal((other, one), torch.float32) / one**0.5
            inputs[f"weight_{number}"] = weight.to(dtype)
        for number, size in enumerate(sizes[1:] if bias else ()):
            inputs[f"bias_{number}"] = draw.normal((size,), dtype)

        def plain(
            x: torch.Tensor, act: Callable[[torch.Tensor], torch.Tensor] = act,
            **parameters: torch.Tensor,
        ) -> torch.Tensor:  # fmt: skip
            for number in (0, 1):
                shift = parameters.get(f"bias_{number}")
                x = act(functional.linear(x, parameters[f"weight_{number}"], shift))
            return x

        yield from measure_operation(
            f"MLP {activation}{' bias' if bias else ''}", dtype, inputs, draw=draw,
            epsilons=CHAINED, plain=plain,
            fused=lambda x, library=library, bias=bias, activation=activation, **parameters:
                library.mlp.mlp_function(
                    int(bias), list(NUMBERS).index(activation), x, *parameters.values()),
        )  # fmt: skip


NUMBERS = ("none", "relu", "sigmoid")
"""The activations of an MLP by the numbers that the extension has for them."""


def weight_gradients(draw: Draw) -> Iterator[Measurement]:
    """Compare the product that Megatron-core adds to a weight's gradient."""
    library = importlib.import_module("fused_weight_gradient_mlp_cuda")
    for dtype, in_float32 in itertools.product(HALVES, (True, False)):
        x, dy = draw.normal((256, 128), dtype), draw.normal((256, 64), dtype)
        total = draw.normal((64, 128), torch.float32 if in_float32 else dtype)
        expected = total.double() + dy.double().T @ x.double()
        name = "wgrad_gemm_accum_fp32" if in_float32 else "wgrad_gemm_accum_fp16"
        getattr(library, name)(x, dy, total)
        allowed = CHAINED[total.dtype]
        yield measure(name, "sum", total, expected, dtype=dtype, epsilons=allowed)


def with_channels_last(out: torch.Tensor) -> torch.Tensor:
    """Let the gradient of this come as contrib's convolutions want it."""
    out.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
    return out


def convolutions(draw: Draw) -> Iterator[Measurement]:
    """Compare a convolution with bias, which contrib takes from cuDNN."""
    library = importlib.import_module("apex.contrib.conv_bias_relu")
    for kernel, padding, stride in ((1, 0, 1), (3, 1, 1), (3, 1, 2)):
        last = {"memory_format": torch.channels_last}
        weight = draw.normal((32, 64, kernel, kernel), torch.float32) / (8 * kernel)
        inputs = {
            "x": draw.normal((4, 64, 16, 16), torch.float16).to(**last),
            "weight": weight.half().to(**last),
            "bias": draw.normal((1, 32, 1, 1), torch.float16),
        }
        yield from measure_operation(
            f"ConvBias {kernel}x{kernel} stride {stride}", torch.float16, inputs, draw=draw,
            epsilons=CHAINED,
            fused=lambda x, weight, bias, padding=padding, stride=stride: with_channels_last(
                library.ConvBias(x, weight, bias, padding, stride)),
            plain=lambda x, weight, bias, padding=padding, stride=stride: functional.conv2d(
                x, weight, bias.flatten(), stride=stride, padding=padding),
        )  # fmt: skip


# ------------------------------------------------------------------- softmax


def softmaxes(draw: Draw) -> Iterator[Measurement]:
    """Compare the four softmaxes; what is masked has probability 0."""
    plain, masked, generic, upper = (
        importlib.import_module(f"{name}softmax_cuda")
        for name in (
            "scaled_", "scaled_masked_", "generic_scaled_masked_", "scaled_upper_triang_masked_",
        )
    )  # fmt: skip
    for dtype, scale in itertools.product(HALVES, (1.0, 0.125)):
        for shape in ((2, 4, 64, 64), (1, 4, 128, 1000), (2, 2, 64, 4096)):
            yield from measure_softmax(plain, shape, dtype, draw=draw, scale=scale)
            yield from measure_softmax(masked, shape, dtype, draw=draw, scale=scale, masks=True)
        for shape in ((2, 4, 64, 64), (2, 3, 37, 101)):
            yield from measure_softmax(generic, shape, dtype, draw=draw, scale=scale, masks=True)
        for shape in ((8, 64, 64), (4, 1000, 1000)):
            yield from measure_softmax(upper, shape, dtype, draw=draw, scale=scale)


def measure_softmax(
    extension: object,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    *,
    draw: Draw,
    scale: float,
    masks: bool = False,
) -> Iterator[Measurement]:
    """Compare one, with the mask that its kind has."""
    x = draw.normal(shape, dtype)
    hidden = torch.zeros((), dtype=torch.bool, device=x.device)
    given: tuple[torch.Tensor, ...] = ()
    if masks:
        hidden = draw.uniform((shape[0], 1, *shape[2:]), torch.float32) < 0.3
        hidden[..., 0] = False  # no row is masked as a whole
        given = (hidden,)
    elif len(shape) == 3:
        hidden = torch.ones(shape[1:], dtype=torch.bool, device=x.device).triu(1)
    name = str(extension.__name__).removesuffix("_cuda")  # type: ignore[attr-defined]
    yield from measure_operation(
        f"{name} {'x'.join(map(str, shape))} scale {scale}", dtype, {"x": x}, draw=draw,
        epsilons=CHAINED,
        fused=lambda x: Extension.apply(
            x,
            lambda x: extension.forward(x, *given, scale),
            lambda gradient, out: extension.backward(gradient, out, scale)),
        plain=lambda x: (scale * x).masked_fill(hidden, -torch.inf).softmax(-1),
    )  # fmt: skip


# ---------------------------------------------------------------- embeddings


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate the pairs (i, i + n/2) of the first n values; what stands behind them stays."""
    turned, rest = x.split([cos.shape[-1], x.shape[-1] - cos.shape[-1]], dim=-1)
    left, right = turned.chunk(2, dim=-1)
    return torch.cat([turned * cos + torch.cat([-right, left], dim=-1) * sin, rest], dim=-1)


def draw_angles(draw: Draw, length: int, size: int) -> torch.Tensor:
    """Draw angles as length x 1 x 1 x size; both halves are the same, as in a model."""
    half = 6.0 * draw.uniform((length, 1, 1, size // 2), torch.float32)
    return torch.cat([half, half], dim=-1)


def embeddings(draw: Draw) -> Iterator[Measurement]:
    """Compare rotary embeddings: from angles, from cos and sin, of packed sequences, of images."""
    library = importlib.import_module("fused_rotary_positional_embedding")
    for dtype, (heads, size, turned) in itertools.product(DTYPES, ((4, 64, 64), (17, 96, 32))):
        angles = draw_angles(draw, 50, turned)
        cos, sin = angles.cos(), angles.sin()
        wide = (angles.double().cos(), angles.double().sin())
        more = {"draw": draw, "epsilons": CHAINED}
        name = f"rope heads {heads} size {size} of which {turned}"
        x = draw.normal((50, 2, heads, size), dtype)
        yield from measure_operation(
            name, dtype, {"x": x}, **more,
            fused=lambda x, angles=angles: Extension.apply(
                x,
                lambda x: library.forward(x, angles, False),  # noqa: FBT003
                lambda gradient, _out: library.backward(gradient, angles, False)),  # noqa: FBT003
            plain=lambda x, wide=wide: rotate(x, *wide),
        )  # fmt: skip
        yield from measure_operation(
            f"{name} cached", dtype, {"x": x.detach().clone()}, **more,
            fused=lambda x, cos=cos, sin=sin: Extension.apply(
                x,
                lambda x: library.forward_cached(x, cos, sin, False),  # noqa: FBT003
                lambda gradient, _out: library.backward_cached(
                    gradient, cos, sin, False)),  # noqa: FBT003
            plain=lambda x, cos=cos, sin=sin: rotate(x, cos.double(), sin.double()),
        )  # fmt: skip
        ends = torch.tensor([0, 13, 14, 64], dtype=torch.int32, device=x.device)
        places = torch.cat([torch.arange(13), torch.arange(1), torch.arange(50)]).to(x.device)
        yield from measure_operation(
            f"{name} packed", dtype, {"x": draw.normal((64, heads, size), dtype)}, **more,
            fused=lambda x, ends=ends, angles=angles: Extension.apply(
                x,
                lambda x: library.forward_thd(x, ends, angles),
                lambda gradient, _out: library.backward_thd(gradient, ends, angles)),
            plain=lambda x, places=places, wide=wide: rotate(
                x, *(part[places, 0] for part in wide)),
        )  # fmt: skip


# ---------------------------------------------------------------- optimizers

SHAPES = ((1,), (37,), (256, 129), (65536,), (3, 70001))
STEPS = 5


def measure_optimizer(
    name: str,
    dtype: torch.dtype,
    *,
    draw: Draw,
    fused: Callable[[list[torch.Tensor]], torch.optim.Optimizer],
    plain: Callable[[list[torch.Tensor]], torch.optim.Optimizer],
) -> Iterator[Measurement]:
    """Take some steps with both, and compare the parameters at the end."""
    parameters = [draw.normal(shape, dtype).requires_grad_() for shape in SHAPES]
    wanted = [leaf64(parameter) for parameter in parameters]
    optimizers = fused(parameters), plain(wanted)
    for _ in range(STEPS):
        for parameter, reference in zip(parameters, wanted, strict=True):
            parameter.grad = draw.normal(tuple(parameter.shape), dtype)
            reference.grad = parameter.grad.double()
        for optimizer in optimizers:
            optimizer.step()
    for parameter, reference in zip(parameters, wanted, strict=True):
        quantity = f"parameter {'x'.join(map(str, parameter.shape))}"
        allowed = CHAINED[dtype]
        yield measure(name, quantity, parameter, reference, dtype=dtype, epsilons=allowed)


class PlainLamb(torch.optim.Optimizer):
    """LAMB as its paper has it, with the clipping of the whole gradient that apex adds."""

    def __init__(self, parameters: list[torch.Tensor], **settings: float) -> None:
        super().__init__(parameters, settings)
        self.steps = 0

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Take one step with moments 0.9 and 0.999."""
        self.steps += 1
        group = self.param_groups[0]
        norm = torch.sqrt(sum(p.grad.pow(2).sum() for p in group["params"]))
        clip = max(1.0, float(norm) / group["max_grad_norm"])
        for parameter in group["params"]:
            state = self.state[parameter]
            gradient = parameter.grad / clip
            first = 0.9 * state.get("first", 0.0) + 0.1 * gradient
            second = 0.999 * state.get("second", 0.0) + 0.001 * gradient.pow(2)
            state["first"], state["second"] = first, second
            scaled = (second / (1 - 0.999**self.steps)).sqrt() + 1e-6
            update = first / (1 - 0.9**self.steps) / scaled + group["weight_decay"] * parameter
            parameter.sub_(group["lr"] * parameter.norm() / update.norm() * update)


def optimizers(draw: Draw) -> Iterator[Measurement]:
    """Compare Adam, AdamW, SGD and LAMB; LAMB, whose moments are in the dtype, in float32."""
    library = importlib.import_module("apex.optimizers")
    adam = {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    for dtype, is_adam_w in itertools.product(DTYPES, (True, False)):
        plain_adam = torch.optim.AdamW if is_adam_w else torch.optim.Adam
        yield from measure_optimizer(
            "FusedAdam" + (" decoupled" if is_adam_w else ""), dtype, draw=draw,
            fused=lambda p, mode=is_adam_w: library.FusedAdam(p, adam_w_mode=mode, **adam),
            plain=lambda p, plain_adam=plain_adam: plain_adam(p, **adam),
        )  # fmt: skip
    for dtype, nesterov in itertools.product((torch.float16, torch.float32), (True, False)):
        sgd = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": nesterov}
        yield from measure_optimizer(
            "FusedSGD" + (" Nesterov" if nesterov else ""), dtype, draw=draw,
            fused=lambda p, sgd=sgd: library.FusedSGD(p, **sgd),
            plain=lambda p, sgd=sgd: torch.optim.SGD(p, **sgd),
        )  # fmt: skip
    lamb = {"lr": 1e-2, "weight_decay": 0.01, "max_grad_norm": 1.0}
    yield from measure_optimizer(
        "FusedLAMB", torch.float32, draw=draw,
        fused=lambda p: library.FusedLAMB(p, **lamb),
        plain=lambda p: PlainLamb(p, **lamb),
    )  # fmt: skip


def clipping(draw: Draw) -> Iterator[Measurement]:
    """Compare the clipping of gradients of two dtypes by their common norm."""
    library = importlib.import_module("apex.contrib.clip_grad")
    dtypes = (torch.float16, torch.float32, torch.float16)
    parameters = [
        draw.normal((77, 1031), dtype).requires_grad_() for dtype in dtypes
    ]  # fmt: skip
    for parameter in parameters:
        parameter.grad = draw.normal(tuple(parameter.shape), parameter.dtype)
    before = [parameter.grad.double() for parameter in parameters]
    norm = torch.sqrt(sum(gradient.pow(2).sum() for gradient in before))
    found = library.clip_grad_norm_(parameters, 1.0)
    yield measure("clip_grad_norm_", "norm", found.reshape(()), norm, dtype=torch.float32,
                  epsilons=ROUNDED[torch.float32])  # fmt: skip
    for parameter, gradient in zip(parameters, before, strict=True):
        dtype = parameter.dtype
        yield measure("clip_grad_norm_", "gradient", parameter.grad, gradient / (norm + 1e-6),
                      dtype=dtype, epsilons=ROUNDED[dtype])  # fmt: skip


# -------------------------------------------------------------------- losses


def cross_entropies(draw: Draw) -> Iterator[Measurement]:
    """Compare softmax cross entropy with smoothed labels; label 0 is padding and costs nothing."""
    loss = importlib.import_module("apex.contrib.xentropy").SoftmaxCrossEntropyLoss
    for dtype, shape, smoothing in itertools.product(DTYPES, ((74, 1031), (9, 50304)), (0.0, 0.1)):
        x = draw.normal(shape, dtype)
        labels = (draw.uniform(shape[:1], torch.float32) * shape[1]).long().clamp(0, shape[1] - 1)
        labels[::7] = 0

        def plain(
            x: torch.Tensor, labels: torch.Tensor = labels, smoothing: float = smoothing
        ) -> torch.Tensor:
            logarithms = x.log_softmax(-1)
            chosen = logarithms.gather(1, labels[:, None])[:, 0]
            loss = -(1 - smoothing) * chosen - smoothing * logarithms.mean(-1)
            return loss.masked_fill(labels == 0, 0.0)

        def fused(
            x: torch.Tensor, labels: torch.Tensor = labels, smoothing: float = smoothing
        ) -> torch.Tensor:
            return loss.apply(x, labels, smoothing, 0, x.dtype is torch.float16)

        name = f"SoftmaxCrossEntropyLoss {shape[0]}x{shape[1]} smoothing {smoothing}"
        if dtype is torch.bfloat16:
            # losses are float32 always, and backward takes their gradient for float16 inputs only
            out, expected = fused(x), plain(leaf64(x))
            yield measure(name, "forward", out, expected, dtype=dtype, epsilons=CHAINED[out.dtype])
            continue
        yield from measure_operation(
            name, dtype, {"x": x}, draw=draw, epsilons=CHAINED, plain=plain, fused=fused
        )


def focal_losses(draw: Draw) -> Iterator[Measurement]:
    """Compare the focal loss of sigmoids, summed over all samples and classes."""
    loss = importlib.import_module("apex.contrib.focal_loss.focal_loss").focal_loss
    for samples, classes in ((12, 8), (1000, 80)):
        x = draw.normal((samples, classes), torch.float32)
        labels = (draw.uniform((samples,), torch.float32) * classes).long().clamp(0, classes - 1)
        one = torch.ones((), device=x.device)

        def plain(
            x: torch.Tensor, labels: torch.Tensor = labels, classes: int = classes
        ) -> torch.Tensor:
            is_label = functional.one_hot(labels, classes).bool()
            signed = torch.where(is_label, x, -x)
            weight = torch.where(is_label, 0.24, 0.76)
            return -(weight * torch.sigmoid(-signed).pow(2) * functional.logsigmoid(signed)).sum()

        yield from measure_operation(
            f"focal_loss {samples}x{classes}", torch.float32, {"x": x}, draw=draw,
            epsilons=CHAINED, plain=plain,
            fused=lambda x, labels=labels, classes=classes, one=one: loss(
                x, labels, one, classes, 0.24, 2.0).reshape(()),
        )  # fmt: skip


def products(draw: Draw) -> Iterator[Measurement]:
    """Compare the product with chosen rows, and the sum of a transducer's two networks."""
    multiply = importlib.import_module("apex.contrib.index_mul_2d").index_mul_2d
    joint = importlib.import_module("apex.contrib.transducer").TransducerJoint()
    for dtype in (torch.float16, torch.float32):
        inputs = {"x": draw.normal((61, 200), dtype), "y": draw.normal((120, 200), dtype)}
        rows = (draw.uniform((120,), torch.float32) * 61).long().clamp(0, 60)
        yield from measure_operation(
            "index_mul_2d", dtype, inputs, draw=draw, epsilons=CHAINED,
            fused=lambda x, y, rows=rows: multiply(x, y, rows),
            plain=lambda x, y, rows=rows: x[rows] * y,
        )  # fmt: skip
        inputs = {"f": draw.normal((2, 33, 128), dtype), "g": draw.normal((2, 17, 128), dtype)}
        lengths = [
            torch.full((2,), size, dtype=torch.int32, device=inputs["f"].device)
            for size in (33, 17)
        ]
        yield from measure_operation(
            "TransducerJoint", dtype, inputs, draw=draw, epsilons=CHAINED,
            fused=lambda f, g, lengths=lengths: joint(f, g, *lengths),
            plain=lambda f, g: f[:, :, None] + g[:, None],
        )  # fmt: skip


# ----------------------------------------------------------------------- all

GROUPS = (norms, dense_layers, perceptrons, weight_gradients, softmaxes, embeddings, optimizers)
CONTRIB_GROUPS = (
    fast_layer_norms, group_norms, convolutions, cross_entropies, focal_losses, products, clipping,
)  # fmt: skip


def has_contrib() -> bool:
    """Say whether the installed version is one with contrib."""
    return not importlib.metadata.version("apex").startswith(CORE_ONLY)


def run_cases(device: torch.device) -> list[Measurement]:
    """Return the measurements of all groups; what one of them raises is a number out of tolerance.

    So the report tells of the others all the same.
    """
    groups = (*GROUPS, *(CONTRIB_GROUPS if has_contrib() else ()))
    measurements = []
    for seed, group in enumerate(groups):
        try:
            measurements += group(Draw(seed, device))
        except (RuntimeError, SmokeError, TypeError, ValueError) as error:
            measurements.append(
                {
                    "case": group.__name__,
                    "quantity": f"raised {type(error).__name__}: {error}",
                    "dtype": short_name(torch.float32),
                    "relative_error": sys.float_info.max,
                    "tolerance": 0.0,
                }
            )
    return measurements


def import_all() -> None:
    """Import every extension and the modules in front of them."""
    import_functions(CORE | CONTRIB if has_contrib() else CORE)


if __name__ == "__main__":
    sys.exit(run("apex", import_all=import_all, run_cases=run_cases))
