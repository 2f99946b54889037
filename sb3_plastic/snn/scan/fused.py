"""The fused form of the plastic scan for the CPU: one compiled call per layer, forward and backward.

The kernels are in :mod:`sb3_plastic.snn.scan.kernels`; here is what surrounds them: which layers they serve, the memory
that they work in, and autograd.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sb3_plastic.errors import check_choice
from sb3_plastic.snn.rules import RULES
from sb3_plastic.snn.scan import kernels, kernels_backward, kernels_static, memory
from sb3_plastic.snn.scan.functions import FLOATS, rule_addresses, surrogate_address
from sb3_plastic.snn.scan.layout import NAMES, Layout, layout
from sb3_plastic.snn.scan.plans import backward_plan, forward_plan, segments, uneven_parameters
from sb3_plastic.snn.scan.reference import plastic_scan_reference
from sb3_plastic.snn.scan.threads import run, threads_for
from sb3_plastic.snn.scan.types import LayerConfig, LayerParameters
from sb3_plastic.snn.state import LayerState

BACKENDS = ("auto", "reference", "fused")
NUMBERS: dict[torch.dtype, Any] = {torch.float32: np.float32, torch.float64: np.float64}
MODULATION = {
    "none": kernels.MODULATION_NONE,
    "simple": kernels.MODULATION_SIMPLE,
    "retroactive": kernels.MODULATION_RETROACTIVE,
}

GROUPS = 16
"""Rows share the sums of their parameters' gradients in so many groups, whatever the number of threads."""


def refusal(config: LayerConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    """
    :param config: what kind of layer it is
    :param device: where its tensors are
    :param dtype: their type
    :return: why the fused kernel does not serve such a layer; None if it does
    """
    rule = RULES[config.rule]
    if device.type != "cpu":
        return f"the fused kernel runs on the CPU, the tensors are on {device}"
    if dtype not in FLOATS:
        return f"the fused kernel computes in float32 or float64, the tensors are {dtype}"
    if config.neuron != "lif":
        return f"the fused kernel has the neuron 'lif' built in, the layer's is {config.neuron!r}"
    if rule is not None and rule.derivative is None:
        return f"the fused kernel needs the derivative of the rule, and {config.rule!r} has none"
    return None


def resolve_backend(backend: str, config: LayerConfig, device: torch.device, dtype: torch.dtype) -> str:
    """
    What ``backend`` means for a layer. ``auto`` is the fused kernel where it serves, else the reference.

    :param backend: ``auto``, ``fused`` or ``reference``
    :param config: what kind of layer it is
    :param device: where its tensors are
    :param dtype: their type
    :return: ``fused`` or ``reference``
    :raises ValueError: on ``fused`` where the fused kernel does not serve, with the reason
    """
    check_choice("backend", backend, BACKENDS)
    if backend == "reference":
        return "reference"
    reason = refusal(config, device, dtype)
    if reason is None:
        return "fused"
    if backend == "fused":
        raise ValueError(f"backend='fused': {reason}. Use backend='reference', or 'auto' to let it choose.")
    return "reference"


def plastic_scan_fused(
    x: Tensor,
    episode_start: Tensor,
    state: LayerState,
    p: LayerParameters,
    config: LayerConfig,
    external: Tensor | None = None,
) -> tuple[Tensor, LayerState]:
    """See :func:`sb3_plastic.snn.scan.plastic_scan`."""
    if 0 in x.shape or 0 in state.v.shape:  # There is nothing to be fast at.
        return plastic_scan_reference(x, episode_start, state, p, config, external)
    K = x.shape[1]
    if K > 1 and x.stride(1) == 0 and not (x.requires_grad and x.is_leaf):
        # An input that stays for the whole step is read, and differentiated, once per step: its first tick gets the
        # gradient of all, which comes to the same since the view's own gradient is summed over them.
        x = x[:, :1]
    if external is None:
        external = x.new_empty(*x.shape[0:3:2], 0)
    tensors = (x, external, *state, *p, episode_start)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        # Not *state as one argument: autograd does not look into tuples, and would drop the gradients silently.
        spikes, *new = _Scan.apply(config, K, *tensors)
    else:
        spikes, *new = _forward(config, K, tensors, save=False).outputs
    return spikes, LayerState(*new)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, config: LayerConfig, K: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        call = _forward(config, K, tensors)
        ctx.config, ctx.K, ctx.call = config, K, call._replace(outputs=())
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        return call.outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors  # Asked for first: this complains if one has been changed in place.
        wanted = ctx.needs_input_grad[2:-1]
        return (None, None, *_backward(ctx.config, ctx.K, tensors, ctx.call, grads, wanted), None)


class _Call(NamedTuple):
    """What a forward pass was given, as the kernels take it, and what it made of it."""

    sizes: Layout
    outputs: tuple[Tensor, ...]  # spikes, state
    at_given: list[int]  # addresses of x, episode_start, external, state, parameters
    at_saved: list[int]  # of what the backward pass needs
    kept: list[Tensor]  # what lies there


def readable(tensors: Sequence[Tensor], names: Sequence[str]) -> list[Tensor]:
    """
    :param tensors: any
    :param names: what they are called, for messages
    :return: the same numbers as compiled code reads them, in C order from their first address
    :raises ValueError: if one of them is not in the memory of the CPU
    """
    if any(map(Tensor.is_neg, tensors)):  # Views of complex numbers may have their sign still to come.
        tensors = [tensor.resolve_neg() for tensor in tensors]
    # Tensors that are traced, or known to be zeros, have no memory either.
    missing = [not tensor.is_cpu or not (tensor.data_ptr() or 0 in tensor.shape) for tensor in tensors]
    if any(missing):
        name, tensor = list(zip(names, tensors, strict=True))[missing.index(True)]
        raise ValueError(
            f"{name} is a {type(tensor).__name__} on {tensor.device}: the fused kernel reads the memory of the CPU. "
            "Move all tensors to one device, or use backend='reference'."
        )
    return [tensor.contiguous() for tensor in tensors]


def layer_layout(config: LayerConfig, tensors: Sequence[Tensor]) -> Layout:
    """
    :param config: what kind of layer it is
    :param tensors: x, external, state, parameters, episode_start
    :return: the sizes
    """
    return layout(config, RULES[config.rule], tuple(t.shape for t in tensors), tuple(t.dtype for t in tensors))


def parameter_addresses(sizes: Layout, p: Sequence[Tensor], dtype: torch.dtype) -> tuple[list[int], list[Tensor]]:
    """
    :param sizes: of the layer
    :param p: its fourteen parameters, as :func:`readable` returns them
    :param dtype: type of number
    :return: where the kernels find each, with zeros after the last axis for their vectors; and what has
        to be kept meanwhile
    """
    kept, found = list(p), [tensor.data_ptr() for tensor in p]
    uneven, of_wide = uneven_parameters(sizes, dtype)
    if uneven:
        wide = memory.empty((of_wide.size,), dtype)
        array = wide.numpy()
        array.fill(0)
        for place, (i, address) in enumerate(zip(uneven, of_wide.addresses(wide), strict=True)):
            of_wide.array(array, place)[..., : p[i].shape[-1]] = p[i].detach().numpy()
            found[i] = address
        kept.append(wide)
    return found, kept


def forward_kinds(config: LayerConfig, period: int, dtype: torch.dtype) -> tuple[int, int, bool, int]:
    """
    :param config: of a layer
    :param period: steps from one saved state to the next; 0 to save nothing
    :param dtype: type of number
    :return: ``kinds`` of :func:`sb3_plastic.snn.scan.kernels.forward`
    """
    rule = 0 if config.rule == "none" else rule_addresses(config.rule, dtype)[0]
    return rule, MODULATION[config.modulation], config.keep_fast_weights, period


def numbers(config: LayerConfig, dtype: torch.dtype) -> np.ndarray:
    """
    :param config: of a layer
    :param dtype: type of number
    :return: threshold and h_max, as the kernels take them
    """
    return np.array((config.threshold, config.h_max), NUMBERS[dtype])


def _forward(config: LayerConfig, K: int, tensors: Sequence[Tensor], save: bool = True) -> _Call:
    """Spikes and state, and what the backward pass needs."""
    sizes, dtype = layer_layout(config, tensors), tensors[0].dtype
    segment, stretch = segments(sizes, K)
    period = segment * stretch if save else 0
    plan = forward_plan(sizes, K, period, dtype)
    of_outputs, *of_saved = plan.made
    x, external, *state_and_parameters, episode_start = readable(tensors, NAMES)
    at_parameters, kept = parameter_addresses(sizes, state_and_parameters[7:], dtype)
    given = x, episode_start, external, *state_and_parameters[:7]
    at_given = [*(tensor.data_ptr() for tensor in given), *at_parameters]
    # Not in one piece: who keeps a state would keep the spikes of all ticks as well.
    outputs = tuple(memory.empty(shape, dtype) for shape in of_outputs.shapes)
    saved = [memory.empty((part.size,), dtype) for part in of_saved]
    at_saved = [address for part, made in zip(of_saved, saved, strict=True) for address in part.addresses(made)]
    threads = threads_for(sizes.T * K * sizes.B * sizes.M * sizes.N, sizes.B)
    known = [*at_given, *(tensor.data_ptr() for tensor in outputs), *at_saved]
    tables, _work = plan.tables(known, threads, dtype)
    kinds, values = np.array(forward_kinds(config, period, dtype), np.int64), numbers(config, dtype)
    kernel = kernels_static.static_forward_queue if config.rule == "none" else kernels.forward_queue
    run(kernel, threads, sizes.B, lambda i: (K, tables[i], kinds, values))
    return _Call(sizes, outputs, at_given, at_saved, [*given, *kept, *saved])


def _backward(
    config: LayerConfig,
    K: int,
    tensors: Sequence[Tensor],
    call: _Call,
    grads: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of x, external, state and parameters."""
    sizes, dtype = call.sizes, tensors[0].dtype
    segment, stretch = segments(sizes, K)
    groups = min(sizes.B, GROUPS) if max(sizes.rows) == 1 else sizes.B
    has_gstate = tuple(want or grad is not None for want, grad in zip(wanted[2:9], grads[1:], strict=True))
    want_gx = config.recurrent or wanted[NAMES.index("x")]
    want_gx_trace = want_gx or wanted[NAMES.index("x_trace")] or wanted[NAMES.index("lam_pre")]
    plan = backward_plan(sizes, K, segment, stretch, grads[0] is not None, has_gstate, want_gx, dtype)
    of_zeros, of_gp, of_gx = plan.made
    made = [memory.empty((size,), dtype) for size in (of_zeros.size, groups * of_gp.size, of_gx.size)]
    zeros, gp, gx = (tensor.numpy() for tensor in made)
    zeros.fill(0)  # By this thread: torch's own, once woken, go on spinning for milliseconds and slow the kernels.
    grads = [None if grad is None else readable([grad], ["a gradient"])[0] for grad in grads]
    for i, grad in enumerate(grads[1:], 1):
        if grad is not None:
            of_zeros.array(zeros, i)[...] = grad.numpy()
    at_zeros, at_gp, at_gx = (part.addresses(tensor) for part, tensor in zip(plan.made, made, strict=True))
    at_gspikes = at_zeros[8] if grads[0] is None else grads[0].data_ptr()
    known = [*call.at_given, *call.at_saved, at_gspikes, *at_gx, *at_zeros[:8], *at_gp]
    threads = threads_for(sizes.T * K * sizes.B * sizes.M * sizes.N, groups)
    tables, _work = plan.tables(known, threads, dtype)
    local, derivative = (0, 0) if config.rule == "none" else rule_addresses(config.rule, dtype)
    surrogate = surrogate_address(config.surrogate, config.slope, dtype)
    kinds = np.array((
        local, derivative, surrogate, MODULATION[config.modulation], config.keep_fast_weights, config.detach_reset,
        wanted[NAMES.index("rho")], want_gx_trace, want_gx, segment, stretch,
        of_gp.size * dtype.itemsize
    ), np.int64)  # fmt: skip
    values = numbers(config, dtype)
    kernel = kernels_static.static_backward_queue if config.rule == "none" else kernels_backward.backward_queue
    run(kernel, threads, groups, lambda i: (K, tables[i], kinds, values))

    gp = gp.reshape(groups, -1)
    sums = gp.sum(0)  # for parameters that serve all rows
    gradients: list[Tensor | None] = []
    for i, (tensor, want) in enumerate(zip(tensors[:-1], wanted, strict=True)):
        if not want or not tensor.numel():
            gradients.append(None)
            continue
        if i == 0:
            array = of_gx.array(gx, 0)
        elif i < 9:
            array = of_zeros.array(zeros, i - 1)
        else:
            array = of_gp.array(gp if sizes.rows[i - 9] > 1 else sums, i - 9)[..., : tensor.shape[-1]]
        # What the layer has no use for has none.
        gradients.append(torch.from_numpy(array.reshape(tensor.shape)) if array.size else None)
    return gradients
