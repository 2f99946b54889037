"""The fused form of the plastic scan for the CPU: which layers it serves, autograd, and the steps of a rollout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sb3_plastic.errors import UserError, check_choice
from sb3_plastic.snn.rules import RULES
from sb3_plastic.snn.scan import call, kernels, static
from sb3_plastic.snn.scan.compile import FLOATS, run, threads_for
from sb3_plastic.snn.scan.reference import TENSORS, LayerConfig, LayerParameters, plastic_scan_reference
from sb3_plastic.snn.state import LayerState
from sb3_plastic.snn.surrogate import SURROGATES

BACKENDS = ("auto", "reference", "fused")

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
    :raises UserError: on ``fused`` where the fused kernel does not serve, with the reason
    """
    check_choice("backend", backend, BACKENDS)
    if backend == "reference":
        return "reference"
    reason = refusal(config, device, dtype)
    if reason is None:
        return "fused"
    if backend == "fused":
        raise UserError(f"backend='fused': {reason}. Use backend='reference', or 'auto' to let it choose.")
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
        spikes, *new = _forward(config, K, tensors, save=False)[0]
    return spikes, LayerState(*new)


@dataclass(frozen=True, eq=False)
class _SavedTensors:
    """What the backward pass needs of the forward pass, beside the tensors that autograd saves."""

    plan: call.ForwardPlan
    words: np.ndarray  # of the record
    kept: list[Tensor]  # whose addresses stand there


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, config: LayerConfig, K: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        outputs, ctx.saved = _forward(config, K, tensors, save=True)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors  # Asked for first: this complains if one has been changed in place.
        wanted = dict(zip(TENSORS, ctx.needs_input_grad[2:], strict=True))
        return (None, None, *_backward(tensors, ctx.saved, grads, wanted), None)


def plan_of(config: LayerConfig, K: int, tensors: Sequence[Tensor], save: bool) -> call.ForwardPlan:
    """
    :param config: what kind of layer it is
    :param K: ticks per step
    :param tensors: what a scan is given, in the order of ``TENSORS``
    :param save: whether a backward pass will follow
    :return: the plan of such calls
    """
    shapes, dtypes = tuple([tensor.shape for tensor in tensors]), tuple([tensor.dtype for tensor in tensors])
    # By function, not by name: a rule, or a surrogate, may be replaced under its name.
    return call.forward_plan(config, RULES[config.rule], SURROGATES[config.surrogate], K, save, shapes, dtypes)


def _forward(
    config: LayerConfig, K: int, tensors: Sequence[Tensor], save: bool
) -> tuple[tuple[Tensor, ...], _SavedTensors]:
    """Spikes and state, and what the backward pass needs."""
    plan = plan_of(config, K, tensors, save)
    words, dtype, B = plan.words.copy(), plan.dtype, plan.sizes.B
    kept = plan.give(words, tensors)
    # Not in one piece: who keeps a state would keep the spikes of all ticks as well.
    outputs = tuple([call.empty(shape, dtype) for shape in plan.outputs])
    words[plan.outputs_at] = [tensor.data_ptr() for tensor in outputs]
    saved, threads = call.empty((plan.saved.size,), dtype), threads_for(plan.sizes.work(), B)
    work = call.empty((threads * plan.work.size,), dtype)
    plan.saved.put(words, saved)
    plan.work.put(words, work)
    kernel = kernels.forward_queue if plan.sizes.plastic else static.static_forward_queue
    run(kernel, threads, B, np.frombuffer(words, call.RECORDS[dtype]), [*kept, *outputs, saved, work])
    return outputs, _SavedTensors(plan, words, [*kept, saved])


def _backward(
    tensors: Sequence[Tensor], saved: _SavedTensors, grads: Sequence[Tensor | None], wanted: dict[str, bool]
) -> list[Tensor | None]:
    """Gradients of x, external, state and parameters."""
    forward, sizes, dtype = saved.plan, saved.plan.sizes, saved.plan.dtype
    groups = sizes.B if any(forward.own_rows.values()) else min(sizes.B, GROUPS)
    want_gx = sizes.M_in < sizes.M or wanted["x"]
    want_gx_trace = want_gx or wanted["x_trace"] or wanted["lam_pre"]
    has_gstate = tuple(
        [wanted[name] or grad is not None for name, grad in zip(LayerState._fields, grads[1:], strict=True)]
    )
    plan = call.backward_plan(forward, grads[0] is not None, has_gstate, wanted["rho"], want_gx_trace, want_gx)
    threads = threads_for(sizes.work(), groups)
    sizes_of_blocks = (plan.zeros.size, groups * plan.gp.size, plan.gx.size, threads * plan.work.size)
    of_zeros, of_gp, of_gx, _ = made = [call.empty((size,), dtype) for size in sizes_of_blocks]
    words = plan.words.copy()
    words[plan.forward_at] = saved.words[plan.forward_at]
    for block, memory in zip((plan.zeros, plan.gp, plan.gx, plan.work), made, strict=True):
        block.put(words, memory)
    zeros, gp, gx = of_zeros.numpy(), of_gp.numpy().reshape(groups, -1), of_gx.numpy()
    zeros.fill(0)  # By this thread: torch's own, once woken, go on spinning for milliseconds and slow the kernels.
    grads = [None if grad is None else call.readable([grad], ["a gradient"])[0] for grad in grads]
    for name, grad in zip(LayerState._fields, grads[1:], strict=True):
        if grad is not None:
            plan.zeros.array(zeros, f"gstate.{name}")[...] = grad.numpy()
    if grads[0] is not None:
        words[plan.gspikes_at] = grads[0].data_ptr()
    kernel = kernels.backward_queue if sizes.plastic else static.static_backward_queue
    run(kernel, threads, groups, np.frombuffer(words, call.RECORDS[dtype]), [saved.kept, made, grads])

    sums = gp.sum(0)  # for parameters that serve all rows
    gradients: list[Tensor | None] = []
    for entry, tensor, want in zip(call.GIVEN[:-1], tensors, wanted.values(), strict=False):
        group, _, name = entry.rpartition(".")
        if not want or not tensor.numel():
            gradients.append(None)
            continue
        if group == "p":
            of_parameter = plan.gp.array(gp if forward.own_rows[name] else sums, f"gp.{name}")
            array = of_parameter[..., : tensor.shape[-1]]
        elif entry == "x":
            array = plan.gx.array(gx, "gx")
        else:
            array = plan.zeros.array(zeros, f"g{entry}")
        # What the layer has no use for has none.
        gradients.append(torch.from_numpy(array.reshape(tensor.shape)) if array.size else None)
    return gradients


# ------------------------------------------------------------------------------------------------------------- rollouts


class FusedLayers:
    """
    Layers one after the other, on the fused kernel and without gradients: all of a rollout's step in one compiled call.
    Parameters are read when this is made, and kept: make another when they have changed.

    :param layers: configuration and parameters of each
    :param in_place: overwrite what was returned, spikes and states, when these very states come back: for a caller who
        keeps none of them. A step then takes half of the memory, and nothing is checked or laid out again
    """

    def __init__(self, layers: Sequence[tuple[LayerConfig, LayerParameters]], in_place: bool = False) -> None:
        self.layers = layers
        self.in_place = in_place
        self._checked: list[Any] = []
        self._returned: tuple[list[Tensor], list[LayerState]] | None = None
        self._words: np.ndarray  # of the records of the last step, with the states it returned as its incoming ones

    def __reduce__(self) -> tuple[type[FusedLayers], tuple[Any, ...]]:
        """A copy begins anew: the records hold addresses of tensors, which are the original's."""
        return FusedLayers, (self.layers, self.in_place)

    def __call__(
        self,
        x: Tensor,
        episode_start: Tensor,
        states: Sequence[LayerState],
        externals: Sequence[Tensor | None],
    ) -> tuple[list[Tensor], list[LayerState]]:
        """
        The same as :func:`sb3_plastic.snn.scan.plastic_scan`, layer by layer, bit for bit.

        :param x: inputs of the first layer, [T, K, B, M_in]
        :param episode_start: bool [T, B]
        :param states: states before the first step
        :param externals: external modulators, or None
        :return: spikes of each layer, [T, K, B, N], and the states after
        """
        K = x.shape[1]
        if K > 1 and x.stride(1) == 0:
            x = x[:, :1]
        modulators = [external for external in externals if external is not None]
        inputs, names = [x, episode_start, *modulators], ["x", "episode_start", *["external"] * len(modulators)]
        seen = [K, *(e is None for e in externals), *[(tensor.shape, tensor.dtype) for tensor in inputs]]
        if self._returned is not None and seen == self._checked[: len(seen)] and self._come_back(states):
            self._call(self._words, call.readable(inputs, names))
            return self._returned
        given = [tensor for state in states for tensor in state]
        seen += [(tensor.shape, tensor.dtype) for tensor in given]
        if seen != self._checked:
            self._plan(K, x, episode_start, states, externals)
            self._checked = seen
        if not self._together:
            return self._one_by_one(K, x, episode_start, states, externals)
        made = call.empty((self._size,), x.dtype)
        given = call.readable(given, LayerState._fields * len(states))
        words = self._template.copy()
        words[:, self._made_at] += made.data_ptr()
        words[1:, self._x_at] = words[:-1, self._spikes_at]
        words[:, self._state_at] = np.reshape([tensor.data_ptr() for tensor in given], (len(states), -1))
        self._call(words, call.readable(inputs, names))

        # Views of one piece of memory by way of numpy: torch takes twice as long.
        array, trains, after = made.numpy(), [], []
        for block, start, state in zip(self._blocks, self._starts, states, strict=True):
            spikes, *new = (block.array(array[start:], name) for name in call.OUTPUTS)
            trains.append(torch.from_numpy(spikes))
            after.append(LayerState(*(torch.from_numpy(n) if n.size else s for n, s in zip(new, state, strict=True))))
        if self.in_place:
            self._returned, self._words = (trains, after), words
            words[:, self._state_at] = words[:, self._out_at]
        return trains, after

    def _call(self, words: np.ndarray, inputs: Sequence[Tensor]) -> None:
        """One step from the states that stand in the records, [layers, words]; the other inputs are set here."""
        x, episode_start, *modulators = [tensor.data_ptr() for tensor in inputs]
        words[0, self._x_at] = x
        words[:, self._episode_start_at] = episode_start
        if modulators:
            words[self._modulated, self._external_at] = modulators
        kernels.network_forward(np.frombuffer(words, self._record))

    def _come_back(self, states: Sequence[LayerState]) -> bool:
        """Whether these are the states that were returned."""
        assert self._returned is not None
        return all(a is b for pair in zip(states, self._returned[1], strict=True) for a, b in zip(*pair, strict=True))

    def _one_by_one(self, K: int, x: Tensor, episode_start: Tensor, states: Any, externals: Any) -> Any:
        """By :func:`plastic_scan_fused`, which has threads, and the reference for what is empty."""
        x = x.expand(-1, K, -1, -1)
        trains, after = [], []
        for (config, p), state, external in zip(self.layers, states, externals, strict=True):
            x, state = plastic_scan_fused(x, episode_start, state, p, config, external)
            trains.append(x)
            after.append(state)
        return trains, after

    def _plan(self, K: int, x: Tensor, episode_start: Tensor, states: Any, externals: Any) -> None:
        """Check the shapes, and lay down all that does not change from step to step."""
        dtype, n_parameters = x.dtype, len(LayerParameters._fields)
        if 0 in x.shape or K == 0 or any(0 in state.v.shape for state in states):
            self._together = False
            return
        rows, work, self._size = [], 0, 0
        self._kept: list[Tensor] = []  # parameters, while their addresses are in use
        self._blocks: list[call.Block] = []  # what a step makes, by layer, and where it begins in one piece of memory
        self._starts: list[int] = []
        for (config, p), state, external in zip(self.layers, states, externals, strict=True):
            modulator = x.new_empty(*x.shape[0:3:2], 0) if external is None else external
            tensors = (x, modulator, *state, *p, episode_start)
            plan = plan_of(config, K, tensors, save=False)
            words = plan.words.copy()
            self._kept += plan.give(words, tensors)[len(tensors) - 1 - n_parameters :]
            made = call.block(dict(zip(call.OUTPUTS, plan.outputs, strict=True)) | plan.work.shapes, dtype)
            words[made.at] = made.offsets + self._size * dtype.itemsize
            rows.append(words)
            self._blocks.append(made)
            self._starts.append(self._size)
            self._size += made.size
            work += plan.sizes.work()
            x = x.new_empty(1).expand(x.shape[0], K, *state.v.shape)
        self._together = threads_for(work, x.shape[2]) == 1
        self._template, self._record = np.stack(rows), call.RECORDS[dtype]
        places = {name: call.place(self._record, name) for name in (*call.GIVEN, *call.OUTPUTS)}
        self._x_at, self._episode_start_at, self._external_at = (
            places[name] for name in ("x", "episode_start", "external")
        )
        self._spikes_at, self._made_at = places["spikes"], self._blocks[0].at
        self._state_at = [places[f"state.{name}"] for name in LayerState._fields]
        self._out_at = [places[f"out.{name}"] for name in LayerState._fields]
        self._modulated = [i for i, external in enumerate(externals) if external is not None]
