"""Run Megatron-Core layers with the extensions that are installed here, against plain PyTorch.

    python megatron_layers.py --json OUT [CASE...]

Each case is a layer as Megatron-Core builds it, run forward and backward in bfloat16. The same
layer in plain PyTorch is computed twice from the same values: in float64, which is the reference,
and in bfloat16, which tells how far rounding alone leads. A number is within tolerance when it is
at most ``SLACK`` times as far off as plain bfloat16, or ``LEAST`` epsilons. The functions of the
extensions that a case is there for are counted; one that was not called makes the case fail.

It needs one GPU, megatron-core, what the cases use, and ``recipes/`` on the module path; it leaves
1 when a case fails.
"""

# ruff: noqa: PLC0415 - versions are shown otherwise before Megatron-Core is imported

from __future__ import annotations

import argparse
import functools
import importlib
import importlib.metadata
import math
import os
import sys
import tempfile
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from packaging.version import Version
from smoking import (
    Draw,
    Measurement,
    SmokeError,
    find_gpu,
    measure,
    refuse_errors,
    short_name,
    write_report,
)
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    Weights = dict[str, torch.Tensor]
    Plain = Callable[[torch.Tensor, Weights, torch.nn.Module], torch.Tensor]

LENGTH, BATCH, WIDTH, HEADS = 256, 4, 1024, 16
EXPERTS, EXPERT_WIDTH, CHOSEN = 8, 512, 2
STATE, STATE_HEAD, GROUPS = 128, 64, 8
SLACK = 3.0
LEAST = 2.0

DISTRIBUTIONS = (
    "apex",
    "causal-conv1d",
    "fast-hadamard-transform",
    "flash-attn",
    "mamba-ssm",
    "megatron-core",
    "nv-grouped-gemm",
    "torch",
    "transformer-engine-torch",
)


@dataclass(frozen=True)
class Case:
    """One layer: how it is built, what it is equal to, and what it has to call."""

    build: Callable[[], torch.nn.Module]
    plain: Plain
    calls: Mapping[str, tuple[str, ...]]
    names: Mapping[str, str] = field(default_factory=dict)
    """The layer's own names of parameters, by those of the plain layer."""


def main() -> int:
    """Run the cases that were asked for, all by default."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, metavar="OUT", dest="json_path")
    parser.add_argument("cases", nargs="*", metavar="CASE", default=[*CASES])
    options = parser.parse_args()
    device = find_gpu()
    versions = {name: _version(name) for name in DISTRIBUTIONS}
    _show_flash_attention_as_known()
    with tempfile.TemporaryDirectory() as folder:
        _start(Path(folder))
        failed = 0
        measurements: list[Measurement] = []
        for name in options.cases:
            try:
                found = run_case(name, CASES[name], device)
                measurements += found
                refuse_errors(found)
            except Exception:  # noqa: BLE001  a case says nothing of the others
                failed += 1
                print(f"{name}: failed", file=sys.stderr)
                traceback.print_exc()
            else:
                worst = max(float(str(each["relative_error"])) for each in found)
                print(f"{name}: {len(found)} numbers within tolerance, largest error {worst:.2g}")
        write_report(options.json_path, "ran-on-gpu", device, measurements)
        torch.distributed.destroy_process_group()
    for name, version in versions.items():
        print(f"  {name} {version}")
    return 1 if failed else 0


def run_case(name: str, case: Case, device: torch.device) -> list[Measurement]:
    """Run one layer forward and backward, and the two plain ones beside it."""
    torch.manual_seed(1)
    draw = Draw(sum(map(ord, name)), device)
    layer = case.build().to(device)
    parameters = _named(layer, case.names)
    for parameter_name, parameter in parameters.items():
        _fill(parameter_name, parameter, draw)
    x = draw.normal((LENGTH, BATCH, WIDTH), torch.bfloat16).requires_grad_()
    dy = draw.normal((LENGTH, BATCH, WIDTH), torch.bfloat16)

    calls = _watch(case.calls)
    result = layer(x, attention_mask=None)
    out = result[0] if isinstance(result, tuple) else result
    out.backward(dy)
    silent = sorted(called for called, count in calls.items() if not count)
    if silent:
        msg = f"{name}: never called {', '.join(silent)}"
        raise SmokeError(msg)

    actual = {"output": out, "input gradient": x.grad}
    for parameter_name, parameter in parameters.items():
        rest = 0 if parameter.grad is None else parameter.grad
        actual[f"gradient of {parameter_name}"] = parameter.main_grad + rest
    exact = _differentiate(case.plain, layer, x, dy, parameters, torch.float64)
    rounded = _differentiate(case.plain, layer, x, dy, parameters, torch.bfloat16)
    return [
        {
            "case": name,
            "quantity": quantity,
            "dtype": short_name(torch.bfloat16),
            "relative_error": _off(actual[quantity], expected),
            "tolerance": max(
                SLACK * _off(rounded[quantity], expected), LEAST * torch.finfo(torch.bfloat16).eps
            ),
        }
        for quantity, expected in exact.items()
    ]


def gpt(x: torch.Tensor, weights: Weights, layer: torch.nn.Module) -> torch.Tensor:
    """Return what a dense layer gives: causal attention, then two products around a GELU."""
    x = _attend(x, weights)
    inner = _linear(_norm(x, weights, "norm2"), weights, "fc1")
    return x + _linear(functional.gelu(inner), weights, "fc2")


def experts(x: torch.Tensor, weights: Weights, layer: torch.nn.Module) -> torch.Tensor:
    """Return what a layer of experts gives, for the experts that the layer itself has chosen."""
    x = _attend(x, weights)
    tokens = _norm(x, weights, "norm2").reshape(-1, WIDTH)
    logits = functional.linear(tokens, weights["router"])
    chosen: torch.Tensor = layer.chosen  # type: ignore[assignment]
    shares = logits.masked_fill(~chosen, -math.inf).softmax(-1)
    first = weights["experts1"].view(EXPERTS, WIDTH, EXPERT_WIDTH)
    second = weights["experts2"].view(EXPERTS, EXPERT_WIDTH, WIDTH)
    inner = functional.gelu(torch.einsum("tw,ewf->etf", tokens, first))
    each = torch.einsum("etf,efw->etw", inner * shares.T[..., None], second)
    return x + each.sum(0).view_as(x)


def state_space(x: torch.Tensor, weights: Weights, layer: torch.nn.Module) -> torch.Tensor:
    """Return what a Mamba-2 layer gives; its recurrence is never rounded to less than float32."""
    inner_width = 2 * WIDTH
    heads = inner_width // STATE_HEAD
    projected = functional.linear(_norm(x, weights, "norm1"), weights["in_proj.weight"])
    gate, mixed, steps = projected.split([inner_width, inner_width + 2 * GROUPS * STATE, heads], -1)
    channels = mixed.shape[-1]
    padded = functional.pad(mixed.permute(1, 2, 0), (weights["conv.weight"].shape[-1] - 1, 0))
    convolved = functional.silu(
        functional.conv1d(
            padded, weights["conv.weight"], weights["conv.bias"], groups=channels
        ).permute(2, 0, 1)
    )
    wide = torch.promote_types(x.dtype, torch.float32)
    values, keys, queries = convolved.to(wide).split(
        [inner_width, GROUPS * STATE, GROUPS * STATE], -1
    )
    values = values.view(LENGTH, BATCH, heads, STATE_HEAD)
    keys, queries = (
        each.view(LENGTH, BATCH, GROUPS, STATE).repeat_interleave(heads // GROUPS, 2)
        for each in (keys, queries)
    )
    steps = functional.softplus(steps.to(wide) + weights["dt_bias"].to(wide))
    kept = torch.exp(-steps * torch.exp(weights["A_log"].to(wide)))
    state = values.new_zeros(BATCH, heads, STATE_HEAD, STATE)
    outputs = []
    for now in range(LENGTH):
        added = torch.einsum("bhp,bhn->bhpn", values[now] * steps[now][..., None], keys[now])
        state = state * kept[now][..., None, None] + added
        outputs.append(torch.einsum("bhpn,bhn->bhp", state, queries[now]))
    y = torch.stack(outputs) + values * weights["D"].to(wide)[:, None]
    gated = y.reshape(LENGTH, BATCH, inner_width).to(x.dtype).to(wide) * functional.silu(
        gate.to(wide)
    )
    grouped = gated.view(LENGTH, BATCH, GROUPS, -1)
    scaled = grouped * torch.rsqrt(grouped.square().mean(-1, keepdim=True) + 1e-5)
    normed = (scaled.view_as(gated) * weights["gated_norm.weight"].to(wide)).to(x.dtype)
    return x + functional.linear(normed, weights["out_proj.weight"])


def _attend(x: torch.Tensor, weights: Weights) -> torch.Tensor:
    width = WIDTH // HEADS
    heads = _linear(_norm(x, weights, "norm1"), weights, "qkv").view(LENGTH, BATCH, HEADS, 3, width)
    queries, keys, values = heads.unbind(3)
    scores = torch.einsum("sbhd,tbhd->bhst", queries, keys) / math.sqrt(width)
    later = torch.ones(LENGTH, LENGTH, dtype=torch.bool, device=x.device).triu(1)
    shares = scores.masked_fill(later, -math.inf).softmax(-1)
    mixed = torch.einsum("bhst,tbhd->sbhd", shares, values).reshape(LENGTH, BATCH, WIDTH)
    return x + _linear(mixed, weights, "proj")


def _linear(x: torch.Tensor, weights: Weights, name: str) -> torch.Tensor:
    return functional.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def _norm(x: torch.Tensor, weights: Weights, name: str) -> torch.Tensor:
    return functional.layer_norm(
        x, (WIDTH,), weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-5
    )


def _differentiate(
    plain: Plain,
    layer: torch.nn.Module,
    x: torch.Tensor,
    dy: torch.Tensor,
    parameters: Weights,
    dtype: torch.dtype,
) -> Weights:
    def leaf(tensor: torch.Tensor) -> torch.Tensor:
        # what the layer keeps in float32 is no worse in the plain one
        wanted = (
            dtype if tensor.dtype is torch.bfloat16 else torch.promote_types(dtype, torch.float32)
        )
        return tensor.detach().to(wanted).requires_grad_()

    leaves = {name: leaf(parameter) for name, parameter in parameters.items()}
    start = leaf(x)
    if "router" in leaves and dtype is torch.bfloat16:
        leaves["router"] = parameters["router"].detach().clone().requires_grad_()
    out = plain(start, leaves, layer)
    out.backward(dy.to(out.dtype))
    found = {"output": out, "input gradient": start.grad}
    return found | {f"gradient of {name}": each.grad for name, each in leaves.items()}


def _off(actual: torch.Tensor, expected: torch.Tensor) -> float:
    found = measure("", "", actual, expected, dtype=torch.bfloat16, epsilons=0)
    return float(str(found["relative_error"]))


def _named(layer: torch.nn.Module, names: Mapping[str, str]) -> dict[str, torch.nn.Parameter]:
    """Return the parameters by the plain layer's names, each with a float32 gradient to add to."""
    own = dict(layer.named_parameters())
    if set(own) != set(names.values()):
        msg = f"the layer has {sorted(own)}, not {sorted(names.values())}"
        raise SmokeError(msg)
    for parameter in own.values():
        parameter.main_grad = torch.zeros_like(parameter, dtype=torch.float32)
    return {name: own[own_name] for name, own_name in names.items()}


def _fill(name: str, parameter: torch.nn.Parameter, draw: Draw) -> None:
    """Give a parameter values that a trained layer could have: none is left at 0 or 1."""
    if name in {"A_log", "dt_bias"}:
        return
    shape = tuple(parameter.shape)
    values = draw.normal(shape, torch.float64)
    if name == "D" or (name.startswith(("norm", "gated_norm")) and name.endswith("weight")):
        values = 1 + values / 10
    elif len(shape) == 1:
        values = values / 10
    else:
        values = values / math.sqrt(WIDTH if len(shape) == 2 else shape[-1])
    with torch.no_grad():
        parameter.copy_(values)


def _watch(calls: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    """Count the calls of functions of extension modules from here on."""
    counts: dict[str, int] = {}
    for module_name, functions in calls.items():
        module = importlib.import_module(module_name)
        for function in functions:
            counts[f"{module_name}.{function}"] = 0
            _count(module, function, counts, f"{module_name}.{function}")
    return counts


def _count(module: ModuleType, function: str, counts: dict[str, int], key: str) -> None:
    original = getattr(module, function)
    original = getattr(original, "__wrapped__", original)

    @functools.wraps(original)
    def counted(*arguments: object, **options: object) -> object:
        counts[key] += 1
        return original(*arguments, **options)

    counted.__wrapped__ = original  # type: ignore[attr-defined]
    setattr(module, function, counted)


def _start(folder: Path) -> None:
    from megatron.core import parallel_state
    from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed

    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "1")
    torch.cuda.set_device(0)
    store = torch.distributed.FileStore(str(folder / "store"), 1)
    torch.distributed.init_process_group("nccl", store=store, rank=0, world_size=1)
    parallel_state.initialize_model_parallel()
    model_parallel_cuda_manual_seed(1)


def _config(**more: object) -> object:
    from megatron.core.transformer import TransformerConfig

    return TransformerConfig(
        num_layers=1,
        hidden_size=WIDTH,
        ffn_hidden_size=4 * WIDTH,
        num_attention_heads=HEADS,
        bf16=True,
        params_dtype=torch.bfloat16,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        gradient_accumulation_fusion=True,
        masked_softmax_fusion=True,
        **more,
    )


def _build_fused(backend: str) -> torch.nn.Module:
    """Return Transformer Engine's layer; ``backend`` is what computes attention."""
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_with_transformer_engine_spec
    from megatron.core.transformer.spec_utils import build_module

    flash = backend == "flash"
    attention = importlib.import_module(
        "transformer_engine.pytorch.attention.dot_product_attention.dot_product_attention"
    )
    attention._attention_backends["backend_selection_requires_update"] = True
    os.environ["NVTE_FLASH_ATTN"] = "1" if flash else "0"
    os.environ["NVTE_FUSED_ATTN"] = "0" if flash else "1"
    os.environ["NVTE_UNFUSED_ATTN"] = "0"
    return build_module(get_gpt_layer_with_transformer_engine_spec(), config=_config())


def _show_flash_attention_as_known() -> None:
    """Let Transformer Engine use the flash-attn that is here, though it is newer than it knows.

    It compares the version of the distribution with the newest it was tried with, ``2.8.3`` for
    2.11.0, and a post release or a local version is greater.
    """
    original = importlib.metadata.version

    def version(name: str) -> str:
        found = original(name)
        return Version(found).base_version if name == "flash-attn" else found

    importlib.metadata.version = version


def _build_local(**more: object) -> torch.nn.Module:
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.transformer.spec_utils import build_module

    spec = get_gpt_layer_local_spec(
        num_experts=more.get("num_moe_experts"), moe_grouped_gemm="num_moe_experts" in more
    )
    return build_module(spec, config=_config(**more))


def _build_experts() -> torch.nn.Module:
    layer = _build_local(
        num_moe_experts=EXPERTS,
        moe_grouped_gemm=True,
        moe_use_legacy_grouped_gemm=True,
        moe_ffn_hidden_size=EXPERT_WIDTH,
        moe_router_topk=CHOSEN,
        moe_router_dtype="fp32",
        moe_router_load_balancing_type="none",
        moe_token_dispatcher_type="alltoall",  # noqa: S106
        add_bias_linear=False,
    )

    def keep(_router: object, _inputs: object, routed: tuple[torch.Tensor, torch.Tensor]) -> None:
        layer.chosen = routed[1]

    layer.mlp.router.register_forward_hook(keep)
    return layer


def _build_state_space() -> torch.nn.Module:
    from megatron.core.models.mamba.mamba_layer_specs import mamba_stack_spec
    from megatron.core.process_groups_config import ProcessGroupCollection
    from megatron.core.transformer.spec_utils import build_module

    return build_module(
        mamba_stack_spec.submodules.mamba_layer,
        config=_config(mamba_state_dim=STATE, mamba_head_dim=STATE_HEAD, mamba_num_groups=GROUPS),
        pg_collection=ProcessGroupCollection.use_mpu_process_groups(),
    )


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "is not here"


_ATTENTION = {
    "qkv.weight": "self_attention.linear_qkv.weight",
    "proj.weight": "self_attention.linear_proj.weight",
}
_BIASES = {
    "qkv.bias": "self_attention.linear_qkv.bias",
    "proj.bias": "self_attention.linear_proj.bias",
    "fc1.bias": "mlp.linear_fc1.bias",
    "fc2.bias": "mlp.linear_fc2.bias",
}
_DENSE = {"fc1.weight": "mlp.linear_fc1.weight", "fc2.weight": "mlp.linear_fc2.weight"}
_LOCAL_NORMS = {
    "norm1.weight": "input_layernorm.weight",
    "norm1.bias": "input_layernorm.bias",
    "norm2.weight": "pre_mlp_layernorm.weight",
    "norm2.bias": "pre_mlp_layernorm.bias",
}
_FUSED_NORMS = {
    "norm1.weight": "self_attention.linear_qkv.layer_norm_weight",
    "norm1.bias": "self_attention.linear_qkv.layer_norm_bias",
    "norm2.weight": "mlp.linear_fc1.layer_norm_weight",
    "norm2.bias": "mlp.linear_fc1.layer_norm_bias",
}
_FUSED = {**_ATTENTION, **_BIASES, **_DENSE, **_FUSED_NORMS}
_TRANSFORMER_ENGINE = {"transformer_engine_torch": ("generic_gemm",)}
_CUDNN = {
    "transformer_engine_torch": (
        *_TRANSFORMER_ENGINE["transformer_engine_torch"],
        "fused_attn_fwd",
        "fused_attn_bwd",
    )
}
_APEX = {
    "fused_weight_gradient_mlp_cuda": ("wgrad_gemm_accum_fp32",),
    "scaled_upper_triang_masked_softmax_cuda": ("forward", "backward"),
}

CASES = {
    "transformer-engine, cuDNN attention": Case(
        build=lambda: _build_fused("cudnn"), plain=gpt, calls=_CUDNN, names=_FUSED
    ),
    "transformer-engine, flash-attn": Case(
        build=lambda: _build_fused("flash"),
        plain=gpt,
        calls=_TRANSFORMER_ENGINE | {"flash_attn_2_cuda": ("fwd", "bwd")},
        names=_FUSED,
    ),
    "apex": Case(
        build=_build_local,
        plain=gpt,
        calls=_APEX | {"fused_layer_norm_cuda": ("forward_affine", "backward_affine")},
        names={**_ATTENTION, **_BIASES, **_DENSE, **_LOCAL_NORMS},
    ),
    "apex, persistent norm": Case(
        build=lambda: _build_local(persist_layer_norm=True),
        plain=gpt,
        calls=_APEX | {"fast_layer_norm": ("ln_fwd", "ln_bwd")},
        names={**_ATTENTION, **_BIASES, **_DENSE, **_LOCAL_NORMS},
    ),
    "apex, nv-grouped-gemm": Case(
        build=_build_experts,
        plain=experts,
        calls=_APEX | {"grouped_gemm_backend": ("gmm",)},
        names={
            **_ATTENTION,
            **_LOCAL_NORMS,
            "router": "mlp.router.weight",
            "experts1": "mlp.experts.weight1",
            "experts2": "mlp.experts.weight2",
        },
    ),
    "mamba-ssm, causal-conv1d": Case(
        build=_build_state_space,
        plain=state_space,
        calls={"causal_conv1d_cuda": ("causal_conv1d_fwd", "causal_conv1d_bwd")},
        names={
            "norm1.weight": "mixer.in_proj.layer_norm_weight",
            "norm1.bias": "mixer.in_proj.layer_norm_bias",
            "in_proj.weight": "mixer.in_proj.weight",
            "conv.weight": "mixer.conv1d.weight",
            "conv.bias": "mixer.conv1d.bias",
            "dt_bias": "mixer.dt_bias",
            "A_log": "mixer.A_log",
            "D": "mixer.D",
            "gated_norm.weight": "mixer.norm.weight",
            "out_proj.weight": "mixer.out_proj.weight",
        },
    ),
}


if __name__ == "__main__":
    sys.exit(main())
