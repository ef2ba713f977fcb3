# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Faster forwards for CPUs, of plain modules that stay as they are written.

A kernel is a function `(module, input) -> output` without state. `cpu_forward` puts it beside a module's plain
`forward`; each call takes the kernel where `CpuForward.suits` allows it, and the plain forward otherwise. A kernel
gives the plain forward's numbers up to rounding and the plain output's layout in memory, and writes only to memory
that it took itself: what others hold on to, such as hooks on other modules, keeps its values.

Off are all kernels, attention's included, under `use_cpu_kernels(False)`, and in processes that start with
`FASTVLM_CPU_KERNELS=0` in their environment.

Feature maps are `(batch, channels, height, width)` tensors, channels-last in memory.
"""

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import _has_any_global_hook
from transformers.activations import GELUActivation
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

Kernel = Callable[[Any, torch.Tensor], Any]
Module = TypeVar("Module", bound=nn.Module)

ATTENTION = "fastvlm_cpu"  # the name in `config._attn_implementation`

# Positions of a feature map that are worked on at once. Fresh memory of tens of megabytes costs more to get from the
# system than to compute on; parts of this size are handed out again and again.
POSITIONS_AT_ONCE = 2048
PIXELS_AT_ONCE = 512 * 512  # of one image of a batch, above which memory traffic decides
_STEM_STRIDE = 4
_SCORES_AT_ONCE = 6 * 2**20  # 12 MiB in bfloat16, which stay in the last cache between the two products
_CAUSAL_QUERIES_AT_ONCE = 128  # the fewer, the less is computed above the diagonal

_OFF = ("0", "false", "no", "off")


def _allowed_by(environment: Mapping[str, str]) -> bool:
    return environment.get("FASTVLM_CPU_KERNELS", "1").strip().lower() not in _OFF


_AT_FIRST = _allowed_by(os.environ)
_enabled = ContextVar("cpu_kernels", default=_AT_FIRST)


@contextmanager
def use_cpu_kernels(enabled: bool) -> Iterator[None]:
    """Whether forward passes of this thread take kernels; without this, they do unless the environment forbids it."""
    before = _enabled.set(enabled)
    try:
        yield
    finally:
        _enabled.reset(before)


@dataclass(frozen=True)
class CpuForward:
    """
    A kernel beside the method that it may take the place of.

    Args:
        method: its name. It takes one tensor. Where it is not `forward`, hooks on the module itself are around it and
            do not matter, and the tensor may have another dtype than the weights.
        plain: the method as it is written.
        kernel: from the module and the tensor to the same, up to rounding.
        applies: from the same arguments, whether the kernel is of use; asked before what takes longer to find out.
    """

    method: str
    plain: Kernel
    kernel: Kernel
    applies: Callable[[Any, torch.Tensor], bool]

    def suits(self, module: nn.Module, *given: Any, **named: Any) -> bool:
        """Whether a call of the method takes the kernel."""
        if named or len(given) != 1 or not (_nobody_looks_on(given[0]) and self.applies(module, given[0])):
            return False
        if self.method != "forward":
            return all(_is_as_built(child) for child in module.children())
        return KERNELS.get(type(module)) is self and _is_as_built(module, given[0].dtype)


KERNELS: dict[type[nn.Module], CpuForward] = {}  # by the class that has the method


def cpu_forward(
    kernel: Kernel, method: str = "forward", applies: Callable[[Any, torch.Tensor], bool] = lambda module, given: True
) -> Callable[[type[Module]], type[Module]]:
    """Decorate a module's class with a kernel for a method, as `CpuForward` describes it.

    Its subclasses' `forward` does without.
    """

    def decorate(cls: type[Module]) -> type[Module]:
        fast = KERNELS[cls] = CpuForward(method, getattr(cls, method), kernel, applies)

        @functools.wraps(fast.plain)
        def dispatch(self: Any, *given: Any, **named: Any) -> Any:
            if fast.suits(self, *given, **named):
                return kernel(self, *given)
            return fast.plain(self, *given, **named)

        setattr(cls, method, dispatch)
        return cls

    return decorate


def mark_as_built(*modules: nn.Module) -> None:
    """Note on modules that they are what the model was built of; what takes their place later is not."""
    for module in modules:
        module.built_as = _make(module)  # type: ignore[assignment]


def _make(module: nn.Module) -> tuple:
    """What a module is: adapters, quantized layers, parametrizations and flattened weights change it."""
    return type(module), *module._parameters


def _nobody_looks_on(given: Any) -> bool:
    """Whether kernels may take a tensor: on a CPU, wanted by no gradient, compiler, tracer or exporter."""
    return (
        not torch.compiler.is_compiling()  # asked first: whoever compiles follows no further
        and _enabled.get()
        and type(given) is torch.Tensor
        and given.device.type == "cpu"
        and not (torch.is_grad_enabled() and given.requires_grad)
        and not torch.jit.is_tracing()
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
        and not torch.is_autocast_enabled("cpu")  # chooses dtypes operation by operation
        and not _has_any_global_hook()
    )


def _is_as_built(module: nn.Module, dtype: torch.dtype | None = None) -> bool:
    """Whether a module and all inside it are what the model was built of, without hooks, and want no gradients.

    Args:
        dtype: of all weights, if given.
    """
    state = module.__dict__
    if (
        state.get("built_as") != _make(module)
        or "forward" in state  # of offloading hooks
        or state["_forward_hooks"]
        or state["_forward_pre_hooks"]
        or state["_backward_hooks"]
        or state["_backward_pre_hooks"]
        or (module.training and isinstance(module, _BatchNorm))  # takes and keeps statistics
    ):
        return False
    trains = torch.is_grad_enabled()
    for weight in state["_parameters"].values():
        if weight is not None and not (
            type(weight) is nn.Parameter
            and weight.device.type == "cpu"
            and (dtype is None or weight.dtype == dtype)
            and not (trains and weight.requires_grad)
        ):
            return False
    return all(child is None or _is_as_built(child, dtype) for child in state["_modules"].values())


def _forward(module: nn.Module, hidden_states: torch.Tensor) -> Any:
    """A call of a module that suits, since the one around it does."""
    fast = KERNELS.get(type(module))
    if fast is None or not fast.applies(module, hidden_states):
        return module(hidden_states)
    return fast.kernel(module, hidden_states)


def keep_freed_memory() -> None:
    """Keep the C library from giving memory back to the system that the next layer needs again, in this process.

    Getting it anew can cost half of an encoder's time. glibc keeps up to twice as much as the largest block, of at
    most 32 MiB, that it has seen freed; this shows it one, which nothing is written to. Once is enough.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8, device="cpu")


def runs_elsewhere_or_in_turn(module: Any, pixel_values: torch.Tensor) -> bool:
    """Whether an encoder has a `runtime`, or images, such as the tiles of one, that are better encoded in turn."""
    large = len(pixel_values) > 1 and pixel_values[0, 0].numel() > PIXELS_AT_ONCE
    return not module.training and (module.runtime is not None or large)


def encoder_features(module: Any, pixel_values: torch.Tensor) -> torch.Tensor:
    """`features` of an encoder by its `runtime`, which may decline, or else large images one after the other."""
    features = module.runtime(pixel_values) if module.runtime is not None else None
    if features is not None:
        return features
    if pixel_values[0, 0].numel() <= PIXELS_AT_ONCE:
        return module.pytorch_features(pixel_values)
    return torch.cat([module.pytorch_features(image) for image in pixel_values.split(1)])


def stem_in_strips(module: Any, pixel_values: torch.Tensor) -> torch.Tensor:
    """The stem, strip by strip of an image, since its first convolution's output is far larger than its last's.

    A strip has one row more at its top, for the convolutions to look back at; what comes of that row is dropped.
    """
    batch, _, height, width = pixel_values.shape
    rows_out, columns_out = -(-height // _STEM_STRIDE), -(-width // _STEM_STRIDE)
    rows = max(1, 2 * POSITIONS_AT_ONCE // columns_out)
    shape = batch, module[-1].geometry["out_channels"], rows_out, columns_out
    output = torch.empty(shape, dtype=pixel_values.dtype, device="cpu", memory_format=torch.channels_last)
    for image, result in zip(pixel_values.split(1), output.split(1)):
        for top in range(0, rows_out, rows):
            first = max(top - 1, 0)
            strip = image[:, :, _STEM_STRIDE * first : _STEM_STRIDE * (top + rows)]
            strip = strip.contiguous(memory_format=torch.channels_last)
            for block in module:
                strip = _forward(block, strip)
            result[:, :, top : top + rows] = strip[:, :, top - first :]
    return output


def conv_norm(module: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    """Convolution and batch norm, folded anew at each call: the weights are far smaller than the feature map."""
    kernel, bias = module.branch()
    dtype = hidden_states.dtype
    return module.conv._conv_forward(hidden_states, kernel.to(dtype), bias.to(dtype))


def activated_conv(module: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    """A convolution, squeeze-excite and an activation, this in place."""
    return _activate(module.activation, module.squeeze_excite(module.linear(hidden_states)))


def is_float32(module: Any, hidden_states: torch.Tensor) -> bool:
    """Whether oneDNN's matrix product is the faster one, as it is where PyTorch takes MKL."""
    return hidden_states.dtype == torch.float32 and torch.backends.mkldnn.is_available()


def pointwise_linear(module: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    """A 1x1 convolution as a matrix product of oneDNN; MKL leaves half of other makers' processors' speed unused."""
    tokens = hidden_states.permute(0, 2, 3, 1)  # (batch, height, width, channels)
    weight = module.weight.flatten(1)
    return torch.ops.mkldnn._linear_pointwise(tokens, weight, module.bias, "none", [], "").permute(0, 3, 1, 2)


def conv_feed_forward(module: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    """The depthwise convolution, then the pointwise layers part by part in the place of its output."""

    def pointwise(part: torch.Tensor) -> torch.Tensor:
        return _forward(module.fc2, _activate(module.activation, _forward(module.fc1, part)))

    return _in_parts(pointwise, _forward(module.depthwise, hidden_states))


def is_sdpa(module: Any, hidden_states: torch.Tensor) -> bool:
    """Whether an attention layer would take transformers' "sdpa", which `ATTENTION` is a faster form of."""
    return module.config._attn_implementation == "sdpa"


def self_attention(module: Any, hidden_states: torch.Tensor) -> Any:
    """An attention layer with `ATTENTION` in the place of "sdpa"."""
    return module.attend(hidden_states, ALL_ATTENTION_FUNCTIONS[ATTENTION])


def convolution_block(module: Any, hidden_states: torch.Tensor) -> tuple[torch.Tensor, None]:
    """A token mixer and a residual branch, added up in the place of the branch."""
    hidden_states = module.token_mixer(hidden_states)
    update = module.drop_path(_forward(module.feed_forward, hidden_states))
    return _add_scaled(hidden_states, module.layer_scale, update), None


def attention_block(module: Any, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Two residual branches, added up in the places of the branches."""
    attended, weights = module.attend(hidden_states)
    hidden_states = _add_scaled(hidden_states, module.layer_scale_1, module.drop_path(attended))
    update = module.drop_path(_forward(module.feed_forward, hidden_states))
    return _add_scaled(hidden_states, module.layer_scale_2, update), weights


def _add_scaled(hidden_states: torch.Tensor, scale: torch.Tensor, update: torch.Tensor) -> torch.Tensor:
    """`hidden_states + scale * update` in the place of `update`."""
    return torch.addcmul(hidden_states, scale, update, out=update)


def _activate(activation: nn.Module, hidden_states: torch.Tensor) -> torch.Tensor:
    """Apply an elementwise function in place, to a feature map seen as the contiguous tensor it is in memory.

    PyTorch's kernels take half as long on that.
    """
    if type(activation) is GELUActivation:
        torch.ops.aten.gelu_(hidden_states.permute(0, 2, 3, 1))
        return hidden_states
    return _in_parts(lambda part: activation(part.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), hidden_states)


def _in_parts(function: Callable[[torch.Tensor], torch.Tensor], hidden_states: torch.Tensor) -> torch.Tensor:
    """Apply a function that works on each position by itself, part by part and in place where a map is large.

    Args:
        function: from `(batch, channels, height, width)` feature maps to such with as many channels.
        hidden_states: a feature map that may be written to.
    """
    batch, channels, height, width = hidden_states.shape
    large = batch * height * width > POSITIONS_AT_ONCE
    if not (large and hidden_states.is_contiguous(memory_format=torch.channels_last)):
        return function(hidden_states)
    # All images of the batch below each other, (1, channels, batch * height, width).
    rows = hidden_states.permute(0, 2, 3, 1).view(1, batch * height, width, channels).permute(0, 3, 1, 2)
    for part in rows.split(max(1, POSITIONS_AT_ONCE // width), dim=2):
        part.copy_(function(part))
    return hidden_states


def cpu_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' "sdpa", and where no mask is needed and it is faster, the same by `cpu_attention`.

    That is an encoder's attention, and a decoder's over one prompt or several equally long ones and after it. Softmax
    attention as products of blocks takes about half the time of PyTorch's CPU kernel in bfloat16, and a tenth of it
    for the single query of decoding over many keys; in float32 that kernel is faster.
    """
    tokens, keys = query.shape[2], key.shape[2]
    if attention_mask is None and not dropout and tokens in (1, keys) and suits_cpu_attention(query, key, value):
        causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        return cpu_attention(query, key, value, scaling, is_causal=causal and tokens > 1), None
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **kwargs
    )


AttentionInterface.register(ATTENTION, cpu_attention_forward)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def suits_cpu_attention(*tensors: torch.Tensor) -> bool:
    """Whether `cpu_attention` can take the place of PyTorch's kernel for queries, keys and values, and is faster."""
    return all(_nobody_looks_on(tensor) and tensor.dtype == torch.bfloat16 for tensor in tensors)


def cpu_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, is_causal: bool = False
) -> torch.Tensor:
    """
    Softmax attention without a mask or gradients; rounds as `(query @ key.T).softmax(-1) @ value` does.

    Args:
        query: `(batch, heads, tokens, head_dim)`.
        key: `(batch, key_heads, keys, head_dim)`; each head serves `heads / key_heads` neighbouring heads of `query`.
        value: as `key`.
        scaling: of the products.
        is_causal: each query sees the keys up to its own position; `tokens` and `keys` are equal then.

    Returns:
        `(batch, tokens, heads, head_dim)`.
    """
    batch, heads, tokens, head_dim = query.shape
    key_heads, keys = key.shape[1:3]
    group = heads // key_heads
    rows = min(tokens, _CAUSAL_QUERIES_AT_ONCE if is_causal else max(1, _SCORES_AT_ONCE // (group * keys)))
    heads_at_once = max(1, _SCORES_AT_ONCE // (group * rows * keys))
    queries = query.unflatten(1, (key_heads, group))
    output = query.new_empty(batch, tokens, key_heads, group, head_dim)
    for image in range(batch):
        for head in range(0, key_heads, heads_at_once):
            here = slice(head, head + heads_at_once)
            blocks = queries[image, here], key[image, here], value[image, here]
            _attend(*blocks, output[image, :, here].permute(1, 2, 0, 3), rows, scaling, is_causal)
    return output.view(batch, tokens, heads, head_dim)


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    rows: int,
    scaling: float,
    is_causal: bool,
) -> None:
    """Write to `output` what `(key_heads, group, tokens, head_dim)` queries find, `rows` of them at a time."""
    heads, group, tokens, head_dim = query.shape
    keys = key.transpose(1, 2)  # (key_heads, head_dim, keys)
    memory = query.new_empty(heads * group * rows * keys.shape[2])
    for start in range(0, tokens, rows):
        end = min(start + rows, tokens)
        seen = end if is_causal else keys.shape[2]
        block = query[:, :, start:end].reshape(heads, -1, head_dim)
        scores = memory[: heads * block.shape[1] * seen].view(heads, -1, seen)
        torch.baddbmm(scores, block, keys[:, :, :seen], beta=0, alpha=scaling, out=scores)
        if is_causal:
            later = query.new_full((end - start, end - start), float("-inf")).triu_(1)
            scores.view(heads, group, -1, seen)[..., start:].add_(later)
        torch.softmax(scores, -1, out=scores)
        output[:, :, start:end] = torch.bmm(scores, value[:, :seen]).view(heads, group, -1, head_dim)
