"""Faults of the agent: what they do to weights, by hand, and to the actions of policies."""

from functools import partial

import numpy as np
import pytest
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO, SAC, TD3

from sb3_plastic import PlasticPPO
from sb3_plastic.errors import UserError
from sb3_plastic.evaluation import evaluate_adaptation
from sb3_plastic.evaluation.fault_kinds import Fault, parse_fault
from sb3_plastic.evaluation.faults import (
    ActorLayer,
    FaultyModel,
    ablate,
    add_weight_noise,
    drift_thresholds,
    quantise,
    synapses_of,
)
from sb3_plastic.perturbations import Scenario, env_id, parse

CHEETAH = env_id("HalfCheetah")
SMALL = {"n_steps": 8, "batch_size": 8, "seed": 0}
RNG = np.random.default_rng


def plastic(**policy_kwargs) -> PlasticPPO:
    kwargs = {"net_arch": [8, 8], "rule": "oja", "backend": "reference", **policy_kwargs}
    return PlasticPPO(
        "PlasticPolicy", "Pendulum-v1", n_steps=16, batch_size=16, chunk_len=8, seed=0, policy_kwargs=kwargs
    )


def mlp() -> PPO:
    return PPO("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8, 8]}, **SMALL)


def lstm(n_lstm_layers: int = 1) -> RecurrentPPO:
    kwargs = {"net_arch": [], "lstm_hidden_size": 8, "n_lstm_layers": n_lstm_layers}
    return RecurrentPPO("MlpLstmPolicy", "Pendulum-v1", policy_kwargs=kwargs, **SMALL)


def play(model, n_steps: int = 30) -> np.ndarray:
    """Actions on fixed observations, [T, 1]."""
    state, start, out = None, np.ones(1, bool), []
    for obs in np.sin(np.arange(3 * n_steps).reshape(n_steps, 1, 3) * 0.7).astype(np.float32):
        action, state = model.predict(obs, state=state, episode_start=start, deterministic=True)
        out.append(action[0])
        start = np.zeros(1, bool)
    return np.array(out)


# -- by hand -----------------------------------------------------------------------------------------------------------


def layer(weights: list, **fields) -> ActorLayer:
    return ActorLayer(torch.tensor(weights, dtype=torch.float64), fields.pop("strengths", None), None, **fields)


def test_quantised_weights_are_steps_of_the_largest() -> None:
    one = layer([[-1.0, 0.3, 0.7], [0.1, 0.0, 0.9]])
    quantise([one], bits=3)  # steps of 1 / 3
    torch.testing.assert_close(one.weights * 3, torch.tensor([[-3.0, 1, 2], [0, 0, 3]], dtype=torch.float64))


def test_the_steps_of_quantised_weights_are_those_of_each_layers_largest() -> None:
    layers = [layer([[-1.0, 0.3]]), layer([[30.0, -8.0]])]
    quantise(layers, bits=3)  # steps of 1 / 3, and of 10
    assert layers[0].weights.tolist() == [pytest.approx([-1, 1 / 3])]
    assert layers[1].weights.tolist() == [pytest.approx([30, -10])]


def test_weight_noise_is_in_proportion_to_each_weight() -> None:
    one = layer(np.tile([0.0, 1.0, -4.0], (4000, 1)).tolist())
    add_weight_noise([one], 0.2, RNG(0))
    torch.testing.assert_close(one.weights.std(0), torch.tensor([0, 0.2, 0.8], dtype=torch.float64), atol=0.03, rtol=0)
    assert (one.weights[:, 0] == 0).all()


def test_an_ablated_neuron_sends_nothing_to_the_next_layer_nor_to_its_own() -> None:
    hidden = layer(np.ones((5, 2)).tolist(), recurrent=2)  # three inputs, and its own two neurons
    after = layer(np.ones((2, 4)).tolist(), strengths=torch.ones(2, 4))
    ablate([hidden, after], 1.0, RNG(0))
    assert (hidden.weights[:3] == 1).all()
    for sent in (hidden.weights[3:], after.weights, after.strengths):
        assert (sent == 0).all()


def test_an_ablated_neuron_of_an_lstm_sends_nothing_to_its_own_gates_nor_to_the_next_layer() -> None:
    first, second, head = synapses_of(lstm(n_lstm_layers=2).policy)
    whole = first.weights.clone()
    with torch.no_grad():
        ablate([first, second, head], 1.0, RNG(0))
    for sent in (first.own, second.weights, second.own, head.weights):
        assert (sent == 0).all()
    assert torch.equal(first.weights, whole)  # what observations send


def test_the_weights_of_an_lstm_are_quantised_in_steps_of_their_largest() -> None:
    one = layer([[-0.9, 0.3]], own=torch.tensor([[2.0, 0.9]], dtype=torch.float64))
    quantise([one], bits=3)  # steps of 2 / 3
    assert one.weights.tolist() == [pytest.approx([-2 / 3, 0])]
    assert one.own.tolist() == [pytest.approx([2, 2 / 3])]


def test_a_threshold_that_has_drifted_is_one_that_was_configured_so() -> None:
    ordinary, high = lively(plastic(threshold=1.0)).policy, plastic(threshold=1.7).policy
    high.load_state_dict(ordinary.state_dict())
    for synapses in synapses_of(ordinary)[:-1]:
        with torch.no_grad():
            for tensor in (synapses.weights, synapses.strengths, synapses.biases):
                tensor.div_(1.7)
    drifted, configured = play(ordinary), play(high)
    np.testing.assert_allclose(drifted, configured, atol=1e-5)


def test_thresholds_drift_by_a_factor_of_each_neuron() -> None:
    one = layer(np.ones((3, 500)).tolist(), spiking=True)
    drift_thresholds([one], 0.3, RNG(0))
    assert (one.weights == one.weights[0]).all()
    assert abs(float(one.weights[0].log().std()) - 0.3) < 0.03


# -- on policies -------------------------------------------------------------------------------------------------------


def lively(model):
    """The same model with larger weights, so that neurons fire and actions are no zeros."""
    with torch.no_grad():
        *hidden, head = synapses_of(model.policy)
        head.weights.normal_()
        for synapses in hidden:
            synapses.weights.mul_(3 if synapses.spiking else 1)
    return model


DAMAGE = {"weight_noise": 0.5, "neurons_ablated": 0.5, "spikes_dropped": 0.5, "weights_quantised": 2}
NOTHING = {"weight_noise": 0, "neurons_ablated": 0, "spikes_dropped": 0, "weights_quantised": 16}


@pytest.mark.parametrize(
    "make", [plastic, mlp, lstm, lambda: plastic(rule="none", recurrent=True), lambda: plastic(decoder="population")]
)
def test_each_fault_changes_the_actions_of_a_copy_and_nothing_where_it_is_nil(make) -> None:
    model = lively(make())
    whole = play(model)
    for kind, value in DAMAGE.items():
        assert np.abs(play(FaultyModel(model, Fault(kind, value), 0)) - whole).max() > 1e-3, kind
        np.testing.assert_allclose(play(FaultyModel(model, Fault(kind, NOTHING[kind]), 0)), whole, atol=5e-3)
    np.testing.assert_array_equal(play(model), whole)


def test_a_model_that_has_just_learned_can_have_a_fault() -> None:
    model = plastic().learn(1)
    np.testing.assert_array_equal(play(FaultyModel(model, Fault("weight_noise", 0), 0)), play(model))


def test_fast_weights_reset_every_step_are_no_fast_weights() -> None:
    model = lively(plastic())
    with torch.no_grad():
        for synapses in synapses_of(model.policy)[:-1]:
            synapses.strengths.fill_(0.5)
    often, never = (play(FaultyModel(model, Fault("fast_weights_reset", n), 0)) for n in (1, 1000))
    np.testing.assert_array_equal(never, play(model))
    assert np.abs(often - never).max() > 1e-3


def test_an_ablated_neuron_is_one_that_does_not_fire_also_to_the_neuromodulator() -> None:
    model = lively(plastic(modulation="simple", net_arch=[12, 12]))
    with torch.no_grad():
        for synapses in synapses_of(model.policy)[:-1]:
            synapses.strengths.fill_(0.5)
            synapses.modulator.fill_(2.0)
        for name, parameter in model.policy.named_parameters():
            if name.endswith(".a"):  # what the modulator makes of it
                parameter.fill_(2.0)
    whole, ablated = play(model), FaultyModel(model, Fault("neurons_ablated", 0.5), 0)
    with torch.no_grad():
        for dead, now in zip(synapses_of(model.policy)[:-1], ablated._layers[:-1], strict=True):
            lost = now.modulator == 0
            assert 0 < lost.sum() < 12
            dead.weights[:, lost], dead.strengths[:, lost], dead.biases[lost] = 0, 0, -10
    np.testing.assert_allclose(play(ablated), play(model), atol=1e-6)
    assert np.abs(play(model) - whole).max() > 1e-3


def test_all_neurons_ablated_leave_the_bias_of_the_actions() -> None:
    model = mlp()
    with torch.no_grad():
        model.policy.action_net.bias.fill_(0.25)
    np.testing.assert_allclose(play(FaultyModel(model, Fault("neurons_ablated", 1), 0)), 0.25)


@pytest.mark.parametrize("algorithm", [SAC, TD3, partial(SAC, use_sde=True)])
def test_actors_of_off_policy_algorithms_have_faults_too(algorithm) -> None:
    model = algorithm("MlpPolicy", "Pendulum-v1", buffer_size=10, policy_kwargs={"net_arch": [8, 8]}, seed=0)
    assert [tuple(s.weights.shape) for s in synapses_of(model.policy)] == [(3, 8), (8, 8), (8, 1)]
    assert np.abs(play(FaultyModel(model, Fault("weight_noise", 0.5), 0)) - play(model)).max() > 1e-4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("weight_nois=0.3", "Did you mean 'weight_noise'"),
        ("weight_noise", "KIND=VALUE"),
        ("weights_quantised=3.5", "a whole number from 2 to 16"),
        ("neurons_ablated=1.5", "a number from 0 to 1"),
    ],
)
def test_a_fault_that_cannot_be_read_is_answered(text, message) -> None:
    with pytest.raises(UserError, match=message):
        parse_fault(text)


@pytest.mark.parametrize(("kind", "message"), [("thresholds_drift", "spiking"), ("fast_weights_reset", "fast weights")])
def test_an_mlp_has_neither_thresholds_nor_fast_weights(kind, message) -> None:
    with pytest.raises(UserError, match=message):
        FaultyModel(mlp(), Fault(kind, 1), 0)


@pytest.mark.parametrize("kind", ["neurons_ablated", "spikes_dropped"])
def test_a_policy_without_hidden_neurons_has_none_to_lose(kind) -> None:
    linear = PPO("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": []}, **SMALL)
    with pytest.raises(UserError, match=f"{kind} needs hidden neurons"):
        FaultyModel(linear, Fault(kind, 1), 0)


def test_a_recurrent_network_whose_neurons_are_not_known_is_refused() -> None:
    model = mlp()
    model.policy.another = torch.nn.GRU(3, 4)
    with pytest.raises(UserError, match="Of recurrent policies those of RecurrentPPO"):
        FaultyModel(model, Fault("weight_noise", 1), 0)


# -- through the evaluation --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: PPO("MlpPolicy", CHEETAH, policy_kwargs={"net_arch": [8]}, **SMALL),
        lambda: RecurrentPPO("MlpLstmPolicy", CHEETAH, policy_kwargs={"lstm_hidden_size": 8, "net_arch": []}, **SMALL),
    ],
)
def test_evaluate_judges_a_faulty_agent_from_the_start_and_from_an_onset(make, tmp_path) -> None:
    model = make()
    with torch.no_grad():
        model.policy.action_net.weight.mul_(100)
    late = parse([{"kind": "mass", "value": 2.0, "schedule": {"form": "onset", "at": {"uniform": [10, 20]}}}])
    nothing = Scenario("nominal", "HalfCheetah", "nominal", False, ())
    scenarios = [nothing, Scenario("m", "HalfCheetah", "novel", True, late)]
    faults = ["neurons_ablated=1", "weight_noise=0.5"]
    out = evaluate_adaptation(model, tmp_path, env=CHEETAH, scenarios=scenarios, steps=40, episodes=2, faults=faults)
    records = out.records[out.records.split == "fault"]
    assert set(records.scenario) == {f"faults/{fault}{late}" for fault in faults for late in ("", "/onset")}
    traces = {cell.scenario: trace for cell, trace in out.traces.items()}
    nominal, onset = traces["nominal"].forward_reward, traces["faults/neurons_ablated=1/onset"]
    assert ((onset.onset >= 10) & (onset.onset <= 20)).all()
    for row, begins, whole in zip(onset.forward_reward, onset.onset, nominal, strict=True):
        # Up to rounding: a batch of one is multiplied in another order than a batch of two.
        np.testing.assert_allclose(row[: begins + 1], whole[: begins + 1], atol=0.02)
        assert np.abs(row[begins + 1 :] - whole[begins + 1 :]).max() > 0.1
    assert not np.array_equal(traces["faults/weight_noise=0.5"].forward_reward[:, 0], nominal[:, 0])
    again = evaluate_adaptation(model, tmp_path, env=CHEETAH, scenarios=scenarios, steps=40, episodes=2, faults=faults)
    assert again.records.equals(out.records)  # read back, not run again


def test_what_is_lost_of_spikes_is_lost_in_one_step():
    assert np.abs(play(FaultyModel(lively(mlp()), Fault("spikes_dropped", 0.5), 0), 40)[-10:]).max() > 0.01


def test_a_threshold_that_drifts_divides_all_that_a_neuron_gets():
    hidden = ActorLayer(torch.ones(3, 4), torch.ones(3, 4), torch.ones(4), spiking=True)
    head = ActorLayer(torch.ones(4, 2), None, torch.ones(2))
    drift_thresholds([hidden, head], 0.3, RNG(0))
    assert torch.equal(hidden.strengths, hidden.weights)
    assert torch.equal(hidden.biases, hidden.weights[0])
    assert (head.weights == 1).all()
    assert (head.biases == 1).all()


def test_fast_weights_are_reset_every_so_many_steps(monkeypatch):
    model, at = plastic(), []
    faulty = FaultyModel(model, Fault("fast_weights_reset", 4), 0)
    monkeypatch.setattr(
        type(model.policy), "zero_fast_weights", lambda _, state, rows: at.append(faulty._steps) or state
    )
    play(faulty, 12)
    assert at == [4, 8]


def test_each_episode_draws_its_own_fault(monkeypatch):
    model = PPO("MlpPolicy", CHEETAH, policy_kwargs={"net_arch": [8]}, **SMALL)
    one, other = (FaultyModel(model, Fault("weight_noise", 0.5), seed)._layers[0].weights for seed in (0, 1))
    assert not torch.equal(one, other)
    drawn, draw = [], FaultyModel.__init__
    monkeypatch.setattr(FaultyModel, "__init__", lambda self, m, f, seed: drawn.append(seed) or draw(self, m, f, seed))
    settings = dict(env=CHEETAH, scenarios="nominal", protocols="static", steps=2, episodes=2, seed=7)
    evaluate_adaptation(model, faults=["weight_noise=0.5"], **settings)
    assert drawn[-2:] == [7, 8]
