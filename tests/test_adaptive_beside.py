"""A policy with an adaptive layer inside: its forward model learns from PPO's rollouts, and a trained zip adapts."""

import copy
from dataclasses import asdict, replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from envs import random_vec_env, small_ppo
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from toy_robots import Robots

import sb3_plastic.adaptive.beside as beside
from sb3_plastic import PlasticES, PlasticPPO, load_policy
from sb3_plastic.adaptive import AdaptivePolicy
from sb3_plastic.adaptive.beside import LayerBeside
from sb3_plastic.adaptive.collect import Transitions
from sb3_plastic.adaptive.fit import echoes
from sb3_plastic.adaptive.hypotheses import HYPOTHESES, OF_COMMANDS
from sb3_plastic.adaptive.hypotheses.motors import Motors
from sb3_plastic.adaptive.options import LayerOptions
from sb3_plastic.adaptive.rollouts import split, transitions_of
from sb3_plastic.artefacts.inspection import inspect_model
from sb3_plastic.cli import main
from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.controls import Player, controls_of, without_layer
from sb3_plastic.wrappers import VecPreviousActionReward

SMALL = dict(net_arch=(32,), epochs=20, batch_size=64, hypotheses=("motors", "wires"))


def toy_ppo(adaptive=SMALL, rule="oja", env=None, around=lambda venv: venv):
    class Toy(gym.Env):
        observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        action_space = spaces.Box(-1, 1, (2,), np.float32)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.robots = Robots(1, seed=int(self.np_random.integers(1000)))
            return self.robots.see()[0].astype(np.float32), {}

        def step(self, action):
            self.robots.step(np.asarray(action, float)[None])
            o = self.robots.see()[0]
            return o.astype(np.float32), -float(np.abs(o).sum()), False, self.robots.t >= 50, {}

    env = env or around(make_vec_env(Toy, 8, seed=0))
    return PlasticPPO(
        "PlasticPolicy",
        env,
        n_steps=64,
        batch_size=256,
        n_epochs=2,
        seed=0,
        policy_kwargs=dict(net_arch=[16], rule=rule, modulation="simple", adaptive=adaptive, log_std_init=-0.5),
    )


@pytest.fixture(scope="module")
def trained():
    model = toy_ppo()
    model.learn(8 * 64 * 6)
    return model


def play(model, steps, gain, predictor=None):
    """Run the policy on robots whose motors have a gain from step 20 on. :return: state, and applied commands"""
    robots = Robots(6, applied=lambda u, t: u * gain if t >= 20 else u)
    state, starts, seen = None, np.ones(6, bool), []
    for _ in range(steps):
        o = robots.see().astype(np.float32)
        actions, state = (predictor or model).predict(o, state, starts, deterministic=False)
        robots.step(actions.astype(float))
        starts = np.zeros(6, bool)
        seen.append(actions)
    return state, np.array(seen)


def test_a_trained_policy_finds_out_what_has_changed(trained):
    state, _ = play(trained, 150, np.array([-1.0, 0.5]))
    adaptive = trained.policy.adaptive_policy()
    assert set(adaptive.acting(state)) <= {"motors", "wires"}
    assert adaptive.estimates(state)["motors"].mean.mean(0) == pytest.approx([-1, 0.5], abs=0.25)


def test_nothing_happens_on_the_robot_of_the_training(trained):
    state, _ = play(trained, 100, np.ones(2))
    assert trained.policy.adaptive_policy().acting(state).count("nominal") >= 5


@pytest.fixture(scope="module")
def plain_and_layered():
    """Two short trainings that differ by the layer alone."""
    return [toy_ppo(adaptive=a).learn(8 * 64 * 2) for a in (False, SMALL)]


def test_training_is_bit_for_bit_the_same_with_it_and_without(plain_and_layered):
    plain, layered = plain_and_layered
    with_layer = dict(layered.policy.named_parameters())
    for name, parameter in plain.policy.named_parameters():
        assert parameter.equal(with_layer[name]), name


def test_the_first_minibatch_has_log_ratios_of_zero(trained):
    ratios = []
    evaluate = trained.policy.evaluate_actions

    def watch(obs, actions):
        values, log_prob, entropy = evaluate(obs, actions)
        ratios.append(log_prob.detach())
        return values, log_prob, entropy

    buffer = trained.rollout_buffer
    trained.policy.evaluate_actions = watch
    try:
        old = []
        get = buffer.get
        buffer.get = lambda size: (old.append(batch.old_log_prob) or batch for batch in get(size))
        trained.learn(8 * 64)
    finally:
        del trained.policy.evaluate_actions, buffer.get
    assert torch.equal(ratios[0], old[0].flatten()) or (ratios[0] - old[0].flatten()).abs().max() < 1e-5


def test_a_saved_model_adapts_alike_and_so_does_its_export(trained, tmp_path):
    trained.save(tmp_path / "m")
    loaded = PlasticPPO.load(tmp_path / "m")
    trained.policy.export(tmp_path / "e")
    exported = load_policy(tmp_path / "e")
    runs = []
    for model in (trained, loaded, exported):
        torch.manual_seed(0)
        runs.append(play(model, 60, np.array([-1.0, 1.0])))
    for state, actions in runs[1:]:
        assert np.array_equal(actions, runs[0][1])
        assert all(np.array_equal(a, b) for a, b in zip(state, runs[0][0], strict=True))


def test_what_options_left_to_their_defaults_stays_as_it_was_saved(trained, tmp_path, monkeypatch):
    trained.save(tmp_path / "m.zip")
    defaults = asdict(LayerOptions()) | dict(members=2, lifetime=True)  # of a version to come
    monkeypatch.setattr(LayerOptions.__init__, "__defaults__", tuple(defaults.values()))
    assert LayerOptions().members == 2
    again = PlasticPPO.load(tmp_path / "m.zip")
    again.save(tmp_path / "again.zip")
    for model in (again, PlasticPPO.load(tmp_path / "again.zip")):
        assert model.policy.beside.options == trained.policy.beside.options
        assert {*model.policy_kwargs["adaptive"]} == {*SMALL}
    other = dict(policy_kwargs=trained.policy_kwargs | {"adaptive": {"epochs": 9}})
    with pytest.raises(
        UserError, match=r"saved by .* with adaptive=.*'epochs': .*but loads with adaptive=.*'epochs': 9"
    ):
        PlasticPPO.load(tmp_path / "m.zip", custom_objects=other)


def test_inspect_tells_of_the_layer_inside_a_zip_and_its_export(trained, tmp_path, capsys):
    trained.save(tmp_path / "m")
    trained.policy.export(tmp_path / "e")
    settings, beside = trained.policy.adaptive_policy().layer.settings, trained.policy.beside
    for path in (tmp_path / "m.zip", tmp_path / "e"):
        found = inspect_model(path)
        layer = found["adaptive layer"]
        assert layer["forward model"] == "1 x mlp, layers of 32"
        assert layer["surprise threshold of each hypothesis"] == settings.surprise_threshold
        assert [*layer["share unexplained, by observation"]] == beside.components
        assert layer["kept over episodes"] is False
        n = sum(tensor.numel() for tensor in beside.model.state_dict().values())
        assert layer["parameters"] == found["parameters"]["beside"] == n
    assert main(["inspect", str(tmp_path / "m.zip")]) == 0
    assert "surprise threshold of each hypothesis:" in capsys.readouterr().out


def test_inspect_says_of_a_layer_that_is_not_there_yet_that_it_is_not(tmp_path):
    toy_ppo().save(tmp_path / "m")
    assert inspect_model(tmp_path / "m.zip")["adaptive layer"]["calibrated"] is False


def test_the_layer_knows_what_a_normalised_sensor_shows_that_shows_nothing(tmp_path):
    normalized = VecNormalize(toy_ppo().get_env())
    model = toy_ppo(env=normalized).learn(8 * 64 * 2)
    zero = normalized.normalize_obs(np.zeros(3))
    assert model.policy.adaptive_policy().layer.settings.sensor_zero == pytest.approx(zero, rel=1e-6)
    model.save(tmp_path / "m")
    loaded = PlasticPPO.load(tmp_path / "m").policy.adaptive_policy().layer
    assert loaded.settings == model.policy.adaptive_policy().layer.settings


def test_with_other_settings_a_layer_inside_observes_what_its_policy_does():
    normalized = VecNormalize(toy_ppo().get_env())
    layered = toy_ppo(env=normalized).learn(8 * 64 * 4).policy.adaptive_policy()
    count = normalized.obs_rms.count
    changed = layered.with_settings(replace(layered.layer.settings, hypotheses=("motors",)), normalized, 4000)
    assert changed.layer.names == ["nominal", "motors"]
    assert changed.layer.settings.surprise_threshold["nominal"] < 3  # raw observations surprise: 7
    assert normalized.obs_rms.count == count
    with pytest.raises(UserError, match="This layer observes what VecNormalize shows"):
        layered.with_settings(layered.layer.settings, normalized.venv, 4000)


def test_wherever_the_policy_goes_its_layer_stays_where_it_is_asked(trained):
    beside = copy.deepcopy(trained.policy.beside).to("meta")
    assert {tensor.device.type for tensor in (*beside.parameters(), *beside.buffers())} == {"cpu"}
    rng = np.random.default_rng(0)
    o, a = rng.normal(size=(64, 8, 3)), rng.uniform(-1, 1, (64, 8, 2))
    assert np.isfinite(beside.learn(transitions_of(o, a, np.zeros((64, 8))), 1.0)["nis"])


def test_controls_take_the_layer_away(trained):
    gain = np.array([-1.0, 0.5])
    assert controls_of(trained).plastic_layers() == ["motors", "wires", "layer 0"]
    frozen = trained.policy.prepared(frozen=True)
    state, _ = play(trained, 60, gain, frozen)
    assert trained.policy.adaptive_policy().acting(state) == ["nominal"] * 6
    state, _ = play(trained, 60, gain)
    zeroed = trained.policy.zero_fast_weights(state, np.arange(6) == 2)
    norms = trained.policy.fast_weight_norms(zeroed)
    assert norms.shape == (6, 3)
    assert (norms[2] == 0).all()
    assert (norms[3, :2] > 0).all()


def test_the_layer_alone_can_be_off_and_the_policys_own_plasticity_goes_on(trained):
    runs = {}
    for name, predictor in (("off", trained.policy.prepared(frozen=True)), ("layer_off", without_layer(trained))):
        torch.manual_seed(0)
        state, runs[name] = play(trained, 60, np.array([-1.0, 0.5]), predictor)
    norms = trained.policy.fast_weight_norms(state)
    assert (norms[:, :2] == 0).all()
    assert (norms[:, 2] > 0).all()
    assert trained.policy.adaptive_policy().acting(state) == ["nominal"] * 6
    assert not np.array_equal(runs["off"], runs["layer_off"])


def test_with_the_layer_off_a_policy_is_the_one_that_was_trained_without(plain_and_layered):
    plain, layered = plain_and_layered
    runs = []
    for predictor in (plain, without_layer(layered)):
        torch.manual_seed(0)
        runs.append(play(layered, 60, np.array([-1.0, 0.5]), predictor)[1])
    assert np.array_equal(*runs)


def test_a_lifetime_and_a_control_keep_what_a_layer_inside_has_found(trained):
    for lifetime, control, kept in (
        (False, None, False),
        (True, None, True),
        (False, True, True),
        (True, False, False),
    ):
        model = toy_ppo(SMALL | dict(lifetime=lifetime))
        model.set_parameters(trained.get_parameters())
        predictor = model.policy.prepared(keep_fast_weights=control)
        state, _ = play(model, 40, np.array([-1.0, 0.5]), predictor)
        _, state = predictor.predict(np.zeros((6, 3), np.float32), state, np.ones(6, bool))
        assert (model.policy.adaptive_policy().estimates(state)["motors"].mean[:, 0] < 0).all() == kept


def test_parameters_that_are_set_bring_their_layer(trained, plain_and_layered):
    model = toy_ppo()
    for other in (trained, plain_and_layered[1]):
        model.set_parameters(other.get_parameters())
        layer, expected = (m.policy.adaptive_policy().layer for m in (model, other))
        assert layer.settings == expected.settings
        assert torch.equal(layer.model.members[0].f.weight, expected.model.members[0].f.weight)


def test_a_model_that_has_not_both_has_no_such_control(trained):
    static = toy_ppo(rule="none").learn(8 * 64 * 2)
    assert static.policy.adaptive_policy() is not None
    for model in (toy_ppo(adaptive=False), static, trained.policy.adaptive_policy()):
        with pytest.raises(UserError, match=r"no control 'layer_off'.*trained with an adaptive layer"):
            Player(model, "layer_off")


def test_while_it_learns_there_is_no_layer_and_a_save_calibrates_it(tmp_path):
    model = toy_ppo()
    seen = []

    def watch(local, _):
        seen.append(model.policy.adaptive_policy())
        if model.num_timesteps == 8 * 64 + 8:
            model.save(tmp_path / "best")
        return True

    model.learn(8 * 64 * 3, callback=watch)
    assert [layer is None for layer in seen] == [True] * 65 + [False] * 63 + [True] * 64
    best, last = (m.policy.adaptive_policy().layer for m in (PlasticPPO.load(tmp_path / "best"), model))
    assert best.settings.surprise_threshold != last.settings.surprise_threshold


@pytest.mark.parametrize(
    ("adaptive", "message"),
    [
        ({"wings": 1}, "adaptive has no argument 'wings'"),
        ({"hypotheses": ["wings"]}, "Unknown hypothesis 'wings'"),
        ({"forward_model": "magic"}, "Unknown forward model 'magic'"),
        ({"epochs": 0}, "epochs must be"),
        ({"probing": -1}, "probing must be"),
        ({"lost_at": -1}, "lost_at must be"),
        ({"forward_model": "actor", "members": 3}, "3 members would agree"),
    ],
)
def test_options_that_do_not_exist_are_refused(adaptive, message):
    with pytest.raises(ValueError, match=message):
        small_ppo(policy_kwargs=dict(adaptive=adaptive))


def test_other_spaces_are_refused():
    from gymnasium import spaces

    with pytest.raises(ValueError, match="Box with one axis as action space"):
        small_ppo(random_vec_env(action_space=spaces.Discrete(2)), policy_kwargs=dict(adaptive=True))


def test_what_follows_an_episode_is_not_learned_from():
    o = np.arange(12.0).reshape(6, 2, 1)
    starts = np.zeros((6, 2))
    starts[3, 1] = 1
    found = transitions_of(o, np.zeros((6, 2, 1)), starts)
    assert np.isnan(found.after[2, 1])
    assert found.after[2, 0] == o[3, 0]
    assert np.isnan(found.after).sum() == 1


def test_components_that_repeat_the_command_are_no_evidence():
    rng = np.random.default_rng(0)
    a = rng.uniform(-1, 1, (200, 2, 2))
    o = rng.normal(size=(200, 2, 3))
    after = o + 0.1 * rng.normal(size=o.shape)
    after[..., 2] = 3 * a[..., 1] + 1
    found = transitions_of(o, a, np.zeros((200, 2)))._replace(after=after[:-1].astype(np.float32))
    assert echoes(found).tolist() == [False, False, True]


def test_a_command_that_is_repeated_normalised_is_no_evidence_either():
    model = toy_ppo(around=lambda venv: VecNormalize(VecPreviousActionReward(venv)))
    model.learn(8 * 64 * 6)
    assert model.policy.beside.components == [0, 1, 2, 5]  # sensors, action, reward


def test_a_spiking_forward_model_learns_beside_too():
    given = {**SMALL, "forward_model": "spiking", "epochs": 10, "members": 2, "probing": 0.2, "lost_at": 4.0}
    options = LayerOptions.of(given)
    env = random_vec_env()
    beside = LayerBeside(env.observation_space, env.action_space, options)
    rng = np.random.default_rng(0)
    for _ in range(3):
        a = rng.uniform(-1, 1, (65, 8, 4))
        o = np.cumsum(0.1 * np.concatenate([np.zeros((1, 8, 4)), a[:-1]]), 0)
        beside.learn(transitions_of(o, a, np.zeros((65, 8))), 1.0)
    assert beside.settle()["surprise"] > 0
    assert beside.is_settled()
    layer = beside.layer()
    assert (layer.model.kind, layer.model.net_arch, len(layer.model.members)) == ("spiking", (32,), 2)
    assert (layer.settings.probing, layer.settings.lost_at) == (0.2, 4.0)


def test_a_body_that_cannot_be_predicted_gets_no_layer_and_a_warning():
    with pytest.warns(UserWarning, match="predicts no component"):
        model = small_ppo(policy_kwargs=dict(adaptive=SMALL)).learn(96)
    assert model.policy.adaptive_policy() is None
    assert len(model.predict(np.zeros((2, 4), np.float32))[0]) == 2


class Blind(gym.Env):
    """Shows nothing; or ends in every step."""

    observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Box(-1, 1, (1,))

    def __init__(self, n_steps):
        self.n_steps = n_steps

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.see(), {}

    def see(self):
        moves = self.n_steps == 1
        return np.float32([self.np_random.uniform(-1, 1) if moves else 0])

    def step(self, action):
        self.t += 1
        return self.see(), 0.0, self.t >= self.n_steps, False, {}


@pytest.mark.parametrize("n_steps", [1, 20])
@pytest.mark.parametrize("forward_model", ["mlp", "spiking"])
@pytest.mark.filterwarnings("ignore:var")
def test_where_nothing_can_be_learned_a_training_ends_well_and_its_model_is_saved(n_steps, forward_model, tmp_path):
    env = make_vec_env(lambda: Blind(n_steps), 3, seed=0)
    options = dict(net_arch=[8], forward_model=forward_model, batch_size=16)
    model = small_ppo(env, policy_kwargs=dict(adaptive=options))
    with pytest.warns(UserWarning, match="predicts no component"):
        model.learn(96)
    model.save(tmp_path / "model")
    assert model.policy.adaptive_policy() is None


def test_an_observation_that_is_a_dict_is_answered(trained):
    with pytest.raises(UserError, match="Observations are arrays, got a dict"):
        trained.predict({"obs": np.zeros((2, 3), np.float32)})


def test_a_model_that_adapts_by_itself_gets_no_second_layer(trained):
    with pytest.raises(ValueError, match="adapts by itself"):
        AdaptivePolicy.fit(trained, trained.get_env())


def test_the_actors_own_spikes_can_be_the_features():
    options = {**SMALL, "forward_model": "actor", "learning_rate": 1e-2}
    model = toy_ppo(adaptive=options).learn(8 * 64 * 4)
    state, _ = play(model, 150, np.array([-1.0, 0.5]))
    adaptive = model.policy.adaptive_policy()
    assert len(adaptive.layer.mean) == 3 + 16
    assert adaptive.layer.components.max() < 3
    assert set(adaptive.acting(state)) <= {"motors", "wires"}
    assert adaptive.estimates(state)["motors"].mean.mean(0) == pytest.approx([-1, 0.5], abs=0.25)
    assert adaptive.with_hypotheses("motors").predict(np.zeros((2, 3)))[0].shape == (2, 2)
    with pytest.raises(UserError, match="actor's spikes cannot serve 'sensor_bias', but nominal, motors"):
        adaptive.with_hypotheses("sensor_bias")
    with pytest.raises(ValueError, match="save or export that one"):
        adaptive.save("nowhere")
    with pytest.raises(ValueError, match="train the policy again"):
        adaptive.with_settings(adaptive.layer.settings, model.get_env())
    with pytest.raises(ValueError, match="leaky readout"):
        small_ppo(policy_kwargs=dict(readout="rate", adaptive={"forward_model": "actor"}))
    with pytest.raises(ValueError, match="actor's spikes cannot serve 'late_1'"):
        LayerOptions.of({"forward_model": "actor", "hypotheses": ["late_1"]})


def test_the_actors_spikes_serve_a_hypothesis_of_ones_own_that_says_so(monkeypatch, request):
    monkeypatch.setitem(HYPOTHESES, "mine", Motors)
    with pytest.raises(UserError, match=r"cannot serve 'mine'.* Append one of your own to OF_COMMANDS"):
        LayerOptions.of({"forward_model": "actor", "hypotheses": ["mine"]})
    OF_COMMANDS.append("mine")
    request.addfinalizer(lambda: OF_COMMANDS.remove("mine"))
    assert LayerOptions.of({"forward_model": "actor", "hypotheses": ["mine"]}).names() == ("mine",)


def test_evolution_refuses_a_layer_that_could_not_learn():
    with pytest.raises(ValueError, match="sb3-plastic adapt"):
        PlasticES("PlasticPolicy", "Pendulum-v1", policy_kwargs=dict(net_arch=[8], adaptive=True))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("true", "`adaptive` is true, false or a mapping"),
        ({"net_arch": 64}, "net_arch of `adaptive` is a list, got 64"),
        ({"net_arch": [64, -1]}, "net_arch must be a whole number at least 1, got -1"),
        ({"forward_model": "spiking", "net_arch": []}, "A spiking forward model needs a layer"),
        ({"net_arch": None}, "net_arch of `adaptive` is a list, got None"),
        ({"hypotheses": "motors"}, "hypotheses of `adaptive` is a list"),
        ({"hypotheses": []}, "hypotheses of `adaptive` are none"),
        ({"hypotheses": ["motors", "motors"]}, "Each hypothesis is named once, got motors, motors"),
        ({"lifetime": "no"}, "lifetime of `adaptive` is true or false"),
        *(({name: 0}, f"{name} must be") for name in ("members", "batch_size", "window", "learning_rate")),
    ],
)
def test_options_that_are_none_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        LayerOptions.of(given)


def test_an_empty_mapping_of_options_is_a_layer_with_the_defaults():
    assert toy_ppo(adaptive={}).policy.beside.options == LayerOptions() == LayerOptions.of({"hypotheses": None})
    with pytest.raises(UserError, match="true, false or a mapping"):
        toy_ppo(adaptive=None)


def test_nominal_may_be_named_and_a_hypothesis_is_a_name():
    named = dict(forward_model="actor", hypotheses=["nominal", "motors"])
    assert LayerOptions.of(named).names() == ("nominal", "motors")
    with pytest.raises(UserError, match="is a name, got"):
        LayerOptions.of(dict(hypotheses=[["motors"]]))


def rollout_of(n_steps=16, n=2, value=None):
    rng = np.random.default_rng(0)
    o = rng.normal(size=(n_steps, n, 3)).astype(np.float32)
    a = rng.uniform(-1, 1, (n_steps, n, 2)).astype(np.float32)
    return Transitions(
        o,
        a,
        o + 1 if value is None else o + value * rng.normal(size=o.shape).astype(np.float32),
        np.zeros((n_steps, n), bool),
    )


def small_layer(**options):
    options = beside.LayerOptions.of(dict(net_arch=[4], epochs=1, batch_size=8) | options)
    return beside.LayerBeside(spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,)), options)


def test_beside_a_training_the_learning_rate_falls_with_it(trained):
    assert trained.policy.beside._optimizer.param_groups[0]["lr"] == 0  # as at the end of each training
    layer, rollout = small_layer(learning_rate=0.1), rollout_of(value=1.0)
    rates = []
    for remaining in (1.0, 0.25, -0.1):
        layer.learn(rollout, remaining)
        rates.append(layer._optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.1, 0.025, 0.0])


@pytest.mark.parametrize(("epochs", "batch_size", "updates"), [(3, 8, 6), (2, 5, 6), (1, 99, 1)])
def test_each_transition_is_learned_from_as_often_as_asked(epochs, batch_size, updates):
    layer = small_layer(epochs=epochs, batch_size=batch_size)
    layer.learn(rollout_of(value=1.0), 1.0)  # 16 transitions, of one environment
    assert {int(of["step"]) for of in layer._optimizer.state.values()} == {updates}


def test_what_is_held_out_is_not_learned_from_and_the_window_forgets():
    layer, seen = small_layer(window=20), []
    for t in range(4):
        o = np.full((16, 2, 3), 10.0 * t, np.float32) + np.random.default_rng(t).normal(size=(16, 2, 3)).astype(
            np.float32
        )
        o[:, 1] += 1000  # the environment that is held out
        layer.learn(Transitions(o, np.zeros((16, 2, 2), np.float32), o + o, np.zeros((16, 2), bool)), 1.0)
        seen.append(layer.model.mean.mean().item())
    # At most the last two rollouts, of the first environment.
    assert seen == pytest.approx([0, 5, 15, 25], abs=0.5)


def test_of_one_environment_the_last_fifth_is_held_out():
    rollout = rollout_of(10, 1)
    training, held_out = split(rollout)
    assert np.array_equal(training.o, rollout.o[:8])
    assert np.array_equal(held_out.o, rollout.o[8:])
    training, held_out = split(rollout_of(10, 16))
    assert (training.o.shape[1], held_out.o.shape[1]) == (14, 2)
    assert np.array_equal(held_out.a, rollout_of(10, 16).a[:, 14:])
