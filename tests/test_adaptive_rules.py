"""The layer's equations against those of a filter library, on random problems."""

import copy
import itertools
import threading

import numpy as np
import pytest
import torch
from filterpy.kalman import KalmanFilter, MMAEFilterBank
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn
from toy_robots import Counting

from sb3_plastic.adaptive import fit as fitting
from sb3_plastic.adaptive import kernels
from sb3_plastic.adaptive.activation import tanh_of
from sb3_plastic.adaptive.collect import Transitions, collect
from sb3_plastic.adaptive.fit import fit, set_scales, train, train_member, unexplained
from sb3_plastic.adaptive.forward_model import ForwardModel
from sb3_plastic.adaptive.hypotheses import Sizes, Transition, plugs, plugs_kernel
from sb3_plastic.adaptive.hypotheses.disturbance import DAMPING, against_disturbance
from sb3_plastic.adaptive.hypotheses.plugs import Plugs, balanced, connections, posterior
from sb3_plastic.adaptive.predictor import Prediction, Predictor
from sb3_plastic.adaptive.responsibility import (
    accumulate,
    against_nominal,
    choose,
    needed,
    noise_after,
    probabilities,
    relapses_after,
)
from sb3_plastic.adaptive.synapses import (
    Rates,
    Synapses,
    inflate,
    initial_synapses,
    kalman_update,
    learn,
    nis,
)
from sb3_plastic.snn.scan import get_num_threads, set_num_threads


def problem(n=5, C=4, n_envs=3, seed=0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n_envs, n, n))
    return dict(
        mean=rng.normal(size=(n_envs, n)),
        covariance=root @ root.transpose(0, 2, 1) + np.eye(n),
        H=rng.normal(size=(n_envs, C, n)),
        R=rng.uniform(0.1, 2, (n_envs, C)),
        z=rng.normal(size=(n_envs, C)),
    )


def filter_of(p, i):
    kf = KalmanFilter(dim_x=p["mean"].shape[1], dim_z=p["z"].shape[1])
    kf.x, kf.P, kf.H, kf.R = p["mean"][i][:, None], p["covariance"][i].copy(), p["H"][i], np.diag(p["R"][i])
    kf.update(p["z"][i][:, None])
    return kf


@pytest.mark.parametrize(("n", "C"), [(5, 4), (2, 7), (36, 17), (6, 1)])
def test_the_update_is_the_kalman_filters(n, C):
    p = problem(n, C)
    e = p["z"] - (p["H"] @ p["mean"][..., None])[..., 0]
    mean, covariance = kalman_update(p["mean"], p["covariance"], e, p["H"], p["R"])
    for i in range(3):
        kf = filter_of(p, i)
        assert mean[i] == pytest.approx(kf.x[:, 0])
        assert covariance[i] == pytest.approx(kf.P, abs=1e-9)


def test_variances_alone_are_the_diagonal_of_the_same_update():
    p = problem()
    p["covariance"] = np.stack([np.diag(np.diag(P)) for P in p["covariance"]])
    e = p["z"] - (p["H"] @ p["mean"][..., None])[..., 0]
    full = kalman_update(p["mean"], p["covariance"], e, p["H"], p["R"])
    alone = kalman_update(p["mean"], np.einsum("bii->bi", p["covariance"]), e, p["H"], p["R"])
    assert alone[0] == pytest.approx(full[0])
    assert alone[1] == pytest.approx(np.einsum("bii->bi", full[1]))


def test_the_normalised_innovation_squared_is_the_libraries():
    p = problem(C=1)
    e = p["z"] - (p["H"] @ p["mean"][..., None])[..., 0]
    variance = ((p["H"] @ p["covariance"]) * p["H"]).sum(2) + p["R"]
    expected = [filter_of(p, i).mahalanobis ** 2 for i in range(3)]
    assert nis(e, variance) == pytest.approx(expected)


def test_over_several_components_it_is_the_mean_of_the_libraries_of_each():
    """Each against its own variance, without their correlations: the library's, of one component at a time."""
    p = problem()
    e = p["z"] - (p["H"] @ p["mean"][..., None])[..., 0]
    S = p["H"] @ p["covariance"] @ p["H"].transpose(0, 2, 1)
    variance = np.einsum("bii->bi", S) + p["R"]
    each = []
    for j in range(e.shape[1]):
        one = {**p, "z": p["z"][:, j : j + 1], "H": p["H"][:, j : j + 1], "R": p["R"][:, j : j + 1]}
        each.append([filter_of(one, i).mahalanobis ** 2 for i in range(len(e))])
    assert nis(e, variance) == pytest.approx(np.mean(each, 0))


def test_responsibilities_are_those_of_a_filter_bank():
    rng = np.random.default_rng(0)
    gains, R, n_steps = (1.0, -1.0, 0.3), 0.25, 6
    filters = []
    for gain in gains:
        kf = KalmanFilter(dim_x=1, dim_z=1)
        kf.x, kf.P, kf.R = np.array([[gain]]), np.array([[0.2]]), np.array([[R]])
        filters.append(kf)
    bank = MMAEFilterBank(filters, [1 / 3] * 3, dim_x=1)
    rates = Rates(np.inf, np.zeros(1), -9.0, 9.0, process_noise=0.0, start_variance=0.2)
    synapses = [initial_synapses(np.array([gain]), 1, True, rates) for gain in gains]
    evidence = np.zeros((1, 3))
    for _ in range(n_steps):
        a = rng.normal()
        y = 0.3 * a + 0.1 * rng.normal()
        bank.update(np.array([[y]]), H=np.array([[a]]))
        likelihoods = []
        for k, s in enumerate(synapses):
            s = s._replace(noise=np.zeros(1))  # the bank knows R
            e, H = y - a * s.mean, np.array([[[a]]])
            synapses[k], likelihood = learn(s, e, H, np.array([[R]]), rates, np.ones(1))
            likelihoods.append(likelihood)
        evidence = accumulate(evidence, against_nominal(np.array(likelihoods)), leak=1, floor=-np.inf)
        assert probabilities(evidence, np.zeros((1, 3)))[0] == pytest.approx(np.ravel(bank.p), rel=1e-5)


def test_the_choice_needs_a_head_start_and_a_lead():
    head_start = np.array([[0.0, 3.0, 3.0]])
    nominal, first = np.zeros(1, int), np.ones(1, int)
    assert choose(np.array([[0.0, 4.0, 0.0]]), nominal, head_start, 2.0) == 0
    assert choose(np.array([[0.0, 6.0, 0.0]]), nominal, head_start, 2.0) == 1
    assert choose(np.array([[0.0, 6.0, 7.0]]), first, head_start, 2.0) == 1
    assert choose(np.array([[0.0, 6.0, 9.0]]), first, head_start, 2.0) == 2


def test_noise_that_lasts_asks_for_more_evidence_and_a_collision_does_not():
    noise = np.ones(2)
    for t in range(100):
        noise = noise_after(noise, np.array([8.0, 1000.0 if t == 90 else 1.0]))
    assert noise == pytest.approx([8, 1.27], abs=0.1)
    for_the_last_it_speaks = np.array([False, False, True])
    found = needed(20.0, noise, for_the_last_it_speaks, np.zeros((2, 3)))
    assert found == pytest.approx(np.array([[0, 150, 20], [0, 20, 20]]), rel=0.05)


def test_what_comes_and_goes_needs_more_evidence_from_the_second_time_on_until_that_is_forgotten():
    relapses, lasting = np.zeros((2, 3)), np.array([False, True, False])
    nominal, first, second = np.array([0, 0]), np.array([1, 1]), np.array([1, 2])
    for before, after in ((nominal, first), (first, second), (second, nominal)):
        relapses = relapses_after(relapses, before, after, lasting)
    assert relapses == pytest.approx(np.array([[0, 1, 0], [0, 0, 0]]))  # the second robot's is none of those counted
    assert needed(20.0, np.ones(2), lasting, relapses) == pytest.approx(np.array([[0, 20, 20], [0, 20, 20]]))
    relapses = relapses_after(relapses_after(relapses, nominal, first, lasting), first, nominal, lasting)
    assert relapses[0, 1] == pytest.approx(0.999 * 0.98 + 1)
    assert needed(20.0, np.ones(2), lasting, relapses)[0] == pytest.approx([0, 20 * relapses[0, 1], 20])
    acts, waits = relapses, relapses
    for _ in range(100):
        acts, waits = (relapses_after(x, b, b, lasting) for x, b in ((acts, first), (waits, nominal)))
    assert waits == pytest.approx(0.999**100 * relapses)
    assert acts == pytest.approx(0.98**100 * relapses)


def test_inflation_keeps_within_the_bound_and_positive():
    p = problem()
    opened = inflate(p["covariance"], np.full((3, 5), 0.3), 1.0)
    assert np.einsum("bii->bi", opened).max() <= 1 + 1e-12
    assert np.linalg.eigvalsh(opened).min() > 0


def test_surprise_opens_the_variances_and_lasting_errors_raise_the_expected_noise():
    rates = Rates(6.0, np.array([0.3]), -2.0, 2.0)
    synapses = initial_synapses(np.ones(1), 1, False, rates)
    R, H, ones = np.full((1, 2), 0.1), np.zeros((1, 2, 1)), np.ones(1)
    calm, expected = learn(synapses, np.full((1, 2), 0.3), H, R, rates, ones)
    shaken, unexpected = learn(calm, np.full((1, 2), 4.0), H, R, rates, ones)
    assert unexpected[0] < expected[0]
    assert calm.covariance[0, 0] < 2e-4
    assert shaken.covariance[0, 0] > 0.25
    for _ in range(200):
        shaken, _ = learn(shaken, np.full((1, 2), 1.0), H, R, rates, ones)
    assert shaken.noise[0] == pytest.approx(10, rel=0.01)
    assert shaken.surprise[0] == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize("rule", [learn, kernels.learn], ids=["numpy", "compiled"])
def test_a_jump_without_a_full_covariance_is_refused(rule):
    rates = Rates(3.0, np.full(2, 0.1), -1.6, 1.6)
    e, H = np.zeros((1, 2)), np.zeros((1, 2, 2))
    with pytest.raises(ValueError, match="set full = True"):
        rule(initial_synapses(np.zeros(2), 1, False, rates), e, H, e + 1, rates, np.ones(1), jump=e)
    with pytest.raises(ValueError, match=r"shape of the means, \(1, 2\), got \(1, 3\)"):
        rule(initial_synapses(np.zeros(2), 1, True, rates), e, H, e + 1, rates, np.ones(1), jump=np.zeros((1, 3)))


def test_one_inflation_for_all_synapses_is_one_for_each():
    rng, start = (
        np.random.default_rng(0),
        initial_synapses(np.zeros(6), 3, False, Rates(3.0, np.full(6, 0.3), -1.6, 1.6)),
    )
    e, H, R = rng.normal(0, 3, (3, 4)), rng.normal(size=(3, 4, 6)), np.ones((3, 4))
    for inflation in (0.3, np.full(1, 0.3)):
        one, of_each = (
            kernels.learn(start, e, H, R, Rates(3.0, amount, -1.6, 1.6), np.ones(3))[0]
            for amount in (inflation, np.full(6, 0.3))
        )
        for a, b in zip(one, of_each, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("n", "full", "jumps"), [*((n, full, False) for n in (0, 1, 6, 23) for full in (True, False)), (7, True, True)]
)
def test_the_compiled_rule_is_the_rule(n, full, jumps):
    rng = np.random.default_rng(n)
    rates = Rates(3.0, rng.uniform(0.1, 0.3, n), -1.6, 1.6, noise_scale=1.7)
    one = other = initial_synapses(rng.normal(size=n), 4, full, rates)
    for t in range(20):
        e, H = rng.normal(size=(4, 7)) * (4 if t % 6 > 3 else 0.5), rng.normal(size=(4, 7, n))
        R, common = rng.uniform(0.1, 1, (4, 7)), rng.uniform(1, 2, 4)
        jump = rng.normal(size=(4, 7)) if jumps else None
        (one, likelihood), (other, compiled) = (
            f(s, e, H, R, rates, common, jump) for f, s in ((learn, one), (kernels.learn, other))
        )
        assert compiled == pytest.approx(likelihood)
        for a, b in zip(one, other, strict=True):
            assert a.shape == b.shape
            assert b == pytest.approx(a, abs=1e-9)
    assert n == 0 or one.covariance.max() > 0.01


def test_a_jump_within_the_step_is_the_kalman_filters_with_the_jump_as_a_state_of_its_own():
    p, jump = problem(n=4), np.random.default_rng(1).normal(size=(3, 4))
    rates = Rates(threshold=-75.0, inflation=np.full(4, 0.2), low=-99, high=99, process_noise=0, max_variance=1e9)
    synapses = Synapses(p["mean"], p["covariance"], np.full(3, -100.0), np.zeros(3))  # all opens in this step
    e = p["z"] - (p["H"] @ p["mean"][..., None])[..., 0]
    after, _ = learn(synapses, e, p["H"], p["R"], rates, np.ones(3), jump)
    for i in range(3):
        kf = KalmanFilter(dim_x=8, dim_z=4)
        kf.x = np.concatenate([p["mean"][i], np.zeros(4)])[:, None]
        kf.P = np.zeros((8, 8))
        kf.P[:4, :4], kf.P[4:, 4:] = p["covariance"][i], 0.2 * np.eye(4)
        kf.H, kf.R = np.concatenate([p["H"][i], np.diag(jump[i])], 1), np.diag(p["R"][i])
        kf.update(p["z"][i][:, None])
        both = np.concatenate([np.eye(4), np.eye(4)], 1)
        assert after.mean[i] == pytest.approx((both @ kf.x)[:, 0])
        assert after.covariance[i] == pytest.approx(both @ kf.P @ both.T, abs=1e-8)


def test_beliefs_about_plugs_are_those_of_all_signed_permutations():
    rng, A, variance = np.random.default_rng(0), 3, 0.05
    patterns = [
        np.diag(signs)[list(order)]
        for order in itertools.permutations(range(A))
        for signs in itertools.product((1.0, -1.0), repeat=A)
    ]
    logs = np.zeros(len(patterns))
    p = balanced(np.ones((1, 2, A, A)))
    truth = patterns[29]
    errors = []
    for _ in range(4):
        a = rng.uniform(-1, 1, A)
        seen = truth @ a + variance**0.5 * rng.normal(size=A)
        logs -= [((seen - G @ a) ** 2).sum() / (2 * variance) for G in patterns]
        weight = np.exp(logs - logs.max())
        exact = np.einsum("i,ijk->jk", weight / weight.sum(), patterns)
        p = posterior(p, seen[None], np.full((1, A), variance), a[None])
        errors.append(np.abs(p[0, 0] - p[0, 1] - exact).max())
    assert max(errors) < 0.25  # a product of connections is not a permutation, but near it
    assert errors[-1] < 0.05
    assert p[0, 0] - p[0, 1] == pytest.approx(truth, abs=0.05)


def test_the_compiled_filter_over_plugs_is_the_filter():
    rng, n, C, A = np.random.default_rng(0), 5, 7, 3
    h = Plugs(Sizes(A, np.arange(C), np.zeros(C), np.ones(C), np.ones(C), np.zeros(C), np.zeros(C)))
    rates = Rates(3.0, h.inflation(), *h.bounds())
    one = other = initial_synapses(h.start(), n, h.full, rates)
    for t in range(12):
        expected = Prediction(*(rng.normal(size=s) for s in ((n, C), (n, C, A))), rng.uniform(0.05, 0.5, (n, C)))
        commands = rng.uniform(-1, 1, (n, 1, A))
        y = expected.f + (expected.B @ commands[:, 0, ::-1, None])[..., 0] * (t > 5) + 0.2 * rng.normal(size=(n, C))
        step, common = Transition(np.zeros((n, C)), y, commands, expected), rng.uniform(1, 2, n)
        (one, likelihood), (other, compiled) = (
            f(s, h.innovation(s.mean, step, None)[0], step, rates, common)
            for f, s in ((plugs.learn, one), (plugs_kernel.learn, other))
        )
        assert compiled == pytest.approx(likelihood)
        for a, b in zip(one, other, strict=True):
            assert b == pytest.approx(a, abs=1e-8)
    assert one.mean.min() < 0.1


@pytest.mark.parametrize("number", [np.float32, np.float64])
def test_what_fights_a_disturbance_is_the_damped_least_squares_solution(number):
    rng = np.random.default_rng(0)
    f, B, R = rng.normal(size=(3, 7)), rng.normal(size=(3, 7, 4)), rng.uniform(0.1, 2, (3, 7))
    d, p = rng.normal(size=(3, 7)), Prediction(*(x.astype(number) for x in (f, B, R)))
    BS = (p.B / (p.R * (1 / p.R).mean(1, keepdims=True))[..., None]).transpose(0, 2, 1)
    expected = np.linalg.solve(BS @ p.B + DAMPING * np.eye(4), BS @ d[..., None])[..., 0]
    assert against_disturbance(d, p) == pytest.approx(expected, abs=1e-9 if number is np.float64 else 1e-4)


def test_beliefs_about_plugs_are_kept_as_a_mean_and_a_variance_each():
    p = balanced(np.random.default_rng(0).uniform(0.01, 1, (4, 2, 3, 3)))
    mean = (p[:, 0] - p[:, 1]).reshape(4, 9)
    assert connections(mean, p.sum(1).reshape(4, 9) - mean**2, 3) == pytest.approx(p)
    assert p.sum((1, 2)) == pytest.approx(1)
    assert p.sum((1, 3)) == pytest.approx(1, abs=1e-3)


def test_what_cannot_be_predicted_is_found_early_and_left_out_of_the_training(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(fitting, "ENOUGH_TO_SIFT", 50)
    trained, ticks = [], []

    def noted(model, *args, **kwargs):
        trained.append((len(model.members), len(model.components)))
        train(model, *args, **kwargs)

    monkeypatch.setattr(fitting, "train", noted)
    rng = np.random.default_rng(0)
    o, a = rng.normal(size=(40, 50, 3)), rng.uniform(-1, 1, (40, 50, 2))
    after = o + a @ rng.normal(size=(2, 3))
    after[..., 1] = rng.normal(size=(40, 50))  # noise
    transitions = Transitions(*(x.astype(np.float32) for x in (o, a, after)), np.zeros((40, 50), bool))
    model = ForwardModel(3, 2, net_arch=(16,), members=2)
    shares = fit(model, transitions, transitions, epochs=20, tick=lambda n, loss: ticks.append(n))
    assert trained == [(1, 3), (2, 2)]
    assert model.components.tolist() == [0, 2]
    assert shares.max() < 0.1
    assert sum(ticks) == 2000 * (4 + 16 * 2) == fitting.work_of(20, 2000, 2)


def test_few_transitions_are_learned_from_in_small_batches_and_sifted_if_there_are_enough():
    assert [fitting.batch_size_of(20, n) for n in (3_200, 50_000, 400_000)] == [32, 200, 512]
    assert [fitting.sifting_of(20, n) for n in (3_200, 400_000)] == [0, 4]
    assert fitting.sifting_of(4, 10**6) == 0


@pytest.mark.parametrize(("body", "members"), [("mlp", 1), ("mlp", 2), ("spiking", 1)])
def test_the_forward_model_knows_what_a_wrong_sensor_does_to_its_prediction(body, members):
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    o, a = rng.normal(size=(40, 50, 3)), rng.uniform(-1, 1, (40, 50, 2))
    after = o + np.tanh(o @ rng.normal(size=(3, 3))) + a @ rng.normal(size=(2, 3))
    model = ForwardModel(3, 2, body, (48, 48), members)
    transitions = Transitions(*(x.astype(np.float32) for x in (o, a, after)), np.zeros((40, 50), bool))
    fit(model, transitions, transitions, epochs=8)
    predictor = Predictor(model)
    by = (0.05 if body == "mlp" else 0.3) * rng.normal(size=(50, 3))
    (high, slope), (low, _) = (predictor.linearise(o[0] + sign * by * model.std.numpy(), a[0]) for sign in (1, -1))
    expected = 2 * (slope @ by[..., None])[..., 0]
    assert np.corrcoef(expected.ravel(), (high - low).ravel())[0, 1] > (0.95 if body == "mlp" else 0.7)
    p = predictor.predict(o[0], a[0])
    assert p.f + (p.B @ a[0][..., None])[..., 0] == pytest.approx(predictor.linearise(o[0], a[0])[0], abs=1e-4)


def test_the_compiled_tanh_is_numpys_to_float32s_precision():
    h = np.linspace(-12, 12, 3 * 5 * 801, dtype=np.float32).reshape(3, 5, 801)
    for bias in (np.full((3, 1, 801), 0.3, np.float32), h[:, ::-1].copy()):
        assert tanh_of(h.copy(), bias) == pytest.approx(np.tanh(h.astype(np.float64) + bias), abs=5e-7)
    odd = np.array([[[np.nan, np.inf, -3e38, 1e-30]]], np.float32)
    assert tanh_of(odd, np.zeros_like(odd)) == pytest.approx(np.array([[[np.nan, 1, -1, 1e-30]]]), nan_ok=True)


@pytest.mark.parametrize("body", ["mlp", "spiking"])
def test_a_sensor_beyond_what_the_forward_model_sees_tells_nothing_by_its_slope(body):
    torch.manual_seed(0)
    predictor = Predictor(ForwardModel(3, 2, body, (16, 16)))
    near = predictor.linearise(np.array([[0.1, 0.2, 0.3]]), np.zeros((1, 2)))[1]
    far = predictor.linearise(np.array([[0.1, -11.0, 0.3]]), np.zeros((1, 2)))[1]
    assert near.any(1).tolist() == [[True, True, True]]
    assert far.any(1).tolist() == [[True, False, True]]


@pytest.mark.parametrize(("body", "members"), [("mlp", 1), ("mlp", 3), ("spiking", 2)])
def test_what_the_layer_asks_of_the_forward_model_is_the_mean_of_what_was_trained(body, members):
    torch.manual_seed(0)
    model = ForwardModel(5, 2, body, (16, 16), members)
    o, a = torch.randn(3, 5), torch.rand(3, 2)
    with torch.no_grad():
        f, B, log_R = model(o, a)
    assert len(f) == members
    for got, each in zip(Predictor(model).predict(o.numpy(), a.numpy()), (f, B, log_R.exp()), strict=True):
        assert got == pytest.approx(each.mean(0).numpy(), abs=1e-5)


def test_examples_are_taken_from_more_observations_than_float32_can_count():
    model = ForwardModel(1, 1, "mlp", ())
    model.finish(torch.zeros(1, 1).expand(2**24 + 4, 1))
    assert not model.examples.any()


def test_an_example_that_resembles_an_observation_is_the_nearest_by_what_is_predicted():
    torch.manual_seed(0)
    model = ForwardModel(4, 2, "mlp", (16,))
    o = torch.randn(5000, 4) * torch.tensor([1.0, 10.0, 1.0, 100.0])
    set_scales(model, o, o)
    model.finish(o)
    model.keep(torch.tensor([0, 1, 2]))
    asked, kept = o[:50, :3].numpy() + 0.1, model.examples.numpy()
    distances = (((asked[:, None] - kept) / model.std.numpy()[:3]) ** 2).sum(2)
    examples = Predictor(model).examples
    assert examples is not None
    np.testing.assert_array_equal(examples.nearest(asked), kept[distances.argmin(1)])
    assert {*map(bytes, kept)} < {*map(bytes, o[:, :3].numpy())}


def test_a_forward_model_of_before_which_holds_no_examples_loads():
    saved = ForwardModel(4, 2, "mlp", (16,))
    model = ForwardModel(4, 2, "mlp", (16,))
    model.load_state_dict({name: value for name, value in saved.state_dict().items() if name != "examples"})
    assert torch.equal(model.members[0].f.weight, saved.members[0].f.weight)
    assert Predictor(model).examples is None


def test_members_of_an_ensemble_differ_so_that_their_mean_errs_less_than_they_do():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    o, a, weight = rng.normal(size=(40, 50, 3)), rng.uniform(-1, 1, (40, 50, 2)), rng.normal(size=(3, 3))
    after = o + np.tanh(3 * o @ weight) + a @ rng.normal(size=(2, 3))
    parts = (slice(4), slice(4, None))
    known, unknown = (
        Transitions(*(x[part].astype(np.float32) for x in (o, a, after)), np.zeros((40, 50), bool)[part])
        for part in parts
    )
    model = ForwardModel(3, 2, net_arch=(48,), members=3)
    together = fit(model, known, unknown, epochs=200).mean()
    each = []
    for member in model.members:
        alone = copy.deepcopy(model)
        alone.members = nn.ModuleList([member])
        each.append(unexplained(alone, unknown).mean())
    assert together < 0.97 * np.mean(each)


def steps(n=500):
    rng = np.random.default_rng(0)
    o, a = rng.normal(size=(n // 50, 50, 3)), rng.uniform(-1, 1, (n // 50, 50, 2))
    after = o + np.tanh(o) + a @ rng.normal(size=(2, 3))
    return Transitions(*(x.astype(np.float32) for x in (o, a, after)), np.zeros((n // 50, 50), bool))


@pytest.mark.parametrize("body", ["mlp", "spiking"])
def test_a_forward_model_does_not_depend_on_how_many_threads_train_it(body):
    trained, threads = [], get_num_threads()
    for n in (1, 4):
        torch.manual_seed(0)
        model, ticks = ForwardModel(3, 2, body, (24, 24), members=3), []
        set_num_threads(n)
        try:
            generator = torch.Generator().manual_seed(0)
            train(model, steps(200), 2, generator=generator, tick=lambda n, loss, to=ticks: to.append(n))
        finally:
            set_num_threads(threads)
        assert sum(ticks) == 3 * 2 * 200
        trained.append(model.state_dict())
    assert all(torch.equal(trained[0][name], value) for name, value in trained[1].items())


def test_an_error_while_networks_are_trained_ends_all_of_them(monkeypatch):
    done = []

    def fail(n, loss):
        done.append(threading.get_ident())
        if done[-1] != done[0]:  # one that is not the first to learn
            raise KeyError("enough")

    monkeypatch.setattr(fitting, "get_num_threads", lambda: 3)
    with pytest.raises(KeyError, match="enough"):
        train(ForwardModel(3, 2, net_arch=(8,), members=3), steps(), 1_000_000, tick=fail)


def test_an_episode_that_ends_is_followed_by_its_own_last_observation_and_excitation_changes_by_blocks():
    def act(o, starts):
        return np.full((len(o), 2), 0.5)

    found = collect(act, DummyVecEnv([lambda: Counting(5)] * 6), lambda a: a, 6 * 400, np.random.default_rng(0))
    assert found.o[:7, 0, 0].tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert found.after[:7, 0, 0].tolist() == [1, 2, 3, 4, 5, 1, 2]
    assert found.starts[:7, 0].tolist() == [True, False, False, False, False, True, False]
    means = found.a.reshape(4, 100, 6, 2).mean(1)
    assert (np.abs(means - means[0]).max((1, 2)) > 0.1).tolist() == [False, True, True, True]
    assert np.abs(found.a).max() <= 1


def test_what_environments_write_over_was_copied():
    class Reusing(DummyVecEnv):
        def step_wait(self):
            o, rewards, dones, infos = super().step_wait()
            self.kept = getattr(self, "kept", dones)
            self.kept[:] = dones
            return o, rewards, self.kept, infos

    envs = Reusing([lambda: Counting(5)] * 2)
    found = collect(lambda o, starts: np.zeros((len(o), 2)), envs, lambda a: a, 24, np.random.default_rng(0))
    assert found.starts[:, 0].tolist() == [True, *[False] * 4, True, *[False] * 4, True, False]


def test_the_learning_rate_of_the_forward_model_falls_to_zero(monkeypatch):
    rates = []

    class Spy(torch.optim.Adam):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "Adam", Spy)
    member = ForwardModel(3, 2, net_arch=(4,)).members[0]
    data = torch.randn(64, 3), torch.rand(64, 2), torch.randn(64, 3)
    assert sum(n for n, _ in train_member(member, data, 2, 0.1, torch.Generator())) == 128
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025])
