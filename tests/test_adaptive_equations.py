"""The layer against its page, docs/adaptation.md, "The equations": one synapse, who acts, what is sent."""

import math
from dataclasses import replace

import numpy as np
import pytest
from toy_robots import Robots, Wanderer, policy

from sb3_plastic.adaptive import AdaptivePolicy, kernels
from sb3_plastic.adaptive.hypotheses import Sizes, make_hypotheses
from sb3_plastic.adaptive.layer import AdaptiveLayer
from sb3_plastic.adaptive.predictor import Prediction
from sb3_plastic.adaptive.synapses import initial_synapses


@pytest.mark.parametrize(
    ("name", "inflation", "k", "largest"),
    [("motors", 0.3, 1, 1.6), ("motors_and_bias", 0.3, 1, 1.6), ("sensor_bias", 0.1, 3, 10.0)],
)
def test_one_synapse_learns_by_the_equations(name, inflation, k, largest):
    """Calm; surprises that a command of .05 cannot explain, until the variance is at its bound; then it learns."""
    layer = policy((name,), threshold=6.0).layer
    rates = layer.rates[1]._replace(inflation=layer.rates[1].inflation[:1])
    synapses = initial_synapses(np.ones(1), 1, layer.hypotheses[1].full, rates)
    m, p, c, r, R = 1.0, 1e-4, 1.0, 1.0, 0.25
    for a, y in [(0.8, 0.9)] * 3 + [(0.05, 9.0)] + [(0.05, 6.0)] * 10 + [(0.9, -0.9), (0.7, -0.8), (-0.5, 0.4)]:
        e = y - m * a
        c = 0.95 * c + 0.05 * min(e * e / (a * p * a + R), 50)
        Rc = R * max(1, c)
        r = 0.5 * r + 0.5 * min(e * e / (a * p * a + Rc), 50)
        p = min(p + 1e-5 + inflation / (1 + math.exp(-2 * (r - 6))), 1)
        K = p * a / (a * p * a + k * Rc)
        m, p = min(m + K * e, largest), p - K * a * p
        arrays = (np.full(shape, x) for x, shape in ((e, (1, 1)), (a, (1, 1, 1)), (R, (1, 1))))
        synapses, _ = kernels.learn(synapses, *arrays, rates, np.ones(1))
        assert [x.item() for x in synapses] == pytest.approx([m, p, r, c])


def test_who_acts_is_decided_by_the_equations():
    """After a collision motors are reversed; then there is noise in the sensors to stay."""
    rng, p = np.random.default_rng(1), policy(("motors", "late_1"), threshold=4.0)
    settings = replace(p.layer.settings, calm=0.0, head_start=6.0, lead=2.0)  # without a dead zone all learn
    p = AdaptivePolicy(Wanderer(), AdaptiveLayer(p.layer.model, settings))

    def sensed(o, t):
        return o + 5.0 * (t == 10) + 0.2 * (t >= 40) * rng.normal(size=o.shape)

    robots = Robots(1, lambda u, t: u * [-1.0, 1.0] if t >= 20 else u, sensed)
    u, state = p.predict(robots.see(), deterministic=True)
    L, J, N, acting, have_acted = np.zeros(3), np.zeros(3), 1.0, 0, set()
    for _ in range(90):
        robots.step(u)
        o, before = robots.see(), p.split_state(state)[0]
        u, state = p.predict(o, state, deterministic=True)
        after = p.split_state(state)[0]

        change, f, B, R = (x[0] for x in (o - before.observation, before.f, before.B, before.R))
        (a, a_before), (m, P) = before.commands[0, :2], (x[0] for x in before.synapses[1][:2])
        H = B * a
        e = np.stack([change - f - H.sum(1), change - f - H @ m, change - f - B @ a_before])
        P = np.minimum(P + 1e-5 + 0.3 / (1 + np.exp(-2 * (after.synapses[1].surprise - 4))), 1)
        S = np.diag(R * max(1, N)) + np.stack([0 * H @ H.T, H * P @ H.T, 0 * H @ H.T])
        d = -0.5 * (e * e / (R * max(1, N))).sum(1)
        hint = -0.5 * (np.einsum("ki,kij,kj->k", e, np.linalg.inv(S), e) + np.linalg.slogdet(S)[1])
        d, hint = (np.maximum(x, x.max() - 40) for x in (d, hint))
        L = 0.9 * np.maximum(L, -5) + d - d[0]
        J = 0.5 * np.maximum(J, -5) + (hint - hint[0]) * (N < 1.5)
        N = 0.95 * N + 0.05 * min(10, (e * e / R).mean(1).min())
        score = L + J - np.array([0, 1, 1]) * 6 * (1 + max(0, N - 1.5))
        acting = int(score.argmax()) if score.max() > score[acting] + 2 else acting

        have_acted |= {acting}
        for got, expected in ((after.evidence, L), (after.hint, J), (after.noise, N), (after.acting, acting)):
            np.testing.assert_allclose(got[0], expected, rtol=1e-4, atol=1e-4)
    assert have_acted >= {0, 1}
    assert N > 3


@pytest.mark.parametrize("name", ["motors", "motors_and_bias", "wires"])
def test_a_command_is_the_minimum_of_what_is_expected_to_go_wrong(name):
    """Of ``E |a - G u - b|^2``, with uncertain entries of G; as it is where nothing is wrong and all is certain."""
    n, rng = 3, np.random.default_rng(0)
    zero = np.zeros(n)
    hypothesis = make_hypotheses([name], Sizes(n, np.arange(n), zero, zero + 1, zero + 1, zero, zero))[1]
    a, p = rng.uniform(-1, 1, (1, n)), Prediction(*(np.zeros((1, n)),) * 3)
    shape = (n, n) if name == "wires" else (n,)
    G, P = rng.uniform(0.5, 1.5, shape) * rng.choice([-1, 1], shape), rng.uniform(0.1, 1, shape)
    b = rng.uniform(-0.3, 0.3, n) if name == "motors_and_bias" else np.zeros(0)
    u = hypothesis.decode(np.r_[G.ravel(), b][None], np.r_[P.ravel(), 0 * b][None], a, p)
    G, P = (x if name == "wires" else np.diag(x) for x in (G, P))
    expected = np.linalg.solve(G.T @ G + np.diag(P.sum(0)), G.T @ (a[0] - (b if len(b) else 0)))
    np.testing.assert_allclose(u[0], expected, rtol=0.02)
    start = hypothesis.start()[None]
    np.testing.assert_allclose(hypothesis.decode(start, 0 * start, a, p), a, rtol=0.004 if name == "wires" else 1e-12)
