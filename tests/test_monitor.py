"""What one sees in TensorBoard, read back from real event files."""

import numpy as np
import pytest
import torch
from envs import random_vec_env, small_ppo
from gymnasium import spaces
from stable_baselines3.common.logger import configure

from sb3_plastic import buffers
from sb3_plastic.callbacks import CHARTS
from sb3_plastic.monitor import episode_sequences, layer_signals, signal_statistics, snn_statistics
from sb3_plastic.snn.state import SNNState

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def read_scalars(folder):
    """All scalars of the run in a folder: tag -> values."""
    events = event_accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_shows_the_network_at_every_update(tmp_path):
    model = small_ppo(policy_kwargs=dict(rule="oja", modulation="simple"))
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    model.learn(4 * 96)
    scalars = read_scalars(tmp_path)
    for layer in (0, 1):
        shown = {tag for tag in scalars if tag.startswith(f"snn/layer{layer}_")}
        # A statistic without a chart is told here, one that the guide does not explain in test_docs.py.
        assert shown == {f"snn/layer{layer}_{name}" for names in CHARTS.values() for name in names}
        for tag in shown:
            values = scalars[tag]
            assert len(values) == 3  # SB3 writes what an update recorded with the next rollout
            assert np.isfinite(values).all()
        assert 0.05 < min(scalars[f"snn/layer{layer}_spike_rate"]) < 0.95
    assert len(set(scalars["snn/layer0_h_norm"])) == 3
    assert {"train/grad_norm_actor", "train/grad_norm_critic", "train/grad_norm_plasticity"} <= set(scalars)


def test_a_static_network_shows_its_spikes_and_no_plasticity():
    model = small_ppo(policy_kwargs=dict(rule="none"))
    model.learn(96)
    names = {name.split("_", 1)[1] for name in snn_statistics(model.policy, model.rollout_buffer)}
    assert names == {"spike_rate", "silent", "w_norm"}


def test_statistics_say_what_the_network_does():
    model = small_ppo(policy_kwargs=dict(rule="hebb", modulation="simple", h_max=1e-4, eta_init=10.0))
    snn = model.policy.snn
    with torch.no_grad():
        snn.layers[0].a.zero_()
        snn.layers[0].d.copy_(torch.arange(9.0))
        snn.layers[1].w.fill_(-10.0)
    model.collect_rollouts(model.env, model._setup_learn(96)[1], model.rollout_buffer, 32)
    list(model.rollout_buffer.get())
    statistics = snn_statistics(model.policy, model.rollout_buffer)
    assert statistics["snn/layer0_modulator_mean"] == pytest.approx(4.0)
    assert statistics["snn/layer0_h_saturated"] > 0.5
    assert statistics["snn/layer0_h_norm"] <= 1e-4
    assert statistics["snn/layer1_silent"] == 1.0
    assert statistics["snn/layer1_spike_rate"] == 0.0
    assert statistics["snn/layer1_w_norm"] == pytest.approx(10.0)
    assert statistics["snn/layer1_eta_mean"] == pytest.approx(10.0)


def test_a_single_synapse_has_no_spread():
    one = dict(net_arch=dict(pi=[1], vf=[4]), rule="oja", modulation="simple")
    model = small_ppo(random_vec_env(spaces.Box(-1, 1, (1,)), n_envs=1), chunk_len=32, policy_kwargs=one)
    model.learn(32)
    statistics = snn_statistics(model.policy, model.rollout_buffer)
    assert [statistics[f"snn/layer0_{name}_std"] for name in ("alpha", "eta", "modulator")] == [0, 0, 0]


@pytest.mark.parametrize("encoder", ["current", "population"])
def test_an_episode_replayed_step_by_step_does_what_it_did(encoder):
    model = small_ppo(policy_kwargs=dict(rule="oja", modulation="simple", encoder=encoder))
    env, observations, states = model.env, [model.env.reset()], []
    state, starts = None, np.ones(3, bool)
    for _ in range(6):
        seen = observations[-1][:1]
        action, state = model.predict(seen, state=state, episode_start=starts[:1], deterministic=True)
        states.append(state)
        following, _, starts, _ = env.step(np.repeat(action, 3, 0))
        observations.append(following.copy())
    episode = episode_sequences(model.policy, [obs[:1] for obs in observations[:6]], states)
    layers = layer_signals(model.policy, episode)
    played = [SNNState.from_tensors([torch.as_tensor(array) for array in state]).layers for state in states]
    for i, layer in enumerate(layers):
        assert layer.state.h.equal(torch.cat([step[i].h for step in played]))
        assert layer.spikes.shape[2] == 6
        assert layer.spikes.any()


def test_chunks_are_chosen_where_the_buffer_lies(monkeypatch):
    model, seen = small_ppo(), []
    model.learn(96)
    buffer = model.rollout_buffer
    for name, value in vars(buffer).copy().items():
        if isinstance(value, torch.Tensor):
            setattr(buffer, name, value.to("meta"))
    buffer.device = torch.device("meta")
    monkeypatch.setattr(buffers, "pick", lambda chunked, index: seen.append(index.device) or chunked)
    buffer.sequences(torch.arange(2))  # on the CPU, as those of the statistics are
    assert seen == [buffer.device]


def test_statistics_are_of_both_signs_of_fast_weights_and_of_all_that_a_neuron_did():
    model = small_ppo(policy_kwargs=dict(rule="oja", modulation="simple"))
    model.learn(96)
    layer = layer_signals(model.policy, model.rollout_buffer.sequences(torch.arange(2)))[0]
    bound, spikes = layer.config.h_max, torch.zeros_like(layer.spikes)
    spikes[-1, -1, 0, :3] = 1  # three of nine neurons, once, in one of the two sequences
    h = torch.zeros_like(layer.state.h)
    h[0] = -bound
    done = layer._replace(
        spikes=spikes,
        state=layer.state._replace(h=h),
        parameters=layer.parameters._replace(alpha=torch.full_like(layer.parameters.alpha, 0.5)),
        modulator=torch.tensor([[1.0, 3.0], [1.0, 3.0]]),
    )
    found = {name.removeprefix("snn/layer0_"): value for name, value in signal_statistics([done]).items()}
    assert found["h_saturated"] == 0.5
    assert found["h_norm"] == pytest.approx(bound / 2**0.5)
    assert found["h_effect"] == pytest.approx(0.5 * bound / 2**0.5)
    assert found["alpha_std"] == 0
    assert found["silent"] == pytest.approx(6 / 9)
    assert found["modulator_mean"] == 2
    assert found["modulator_std"] == pytest.approx(1.1547, rel=1e-4)  # over neurons and sequences
