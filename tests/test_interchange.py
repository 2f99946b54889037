"""Policies in other formats do what the original does, or are refused with the reason."""

import re
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from envs import RandomEnv, random_vec_env, small_ppo
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from scan_helpers import OTHER_OPTIONS
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from sb3_plastic import PlasticPPO
from sb3_plastic.artefacts import converting
from sb3_plastic.artefacts.converting import convert_model
from sb3_plastic.cli import main
from sb3_plastic.errors import UserError
from sb3_plastic.export import Normalization
from sb3_plastic.interchange import FrozenPolicy, NirPolicy, OnnxPolicy, compare, freeze, to_nir, to_onnx
from sb3_plastic.interchange.nir import is_hard_reset
from sb3_plastic.interchange.step import DeterministicStep, check_convertible, state_names
from sb3_plastic.snn.config import SNNConfig
from sb3_plastic.snn.neurons import NEURONS, lif
from sb3_plastic.snn.scan.reference import plastic_scan_reference
from sb3_plastic.wrappers import VecPreviousActionReward

RESULTS = Path(__file__).parents[1] / "docs" / "results"
BOX = spaces.Box(-np.inf, np.inf, (3,), np.float64)
IMAGES = spaces.Box(0, 255, (36, 36, 1), np.uint8)
ACTIONS = spaces.Box(np.float32([-1, -2]), np.float32([1, 2]))
NORMALIZATION = Normalization({"": np.array([0.1, -0.2, 0.3])}, {"": np.array([1.0, 2.0, 0.0])}, epsilon=0.2, clip=1.5)

KINDS = {
    "oja": dict(rule="oja", modulation="simple"),
    "everything": dict(
        rule=["bcm", "hebb"],
        modulation=["retroactive", "none"],
        recurrent=True,
        external_modulation=True,
        encoder="population",
        n_ticks=3,
        learn=["beta", "rho"],
        critic="plastic",
    ),
    "static": dict(rule="none", readout="rate", decoder="population"),
    "lifetime": dict(rule="oja", fast_weights="lifetime"),
}


def policy_of(action_space=ACTIONS, **policy_kwargs):
    """Of an agent with two small layers that fire well."""
    kwargs = dict(net_arch=dict(pi=[7, 6], vf=[5, 4]), gain=3.0, eta_init=0.5, alpha_init=0.5) | policy_kwargs
    env = RandomEnv(BOX, action_space, length=9)
    return PlasticPPO("MlpPolicy", env, n_steps=16, batch_size=16, policy_kwargs=kwargs, device="cpu").policy


class Original:
    def __init__(self, policy):
        self.policy = policy

    def predict(self, observation, state, episode_start, deterministic):
        return self.policy.predict(NORMALIZATION(observation), state, episode_start, deterministic)


# The command


@pytest.mark.parametrize("format_name", ["onnx", "snntorch", "nir"])
def test_an_adaptive_layer_has_no_form_elsewhere_and_nothing_is_written(format_name, tmp_path, capsys):
    arguments = ["--format", format_name, "--to", str(tmp_path / "x")]
    assert main(["convert", str(RESULTS / "adaptive" / "HalfCheetah-v5"), *arguments]) == 2
    assert "is a policy with an adaptive layer, for which" in capsys.readouterr().err
    policy = policy_of(adaptive=dict(net_arch=[8], epochs=1, hypotheses=["motors"]))
    policy.adaptive_policy = lambda: "a layer"  # after a training
    with pytest.raises(UserError, match="does not serve an adaptive layer"):
        check_convertible(policy, format_name)
    assert not [*tmp_path.iterdir()]


def test_a_model_that_saw_its_last_action_and_reward_is_compared_in_its_wrapper(tmp_path, capsys):
    venv = VecPreviousActionReward(make_vec_env("Pendulum-v1", n_envs=1))
    write(PlasticPPO("MlpPolicy", venv, n_steps=16, batch_size=16, device="cpu"), tmp_path / "run")
    command = ["convert", str(tmp_path / "run"), "--format", "onnx", "--check", "20"]
    assert main([*command, "--to", str(tmp_path / "m.onnx")]) == 0
    assert "Over 20 steps the actions differ by" in capsys.readouterr().out
    assert main([*command, "--to", str(tmp_path / "no.onnx"), "--env", "CartPole-v1"]) == 2
    assert not (tmp_path / "no.onnx").exists()


def test_a_graph_takes_as_many_rows_as_the_command_says(tmp_path, capsys):
    model, out = tmp_path / "m.zip", tmp_path / "m.onnx"
    PlasticPPO("MlpPolicy", "Pendulum-v1", n_steps=16, batch_size=16, device="cpu").save(model)
    command = ["convert", "--model", str(model), "--env", "Pendulum-v1", "--n-envs", "3"]
    assert main([*command, "--format", "onnx", "--check", "10", "--out", str(out)]) == 0
    assert OnnxPolicy(out).predict(np.zeros((3, 3), np.float32))[0].shape == (3, 1)
    assert main([*command, "--format", "nir", "--out", str(tmp_path / "m.nir")]) == 2
    assert "NIR takes any number of environments: --n-envs is of ONNX" in capsys.readouterr().err


def write(model, run):
    """A run as RL Zoo leaves it."""
    model.save(run / "Pendulum-v1.zip")
    (run / "Pendulum-v1").mkdir()
    (run / "Pendulum-v1" / "args.yml").write_text("algo: plastic_ppo\nenv: Pendulum-v1\n")
    (run / "Pendulum-v1" / "config.yml").write_text("vec_env_wrapper: [sb3_plastic.wrappers.VecPreviousActionReward]\n")


# ONNX


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_does_what_the_policy_does_over_episodes(kind, tmp_path):
    policy = policy_of(**KINDS[kind])
    graph = OnnxPolicy(to_onnx(policy, tmp_path / "agent.onnx", NORMALIZATION))
    found = compare(Original(policy), graph, RandomEnv(BOX, ACTIONS, length=9), steps=30)
    assert found.steps == 30
    assert found.largest < 1e-5


def test_a_graph_carries_the_whole_state(tmp_path):
    policy = policy_of(**KINDS["everything"])
    graph = OnnxPolicy(to_onnx(policy, tmp_path / "agent.onnx", n_envs=2))
    actor, _ = policy.stepper().split_state(policy.initial_state(2, random=False))
    rng, states = np.random.default_rng(0), [None, None]
    for t in range(8):
        observation, starts = rng.normal(size=(2, 3)) * 3, np.array([t == 0, t in (0, 5)])
        _, states[0] = policy.predict(observation, states[0], starts, deterministic=True)
        _, states[1] = graph.predict(observation, states[1], starts)
    kept = [array for array in states[0][: len(actor)] if array.size]
    assert len(states[1]) == len(kept) == len(state_names(policy.snn))
    assert np.abs(kept[state_names(policy.snn).index("layer0.h")]).max() > 0.01
    for array, expected in zip(states[1], kept, strict=True):
        np.testing.assert_allclose(array, expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 1), (1, 3), (2, 2)])
def test_actions_have_the_shape_of_their_box(shape, tmp_path):
    policy = policy_of(spaces.Box(-1, 1, shape))
    graph = OnnxPolicy(to_onnx(policy, tmp_path / "agent.onnx", NORMALIZATION))
    found = compare(Original(policy), graph, RandomEnv(BOX, policy.action_space, length=9), steps=9)
    assert found.largest < 1e-5


def test_actions_of_a_graph_are_within_their_box(tmp_path):
    policy = policy_of()
    with torch.no_grad():
        policy.action_net.bias.copy_(torch.tensor([-9.0, 9.0]))
    graph = OnnxPolicy(to_onnx(policy, tmp_path / "agent.onnx"))
    assert graph.predict(np.ones((1, 3)))[0].tolist() == [[-1, 2]]


def test_a_neuron_that_does_not_read_its_last_spikes_can_be_stepped(tmp_path, monkeypatch):
    def forgetful(v, z, current, beta, threshold, fire):
        v = beta * v + current
        return v, fire(v - threshold)

    monkeypatch.setitem(NEURONS, "forgetful", forgetful)
    policy = policy_of(rule="none", neuron="forgetful")
    graph = OnnxPolicy(to_onnx(policy, tmp_path / "agent.onnx", NORMALIZATION))
    assert compare(Original(policy), graph, RandomEnv(BOX, ACTIONS, length=9), steps=20).largest < 1e-5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_observations_are_whole_numbers_of_any_size(dtype, tmp_path):
    space = spaces.Box(0, 9, (3,), dtype)
    policy = small_ppo(random_vec_env(space)).policy
    graph = OnnxPolicy(to_onnx(policy, tmp_path / "agent.onnx"))
    assert compare(policy, graph, RandomEnv(space, policy.action_space, length=9), steps=9).largest < 1e-5


def test_a_copy_changes_nothing_of_the_original(tmp_path):
    policy = policy_of().train()
    to_onnx(policy, tmp_path / "agent.onnx")
    assert policy.training
    own = {id(parameter) for parameter in policy.parameters()}
    assert not own & {id(p) for p in DeterministicStep(check_convertible(policy, "ONNX")).parameters()}


def test_each_of_two_that_are_compared_has_its_own_state_and_the_first_one_acts():
    seen = []

    class Agent:
        def __init__(self, size):
            self.size = size

        def predict(self, observation, state, episode_start, deterministic):
            t = 0 if episode_start[0] else state + 1
            seen.append((self.size, observation.item(), t, deterministic))
            return np.full((1, 1), self.size * (t == 1)), t

    class Sum(gym.Env):
        observation_space, action_space = spaces.Box(-9, 9, (1,)), spaces.Box(-9, 9, (1,))

        def reset(self, *, seed=None, options=None):
            self.sum, self.t = np.zeros(1, np.float32), 0
            return self.sum.copy(), {}

        def step(self, action):
            self.sum, self.t = np.float32(self.sum + action), self.t + 1
            return self.sum.copy(), 0.0, self.t == 3, False, {}

    found = compare(Agent(2.0), Agent(2.0005), Sum(), steps=4)
    steps = [(0.0, 0), (0.0, 1), (2.0, 2), (0.0, 0)]  # an episode ends after three
    assert seen == [(size, *step, True) for step in steps for size in (2.0, 2.0005)]
    assert found == (4, pytest.approx(0.0005), 0.75)


@pytest.mark.parametrize("wrong", [np.full((1, 2), np.nan), np.zeros((2, 1, 2))])
def test_what_is_not_finite_or_of_another_shape_is_no_copy(wrong):
    class Wrong:
        def predict(self, *args, **kwargs):
            return wrong, None

    found = compare(Original(policy_of()), Wrong(), RandomEnv(BOX, ACTIONS), steps=2)
    assert (found.largest, found.equal) == (np.inf, 0)


def test_a_file_that_is_no_graph_is_answered(tmp_path):
    with pytest.raises(UserError, match="There is no graph"):
        OnnxPolicy(tmp_path / "missing.onnx")
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with pytest.raises(UserError, match="is no graph that onnxruntime can run"):
        OnnxPolicy(tmp_path / "junk.onnx")


def test_a_graph_of_something_else_is_answered(tmp_path):
    from onnx import TensorProto, helper, save

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "other", [x], [y])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "other.onnx")
    with pytest.raises(UserError, match="is no step of a policy: its inputs are x"):
        OnnxPolicy(tmp_path / "other.onnx")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--after", "3"], "--after is of snntorch and NIR"), (["--check", "-5"], "--check must be a whole number")],
)
def test_options_that_mean_nothing_are_refused(arguments, message, tmp_path, capsys):
    model = RESULTS / "learning/agents/exported/HalfCheetah-v5-seed0"
    assert main(["convert", str(model), "--format", "onnx", "--to", str(tmp_path / "m.onnx"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_graph_that_nothing_here_can_run_to_compare_is_not_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    model = RESULTS / "learning/agents/exported/HalfCheetah-v5-seed0"
    assert main(["convert", str(model), "--format", "onnx", "--to", str(tmp_path / "m.onnx"), "--check", "2"]) == 2
    assert "Running a graph needs" in capsys.readouterr().err
    assert not (tmp_path / "m.onnx").exists()


def test_a_model_that_sees_images_is_compared_as_it_was_trained(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(gym.registry, "Images-v0", EnvSpec("Images-v0", lambda: RandomEnv(IMAGES, ACTIONS, length=9)))
    model = PlasticPPO("CnnPolicy", RandomEnv(IMAGES, ACTIONS), n_steps=16, batch_size=16, device="cpu")
    model.save(tmp_path / "m.zip")
    command = ["convert", str(tmp_path / "m.zip"), "--env", "Images-v0", "--format", "onnx", "--check", "5"]
    assert main([*command, "--to", str(tmp_path / "m.onnx")]) == 0
    (largest,) = re.findall(r"Over 5 steps the actions differ by (\S+) at most", capsys.readouterr().out)
    assert float(largest) < 1e-5


def test_discrete_actions_are_the_likeliest(tmp_path):
    policy = policy_of(spaces.Discrete(4), rule="oja")
    graph = OnnxPolicy(to_onnx(policy, tmp_path / "agent.onnx"))
    observation = np.ones((1, 3))
    assert graph.predict(observation)[0] == policy.predict(observation, deterministic=True)[0]


@pytest.mark.parametrize(
    ("kwargs", "reason"),
    [
        (dict(encoder="population", encoder_kwargs=dict(bernoulli=True)), "at random"),
        (dict(action_space=spaces.MultiBinary(3)), "action space"),
    ],
)
def test_what_has_no_form_is_refused(kwargs, reason, tmp_path):
    with pytest.raises(UserError, match=reason):
        to_onnx(policy_of(**kwargs), tmp_path / "agent.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (lambda: PPO("MlpPolicy", RandomEnv(BOX, ACTIONS), device="cpu").policy, "only PlasticPolicy"),
        (lambda: small_ppo(random_vec_env(spaces.Dict(a=ACTIONS)), "MultiInputPolicy").policy, "only boxes"),
        (lambda: small_ppo(use_sde=True, policy_kwargs=dict(squash_output=True)).policy, "boxes that are not squashed"),
    ],
)
def test_policies_that_have_no_form_are_refused(policy, reason):
    with pytest.raises(UserError, match=reason):
        check_convertible(policy(), "ONNX")


def test_files_are_written_into_folders_that_are_made(hard_reset, tmp_path):
    assert to_onnx(hard_reset, tmp_path / "a" / "agent.onnx").is_file()
    assert to_nir(hard_reset, tmp_path / "b" / "agent.nir").is_file()


def test_the_episodes_of_a_comparison_follow_its_seed():
    seen = []

    class Still:
        def predict(self, observation, *args, **kwargs):
            seen.append(observation.tolist())
            return np.zeros((1, 2), np.float32), None

    for seed in (3, 3, 4):
        compare(Still(), Still(), RandomEnv(BOX, ACTIONS), steps=1, seed=seed)
    first, _, again, _, other, _ = seen
    assert first == again != other


@pytest.fixture
def exported(monkeypatch, tmp_path):
    """A policy for the pendulum, with statistics of its observations, that has a form in ONNX and in NIR."""
    monkeypatch.setitem(NEURONS, "lif_hard_reset", lif_hard_reset)
    policy = policy_of(spaces.Box(-2, 2, (1,)), rule="oja", neuron="lif_hard_reset")
    return policy.export(tmp_path / "exported", NORMALIZATION)


@pytest.mark.parametrize("format_name", ["onnx", "nir"])
def test_what_a_command_converts_sees_normalised_observations_as_the_policy_does(format_name, exported, tmp_path):
    found = convert_model(exported, format_name, tmp_path / "copy", env="Pendulum-v1", check=20)
    assert found.largest < 1e-5


def test_a_network_is_frozen_after_the_steps_that_are_asked_for(exported, tmp_path):
    import nir

    weights = []
    for words in ("", "--after 30", "--after 30 --seed 1"):
        command = ["convert", str(exported), "--format", "nir", "--to", str(tmp_path / "x.nir"), "--env", "Pendulum-v1"]
        assert main([*command, "--check", "0", *words.split()]) == 0
        weights.append(nir.read(tmp_path / "x.nir").nodes["weights0"].weight)
    before, after, otherwise = weights
    assert np.abs(after - before).max() > 0.01
    assert np.abs(after - otherwise).max() > 0.01


def test_a_comparison_has_the_steps_and_the_seed_that_are_asked_for(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(converting, "compare", lambda *arguments: arguments[3:])
    assert convert_model(exported, "onnx", tmp_path / "m.onnx", env="Pendulum-v1", check=5, seed=7) == (5, 7)


# The frozen network


def learned_state(policy):
    """The state of a policy that has learned something."""
    rng, state = np.random.default_rng(0), None
    for _ in range(20):
        _, state = policy.predict(rng.normal(size=(1, 3)) * 3, state, deterministic=True)
    return state


def test_freezing_adds_the_fast_weights():
    policy = policy_of(rule="oja")
    state = learned_state(policy)
    first = policy.snn.layers[0]
    h = torch.as_tensor(state[1 + 5][0])
    assert h.abs().max() > 0.01
    torch.testing.assert_close(freeze(policy, state)[0].weights, (first.w + first.alpha * h).detach())
    torch.testing.assert_close(freeze(policy)[0].weights, first.w.detach())


def test_a_static_layer_is_frozen_as_it_is():
    policy = policy_of(rule=["none", "oja"])
    for layer, frozen in zip(policy.snn.layers, freeze(policy), strict=True):
        torch.testing.assert_close(frozen.weights, layer.w.detach())


def test_a_frozen_policy_begins_as_an_episode_does_but_for_what_was_learned():
    policy, state = small_ppo(policy_kwargs=dict(eta_init=0.5, alpha_init=1.0)).policy, None
    observations = np.random.default_rng(0).normal(size=(9, 1, 4)).astype(np.float32)
    for observation in observations:
        _, state = policy.predict(observation, state)
    frozen = FrozenPolicy(policy, state)
    action, after = frozen.predict(observations[0])
    np.testing.assert_array_equal(action, frozen.predict(observations[0], after, np.array([True]))[0])
    assert not np.array_equal(action, policy.predict(observations[0], deterministic=True)[0])


def test_a_frozen_policy_keeps_what_it_learned_over_episodes():
    policy = policy_of(rule="oja")
    state = learned_state(policy)
    frozen = FrozenPolicy(policy, state)
    _, after = frozen.predict(np.ones((1, 3)))
    _, after = frozen.predict(np.ones((1, 3)), after, np.ones(1, bool))
    np.testing.assert_array_equal(after[1 + 5], state[1 + 5])


@pytest.mark.slow
@pytest.mark.parametrize("recurrent", [False, True])
def test_snntorch_does_what_the_frozen_policy_does(recurrent):
    pytest.importorskip("snntorch")
    from sb3_plastic.interchange import SnnTorchPolicy

    policy = policy_of(rule="oja", recurrent=recurrent, n_ticks=3)
    state = learned_state(policy)
    frozen = FrozenPolicy(policy, state, NORMALIZATION)
    copy = SnnTorchPolicy(policy, state, NORMALIZATION)
    found = compare(frozen, copy, RandomEnv(BOX, ACTIONS, length=9), steps=100)
    assert found.largest < 1e-5


# NIR


def lif_hard_reset(v, z, current, beta, threshold, fire):
    v = beta * v * (1 - z) + current
    return v, fire(v - threshold)


@pytest.fixture
def hard_reset(monkeypatch):
    monkeypatch.setitem(NEURONS, "lif_hard_reset", lif_hard_reset)
    return policy_of(rule="oja", neuron="lif_hard_reset", beta=[0.7, 0.4])


def test_nir_gives_the_spikes_of_the_frozen_network(hard_reset, tmp_path):
    state = learned_state(hard_reset)
    file = to_nir(hard_reset, tmp_path / "agent.nir", state)
    inputs = np.random.default_rng(1).normal(size=(300, 3)) * 2
    copy = NirPolicy(file, hard_reset)
    trains, _ = copy.spikes(torch.as_tensor(inputs).view(300, 1, 3), copy.initial_state(1)[:-1])
    x = torch.as_tensor(inputs, dtype=torch.float32).view(1, 300, 1, 3)
    starts = torch.ones(1, 1, dtype=torch.bool)
    for layer, frozen, spikes in zip(hard_reset.snn.layers, freeze(hard_reset, state), trains, strict=True):
        p = layer.effective_parameters()._replace(w=frozen.weights, alpha=torch.zeros_like(frozen.weights))
        x, _ = plastic_scan_reference(x, starts, layer.initial_state(1), p, layer.config)
        assert 0.02 < spikes.mean() < 0.98
        assert (x[0] != spikes).float().mean() < 0.002  # a potential on the threshold, in other precision


def test_nir_acts_as_the_frozen_policy(hard_reset, tmp_path):
    state = learned_state(hard_reset)
    frozen = FrozenPolicy(hard_reset, state, NORMALIZATION)
    copy = NirPolicy(to_nir(hard_reset, tmp_path / "agent.nir", state), hard_reset, NORMALIZATION)
    assert compare(frozen, copy, RandomEnv(BOX, ACTIONS, length=9), steps=50).largest < 1e-5


def test_the_threshold_is_the_networks_own(hard_reset, tmp_path):
    policy = policy_of(rule="oja", neuron="lif_hard_reset", threshold=0.6)
    copy = NirPolicy(to_nir(policy, tmp_path / "agent.nir"), policy)
    assert compare(FrozenPolicy(policy), copy, RandomEnv(BOX, ACTIONS, length=9), steps=20).largest < 1e-5


@pytest.mark.parametrize(
    ("kwargs", "reason"),
    [
        (dict(), "no reset by subtraction"),
        (dict(neuron="lif_hard_reset", recurrent=True), "recurrent"),
        (dict(neuron="lif_hard_reset", beta=1.0), "without leak"),
    ],
)
def test_nir_refuses_what_it_cannot_hold(hard_reset, kwargs, reason, tmp_path):
    with pytest.raises(UserError, match=reason):
        to_nir(policy_of(**kwargs), tmp_path / "agent.nir")


@pytest.mark.parametrize("name", [name for name in OTHER_OPTIONS if name in SNNConfig.names()])
def test_every_option_of_a_layer_is_in_the_file_or_refused(hard_reset, name, tmp_path):
    policy = policy_of(rule="oja", neuron="lif_hard_reset", n_ticks=4, **{name: OTHER_OPTIONS[name]})
    state = learned_state(policy)
    try:
        copy = NirPolicy(to_nir(policy, tmp_path / "agent.nir", state), policy)
    except UserError:
        return
    frozen = FrozenPolicy(policy, state)
    assert compare(frozen, copy, RandomEnv(BOX, ACTIONS, length=9), steps=50).largest < 1e-5


def test_a_hard_reset_is_recognised_by_what_it_does():
    assert is_hard_reset(lif_hard_reset)
    assert not is_hard_reset(lif)


def test_the_step_in_plain_operations_is_the_policys(hard_reset):
    step = DeterministicStep(hard_reset)
    state = [t for t in hard_reset.snn.initial_state(1, random=False).tensors() if t.numel()]
    with torch.no_grad():
        action, *_ = step(torch.ones(1, 3), torch.ones(1, dtype=torch.bool), *state)
    expected, _ = hard_reset.predict(np.ones((1, 3)), episode_start=np.ones(1, bool), deterministic=True)
    np.testing.assert_allclose(action, expected, atol=1e-6)
