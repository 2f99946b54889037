"""The fused kernel against the reference, which defines what is right."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import pickle
import platform
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from queue import Queue, SimpleQueue
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from scan_helpers import (
    OTHER_OPTIONS,
    RULES_AND_MODULATIONS,
    Problem,
    assert_agree,
    assert_equal_bits,
    gradients,
    outputs,
    outputs_and_gradients,
    problem,
    scan,
)

from sb3_plastic.errors import UserError
from sb3_plastic.snn.neurons import NEURONS
from sb3_plastic.snn.rules import MODULATIONS, RULES, Rule
from sb3_plastic.snn.scan import FusedLayers, LayerConfig, call, fused, plastic_scan, resolve_backend
from sb3_plastic.snn.scan import compile as scan_compile
from sb3_plastic.snn.scan.reference import Sizes
from sb3_plastic.snn.state import LayerState
from sb3_plastic.snn.surrogate import SURROGATES


@pytest.fixture(autouse=True)
def _poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffers without content are full of NaN, so that no result can rest on what happened to be in them."""
    monkeypatch.setattr(call, "empty", lambda shape, dtype: torch.full(shape, torch.nan, dtype=dtype))


@pytest.fixture
def _threads() -> Iterator[None]:
    """Restore the number of threads."""
    before = scan_compile.get_num_threads()
    yield
    scan_compile.set_num_threads(before)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"constant_input": True, "detach_reset": True, "external": 1},
        {"recurrent": True, "keep_fast_weights": True, "external": 11},
        {"recurrent": True, "constant_input": True, "population": True, "detach_reset": True},
        {"population": True, "external": 11, "surrogate": "arctan", "slope": 3.0, "threshold": 1.2},
        {"M_in": 1, "N": 1, "K": 1, "B": 5, "T": 24, "surrogate": "triangle", "slope": 0.7, "h_max": 0.3},
        {"M_in": 35, "N": 33, "K": 4, "B": 2, "keep_fast_weights": True},
    ],
    ids=["plain", "constant", "recurrent", "recurrent-rows", "rows", "one-neuron", "wide"],
)
@pytest.mark.parametrize(("rule", "modulation"), RULES_AND_MODULATIONS)
def test_equals_reference(rule: str, modulation: str, options: dict[str, Any]) -> None:
    if rule == "none":
        options = {**options, "external": None}
    assert_agree(problem(rule, modulation, **options))


@pytest.mark.parametrize("rule", ["oja", "none"])
@pytest.mark.parametrize("name", OTHER_OPTIONS)
def test_every_option_of_a_layer_is_in_the_kernel_or_the_layer_is_refused(name: str, rule: str) -> None:
    changed = problem(rule, "none", K=4, **{name: OTHER_OPTIONS[name]})
    if resolve_backend("auto", changed.config, changed.x.device, changed.x.dtype) == "fused":
        assert_agree(changed)


@pytest.fixture
def _short_segments(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Segments of two steps of three ticks."""
    plans = call.forward_plan, call.backward_plan
    with monkeypatch.context() as changed:
        changed.setattr(call, "SEGMENT_TICKS", (6, 6))
        for plan in plans:
            plan.cache_clear()
        yield
    for plan in plans:
        plan.cache_clear()


@pytest.mark.usefixtures("_short_segments")
@pytest.mark.parametrize(("rule", "modulation"), RULES_AND_MODULATIONS)
def test_segments_do_not_show(rule: str, modulation: str) -> None:
    """The third one is cut short."""
    assert_agree(problem(rule, modulation, T=5, external=None if rule == "none" else 1))


@pytest.mark.usefixtures("_short_segments")
@pytest.mark.parametrize(("rule", "modulation"), [("oja", "simple"), ("bcm", "retroactive")])
def test_segments_of_wide_layers_without_saved_fast_weights_do_not_show(rule: str, modulation: str) -> None:
    wide = problem(rule, modulation, T=17, M_in=48, N=49)
    sizes = Sizes(17, 3, 3, 3, 48, 0, 48, 49, True, rule == "bcm", modulation == "retroactive", True)
    segment, count = call.segments(sizes)
    assert 1 < count < 17 // segment, "segments per checkpoint interval"
    assert_agree(wide)


@pytest.mark.parametrize("retroactive", [False, True])
@pytest.mark.parametrize("n", [16, 64, 100, 256, 512, 1000])
def test_what_is_saved_for_the_backward_pass_grows_with_neurons_not_with_synapses(n: int, retroactive: bool) -> None:
    T, K, B = 1000, 4, 2
    sizes = Sizes(T, K, 1, B, n, 0, n, n, True, False, retroactive, True)
    shapes = [(T, 1, B, n), (T, B, 0), *((B, *row) for row in sizes.state().values()), *sizes.parameters().values()]
    tensors = [torch.empty(shape, device="meta") for shape in shapes]
    tensors.append(torch.empty(T, B, dtype=torch.bool, device="meta"))
    config = LayerConfig("oja", "retroactive" if retroactive else "simple")
    assert fused.plan_of(config, K, tensors, save=True).saved.size < 4.5 * B * T * K * (n + n)


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_every_surrogate(surrogate: str) -> None:
    assert_agree(problem(surrogate=surrogate))


@pytest.mark.parametrize(("rule", "modulation"), RULES_AND_MODULATIONS)
def test_float32_is_as_accurate_as_the_reference(rule: str, modulation: str) -> None:
    exact, exact_gradients = outputs_and_gradients(problem(rule, modulation, seed=2), "reference")
    errors = {}
    for backend in ("reference", "fused"):
        got, got_gradients = outputs_and_gradients(problem(rule, modulation, seed=2).to(torch.float32), backend)
        assert torch.equal(got[0].double(), exact[0]), "another seed, in which no neuron is that near its threshold"
        assert all(g.dtype == torch.float32 for g in got)
        pairs = [*zip(got, exact, strict=True), *zip(got_gradients, exact_gradients, strict=True)]
        shares = [((g - e) ** 2).sum() / (e**2).sum().clamp(min=1e-30) for g, e in pairs if e.numel()]
        errors[backend] = torch.stack(shares).sum().sqrt().item()
    assert errors["fused"] <= 2 * errors["reference"]


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize(("rule", "modulation"), RULES_AND_MODULATIONS)
def test_one_call_equals_one_call_per_step_bit_for_bit(rule: str, modulation: str, recurrent: bool) -> None:
    """So PPO's first ratio is exactly 1: rollouts go step by step without gradients, training over chunks with them."""
    whole = problem(rule, modulation, recurrent=recurrent, T=20, seed=4).to(torch.float32)
    expected, _ = outputs_and_gradients(whole, "fused")
    state, spikes = whole.state, []
    with torch.no_grad():
        for t in range(20):
            step, state = scan(whole.steps(slice(t, t + 1), state))
            spikes.append(step)
    assert_equal_bits([torch.cat(spikes), *state], expected)


def layers_after(first: Problem, **options: Any) -> list[Problem]:
    """A network: that layer, a static one after it, and one of another rule and size."""
    problems = [first]
    for rule, modulation, N in (("none", "none", 16), ("bcm", "retroactive", 5)):
        M_in = problems[-1].p.w.shape[-1]
        problems.append(problem(rule, modulation, M_in=M_in, N=N, T=9, **options).to(first.x.dtype))
    return problems


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("in_place", [False, True], ids=["anew", "in place"])
@pytest.mark.parametrize("work", [0, 10**9], ids=["by layer", "in one call"])
@pytest.mark.parametrize(
    "options",
    [{"constant_input": True}, {"recurrent": True, "external": 11}, {"population": True, "external": 1}, {"N": 32}],
    ids=["constant", "recurrent", "rows", "wide"],
)
@pytest.mark.parametrize(("rule", "modulation"), RULES_AND_MODULATIONS)
def test_layers_in_one_call_equal_one_call_per_layer_bit_for_bit(
    rule: str, modulation: str, options: dict[str, Any], work: int, in_place: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_compile, "PARALLEL_WORK", work)
    scan_compile.set_num_threads(2)
    case = problem(rule, modulation, **{**options, "external": None if rule == "none" else options.get("external")})
    problems = layers_after(case.to(torch.float32))
    layers = FusedLayers([(layer.config, layer.p) for layer in problems], in_place)
    expected, x = [], case.x.float().expand(-1, case.K, -1, -1)
    for layer in problems:
        x, state = plastic_scan(x, case.episode_start, layer.state, layer.p, layer.config, layer.external)
        expected += [x, *state]
    states = [layer.state for layer in problems]
    for steps in ([slice(0, 9)], [slice(t, t + 1) for t in range(9)]):
        got, after = [], states
        for s in steps:
            now = case.x[s].float().expand(-1, case.K, -1, -1)
            externals = [None if layer.external is None else layer.external[s] for layer in problems]
            trains, after = layers(now, case.episode_start[s], after, externals)
            got.append([spikes.clone() for spikes in trains])
        joined = [torch.cat(trains) for trains in zip(*got, strict=True)]
        assert_equal_bits([t for spikes, s in zip(joined, after, strict=True) for t in (spikes, *s)], expected)


def test_a_state_is_overwritten_only_in_place_and_only_if_it_was_returned() -> None:
    case = problem(external=None)
    step = case.x[:1], torch.zeros_like(case.episode_start[:1])
    for in_place in (False, True):
        layers = FusedLayers([(case.config, case.p)], in_place)
        given = [tensor.clone() for tensor in case.state]
        _, first = layers(*step, [case.state], [None])
        assert_equal_bits(list(case.state), given)
        returned = [tensor.clone() for tensor in first[0]]
        _, second = layers(*step, first, [None])
        assert (second[0].h.data_ptr() == first[0].h.data_ptr()) == in_place
        assert all(map(torch.equal, first[0], returned)) != in_place
        copied = LayerState(*(tensor.clone() for tensor in second[0]))
        for state in (copied, case.state):  # neither of which is what was returned
            before = [tensor.clone() for tensor in state]
            layers(*step, [state], [None])
            assert_equal_bits(list(state), before)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layers: pickle.loads(pickle.dumps(layers))])
def test_a_copy_of_layers_that_have_stepped_has_parameters_of_its_own(copied: Callable[[Any], Any]) -> None:
    case = problem(external=None)
    step = case.x[:1], case.episode_start[:1], [case.state], [None]
    original = FusedLayers([(case.config, case.p)])
    before = original(*step)[1][0].v.clone()
    other = copied(original)
    with torch.no_grad():
        other.layers[0][1].w.zero_()
    assert not torch.equal(other(*step)[1][0].v, before)
    assert torch.equal(original(*step)[1][0].v, before)


def test_layers_in_one_call_refuse_wrong_shapes() -> None:
    case = problem(external=None)
    layers = FusedLayers([(case.config, case.p)])
    with pytest.raises(ValueError, match=r"v has the shape \(2, 11\): expected \(3, 11\)"):
        layers(case.x, case.episode_start, [case.state._replace(v=case.state.v[:2])], [None])


@pytest.mark.parametrize(("rule", "modulation"), RULES_AND_MODULATIONS)
def test_rows_do_not_depend_on_each_other(rule: str, modulation: str) -> None:
    batch = problem(rule, modulation, B=5).to(torch.float32)
    expected = outputs(batch, "fused")
    for r in range(5):
        alone = outputs(batch.rows(slice(r, r + 1)), "fused")
        assert_equal_bits(
            [alone[0][:, :, 0], *(s[0] for s in alone[1:])], [expected[0][:, :, r], *(s[r] for s in expected[1:])]
        )


@pytest.mark.parametrize(("rule", "modulation"), RULES_AND_MODULATIONS)
def test_two_chained_scans_equal_one(rule: str, modulation: str) -> None:
    whole = problem(rule, modulation)
    expected, expected_gradients = outputs_and_gradients(whole, "fused")
    first, state = scan(whole.steps(slice(0, 4), whole.state))
    second, state = scan(whole.steps(slice(4, None), state))
    got = [torch.cat((first, second)), *state]
    assert_equal_bits(got, expected)
    torch.testing.assert_close(gradients(got, whole.leaves()), expected_gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize(("rule", "modulation"), [("bcm", "retroactive"), ("oja", "simple"), ("none", "none")])
def test_threads_do_not_show(rule: str, modulation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_compile, "PARALLEL_WORK", 0)
    results = []
    for n in (1, 2, 3):
        scan_compile.set_num_threads(n)
        results.append(outputs_and_gradients(problem(rule, modulation, B=5).to(torch.float32), "fused"))
    for got, got_gradients in results[1:]:
        assert_equal_bits(got, results[0][0])
        assert_equal_bits(got_gradients, results[0][1])


@pytest.mark.usefixtures("_threads")
def test_a_thread_that_cannot_start_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others have then done its part."""
    monkeypatch.setattr(scan_compile, "PARALLEL_WORK", 0)
    scan_compile.set_num_threads(1)
    expected = outputs(problem(), "fused")
    scan_compile.set_num_threads(2)
    monkeypatch.setattr(scan_compile, "_tasks", SimpleQueue())  # which nobody serves
    monkeypatch.setattr(scan_compile, "_workers", [None])
    assert_equal_bits(outputs(problem(), "fused"), expected)


def _in_child(connection: Any) -> None:
    connection.send([result.numpy() for result in outputs(problem(), "fused")])


def test_an_interrupt_leaves_memory_to_the_threads_that_still_write_to_it() -> None:
    """Ctrl-C between two threads' ends freed it, and the heap was corrupted."""
    begun, interrupted, found = Event(), Event(), Queue[bool]()
    memory = torch.zeros(3)
    reference = weakref.ref(memory)

    def kernel(queue: np.ndarray, parts: int, thread: int, calls: np.ndarray) -> None:
        if thread == 0:
            begun.wait()
            raise KeyboardInterrupt
        begun.set()
        interrupted.wait()
        found.put(reference() is not None)

    with pytest.raises(KeyboardInterrupt):
        scan_compile.run(kernel, 2, 2, np.zeros(1), [memory])
    del memory
    gc.collect()
    interrupted.set()
    assert found.get(timeout=30)


@pytest.mark.usefixtures("_threads")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_works_in_a_forked_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads do not survive a fork: the child must start its own."""
    monkeypatch.setattr(scan_compile, "PARALLEL_WORK", 0)
    scan_compile.set_num_threads(2)
    expected = outputs(problem(), "fused")
    receive, send = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_in_child, args=(send,))
    child.start()
    assert receive.poll(60), "the child hangs"
    assert_equal_bits([torch.from_numpy(array) for array in receive.recv()], expected)
    child.join()


def test_no_gradient_crosses_a_reset() -> None:
    case = problem(resets=0)
    case.episode_start[5] = True
    for leaf in case.leaves():
        leaf.requires_grad_()
    spikes, state = scan(case)
    before = [s for s in case.state if s.numel()]
    gx, *gstate = gradients([spikes[5:], *state], [case.x, *before])
    assert not gx[:5].any()
    assert gx[5:].any()
    assert not any(g.any() for g in gstate)


def test_fast_weights_that_are_kept_carry_the_gradient_across_a_reset() -> None:
    case = problem(resets=0, keep_fast_weights=True)
    case.episode_start[5] = True
    case.state.h.requires_grad_()
    spikes, _ = scan(case)
    assert torch.autograd.grad(spikes[5:].sum(), case.state.h)[0].any()


@pytest.mark.parametrize(("rule", "modulation"), RULES_AND_MODULATIONS)
def test_a_reset_clears_nan(rule: str, modulation: str) -> None:
    case = problem(rule, modulation)
    for tensor in case.state:
        tensor[1] = torch.nan
    case.episode_start[0] = torch.tensor([False, True, False])
    got, got_gradients = outputs_and_gradients(case, "fused")
    assert all(torch.isfinite(tensor).all() for tensor in (*got, *got_gradients))


def test_nan_is_not_hidden() -> None:
    """A divergence must be seen: the bound of the fast weights lets NaN through, as the reference's does."""
    case = problem(resets=0)
    case.state.h[0, 0, 0] = torch.nan
    assert torch.isnan(outputs(case, "fused")[6][0, 0, 0])
    assert torch.isnan(outputs(case, "reference")[6][0, 0, 0])


def test_expanded_parameters_get_the_gradient_of_their_source() -> None:
    """One plasticity rate per layer, as a view of [M, N]."""
    found = []
    for backend in ("reference", "fused"):
        case, eta = problem(), torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
        case = case._replace(p=case.p._replace(eta=eta.expand(13, 11)))
        found.append(torch.autograd.grad(outputs(case, backend)[6].sum(), eta)[0])
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="done on x86 only")
def test_fading_traces_end_at_zero_and_the_caller_keeps_its_small_numbers() -> None:
    """Numbers below the smallest normal one make many a processor a hundred times slower."""
    case = problem(resets=0, threshold=100.0).to(torch.float32)  # no neuron fires
    case = case._replace(x=torch.zeros_like(case.x))
    for trace in (case.state.x_trace, case.state.y_trace):
        trace.fill_(1.2e-38)
    spikes, state = scan(case)
    assert not spikes.any()
    assert not state.x_trace.any()
    assert not state.y_trace.any()
    assert np.float32(1.2e-38) * np.float32(0.5) > 0


@pytest.mark.parametrize("wanted", [("x",), ("h",), ("e",), ("x_trace",), ("lam_pre",), ("w", "eta")])
def test_a_gradient_does_not_depend_on_which_others_are_wanted(wanted: tuple[str, ...]) -> None:
    case = problem("bcm", "retroactive", N=16)
    leaves = {"x": case.x, **case.state._asdict(), **case.p._asdict()}
    _, expected = outputs_and_gradients(case, "reference")
    expected_of = dict(zip((name for name, leaf in leaves.items() if leaf.numel()), expected, strict=True))
    for name, leaf in leaves.items():
        leaf.requires_grad_(name in wanted)
    got = gradients(outputs(case, "fused"), [leaves[name] for name in wanted])
    torch.testing.assert_close(got, [expected_of[name] for name in wanted], rtol=1e-9, atol=1e-9)


def test_the_incoming_state_is_left_alone() -> None:
    case = problem()
    before = [tensor.clone() for tensor in case.state]
    outputs(case, "fused")
    assert_equal_bits(list(case.state), before)


def covariance(y: Any, theta: Any) -> tuple[Any, Any]:
    return y - theta, 0.0 * y


def covariance_derivative(y: Any, theta: Any) -> tuple[Any, Any, Any, Any]:
    return 0.0 * y + 1.0, 0.0 * y - 1.0, 0.0 * y, 0.0 * y


@pytest.mark.parametrize("modulation", MODULATIONS)
def test_a_new_rule_is_its_functions(modulation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, "bcm", Rule(covariance, covariance_derivative, sliding_threshold=True))
    assert_agree(problem("bcm", modulation))


def lif_like(*args: Any) -> Any:
    raise AssertionError


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda: (replace(CONFIG, neuron="lif_like"), CPU, torch.float32), "lif_like"),
        (lambda: (replace(CONFIG, rule="covariance"), CPU, torch.float32), "derivative"),
        (lambda: (CONFIG, torch.device("cuda"), torch.float32), "cuda"),
        (lambda: (CONFIG, CPU, torch.float16), "float16"),
    ],
    ids=["neuron", "rule", "device", "dtype"],
)
def test_what_is_not_served_is_said(
    spoil: Callable[[], tuple[LayerConfig, torch.device, torch.dtype]], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RULES, "covariance", Rule(covariance, sliding_threshold=True))
    monkeypatch.setitem(NEURONS, "lif_like", lif_like)
    with pytest.raises(UserError, match=reason):
        resolve_backend("fused", *spoil())
    assert resolve_backend("auto", *spoil()) == "reference"


CONFIG, CPU = LayerConfig(), torch.device("cpu")


def test_what_is_served_is_fused() -> None:
    assert resolve_backend("auto", CONFIG, CPU, torch.float32) == "fused"
    assert resolve_backend("reference", CONFIG, CPU, torch.float32) == "reference"
    with pytest.raises(ValueError, match="Unknown backend 'cuda'"):
        resolve_backend("cuda", CONFIG, CPU, torch.float32)


def test_mixed_types_are_refused() -> None:
    case = problem()
    with pytest.raises(TypeError, match=r"b is torch\.float32: expected torch\.float64"):
        scan(case._replace(p=case.p._replace(b=case.p.b.float())))


def test_wrong_shapes_are_refused() -> None:
    case = problem(population=True)
    with pytest.raises(ValueError, match=r"w has the shape \(2, 13, 11\): expected \(13, 11\) or \(3, 13, 11\)"):
        scan(case._replace(p=case.p._replace(w=case.p.w[:2])))
