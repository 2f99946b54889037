"""Exported policies act as the models they come from, bit for bit, and a folder that was changed is found out."""

import base64
import json
import pickle
import sys
import zipfile
from pathlib import Path

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
import torch
from envs import RandomEnv
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import sb3_plastic
from sb3_plastic import PlasticPPO, export_policy, load_policy
from sb3_plastic.errors import UserError
from sb3_plastic.export import Normalization
from sb3_plastic.export.plain import from_plain, space_from_plain, space_to_plain, to_plain
from sb3_plastic.safe import CLASSES, DamagedError, RefusedError, safe_objects

AGENTS = Path(__file__).parent.parent / "docs" / "results" / "learning" / "agents" / "plastic_ppo"


BOX = spaces.Box(-np.inf, np.inf, (3,), np.float64)
BOUNDED = spaces.Box(np.float32([-1, -2]), np.float32([1, 2]))
MIXED = spaces.Dict({"b": spaces.Box(-1, 1, (2,)), "a": spaces.Discrete(3)})
IMAGES = spaces.Box(0, 255, (36, 36, 1), np.uint8)


def small(cls, policy="MlpPolicy", observation_space=BOX, action_space=BOUNDED, **kwargs):
    """A model with one layer of eight units."""
    env = RandomEnv(observation_space, action_space)
    return cls(policy, env, policy_kwargs=dict(net_arch=[8]), device="cpu", **kwargs)


def ars(policy="MlpPolicy", **policy_kwargs):
    """A model of ARS, whose parameters are 0 at first."""
    model = sb3_contrib.ARS(policy, RandomEnv(BOX, BOUNDED), policy_kwargs=policy_kwargs, device="cpu")
    for parameter in model.policy.parameters():
        torch.nn.init.normal_(parameter)
    return model


def small_plastic(policy="MlpPolicy", observation_space=BOX, action_space=BOUNDED, **policy_kwargs):
    """A PlasticPPO with layers of eight neurons."""
    kwargs = dict(net_arch=dict(pi=[8], vf=[8])) | policy_kwargs
    env = RandomEnv(observation_space, action_space)
    return PlasticPPO(policy, env, n_steps=16, batch_size=16, policy_kwargs=kwargs, device="cpu")


MODELS = {
    "PlasticPPO": small_plastic,
    "PlasticPPO, all kinds of layers": lambda: small_plastic(
        "MultiInputPolicy",
        MIXED,
        spaces.Discrete(4),
        net_arch=dict(pi=[6, 5], vf=[4, 3]),
        critic="plastic",
        rule=["bcm", "oja"],
        modulation=["retroactive", "none"],
        recurrent=True,
        encoder="population",
        encoder_kwargs=dict(bernoulli=True),
        learn=["beta", "rho"],
        activation_fn=torch.nn.ReLU,
    ),
    "PlasticPPO, images": lambda: small_plastic("CnnPolicy", IMAGES, spaces.MultiDiscrete([2, 3])),
    "PPO": lambda: small(stable_baselines3.PPO, action_space=spaces.MultiBinary(3)),
    "PPO, images": lambda: PPO(
        "CnnPolicy",
        RandomEnv(IMAGES, BOUNDED),
        policy_kwargs=dict(net_arch=[8], share_features_extractor=False),
        device="cpu",
    ),
    "A2C": lambda: small(stable_baselines3.A2C, "MultiInputPolicy", MIXED, use_sde=True),
    "SAC": lambda: small(stable_baselines3.SAC),
    "TD3": lambda: small(stable_baselines3.TD3),
    "DQN": lambda: small(stable_baselines3.DQN, action_space=spaces.Discrete(3)),
    "TQC": lambda: small(sb3_contrib.TQC),
    "CrossQ": lambda: small(sb3_contrib.CrossQ),
    "ARS": lambda: small(sb3_contrib.ARS),
    "ARS, linear": lambda: ars("LinearPolicy"),
    "ARS, no bias": lambda: ars(net_arch=[8], with_bias=False),
    "ARS, not squashed": lambda: ars(net_arch=[8], squash_output=False),
    "QRDQN": lambda: small(sb3_contrib.QRDQN, action_space=spaces.Discrete(3)),
    "RecurrentPPO, shared": lambda: sb3_contrib.RecurrentPPO(
        "MlpLstmPolicy",
        RandomEnv(BOX, BOUNDED),
        policy_kwargs=dict(net_arch=[8], lstm_hidden_size=7, shared_lstm=True, enable_critic_lstm=False)
        | dict(lstm_kwargs=dict(bias=False)),
        device="cpu",
    ),
    "RecurrentPPO": lambda: sb3_contrib.RecurrentPPO(
        "MlpLstmPolicy",
        RandomEnv(BOX, BOUNDED),
        policy_kwargs=dict(net_arch=[8], lstm_hidden_size=7, n_lstm_layers=2, enable_critic_lstm=False),
        device="cpu",
    ),
}


def rollout(agent, env, steps=5, n_envs=2):
    """Actions and states over some steps of environments, in which an episode ends."""
    env.observation_space.seed(0)
    state, actions = None, []
    for t in range(steps):
        samples = [env.observation_space.sample() for _ in range(n_envs)]
        observation = (
            {key: np.stack([s[key] for s in samples]) for key in samples[0]}
            if isinstance(samples[0], dict)
            else np.stack(samples)
        )
        starts = np.array([t in (0, 3), t == 0])
        action, state = agent.predict(observation, state, starts, deterministic=True)
        actions.append(action)
    return np.stack(actions), state


@pytest.mark.parametrize("algorithm", [stable_baselines3.PPO, stable_baselines3.SAC, PlasticPPO])
def test_an_exported_policy_explores_with_the_noise_of_its_training(algorithm, tmp_path):
    model = algorithm("MlpPolicy", RandomEnv(BOX, BOUNDED), use_sde=True, policy_kwargs=dict(net_arch=[8]), seed=0)
    for name, parameter in model.policy.named_parameters():
        if name.endswith("log_std"):
            torch.nn.init.constant_(parameter, -9.0)
    exported, before = export_policy(model.policy, tmp_path / "exported"), torch.get_rng_state()
    agent = load_policy(exported)
    assert torch.equal(torch.get_rng_state(), before), "who loads it has random numbers of their own"
    likely, drawn = (agent.predict(np.ones((1, 3)), deterministic=chosen)[0] for chosen in (True, False))
    assert 0 < np.abs(drawn - likely).max() < 0.01


@pytest.mark.parametrize("name", MODELS)
def test_an_exported_policy_acts_as_its_model_bit_for_bit(name, tmp_path):
    model = MODELS[name]()
    loaded = load_policy(export_policy(model.policy, tmp_path / "agent"))
    env = model.get_env().envs[0]
    actions, state = rollout(loaded, env)
    expected_actions, expected_state = rollout(model, env)
    np.testing.assert_array_equal(actions, expected_actions)
    for array, expected in zip(state or (), expected_state or (), strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_loads_and_acts_without_unpickling_anything(name, tmp_path, monkeypatch):
    model = MODELS[name]()
    model.learning_rate = lambda progress: 1e-3 * progress  # a function of the user's own, stored as code
    model.save(tmp_path / "model.zip")
    monkeypatch.setattr(cloudpickle, "loads", pytest.fail)
    loaded = type(model).load(tmp_path / "model.zip", device="cpu", custom_objects=safe_objects(tmp_path / "model.zip"))
    env = model.get_env().envs[0]
    np.testing.assert_array_equal(rollout(loaded, env)[0], rollout(model, env)[0])


@pytest.mark.parametrize("robot", ["HalfCheetah", "Ant"])
def test_the_agents_of_the_repository_walk_alike_from_zip_and_folder(robot, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rl_zoo3", None)  # which they were trained with, need not be installed
    run = AGENTS / f"{robot}-v5_1"
    statistics = run / f"{robot}-v5" / "vecnormalize.pkl"
    model = PlasticPPO.load(run / f"{robot}-v5.zip", device="cpu")
    exported = load_policy(model.policy.export(tmp_path / "agent", Normalization.load(statistics)))
    venv = VecNormalize.load(str(statistics), DummyVecEnv([lambda: gym.make(f"{robot}-v5")] * 2))
    venv.training = venv.norm_reward = False
    venv.seed(0)
    observation, states, starts = venv.reset(), [None, None], np.ones(2, bool)
    for _ in range(100):
        actions, states[0] = model.predict(observation, states[0], starts, deterministic=True)
        others, states[1] = exported.predict(venv.get_original_obs(), states[1], starts, deterministic=True)
        np.testing.assert_array_equal(actions, others)
        observation, _, starts, _ = venv.step(actions)
    venv.close()


# The folder


@pytest.fixture
def folder(tmp_path):
    return MODELS["PlasticPPO"]().policy.export(tmp_path / "agent")


def test_a_folder_holds_two_plain_files(folder):
    assert {path.name for path in folder.iterdir()} == {"config.json", "policy.safetensors"}
    assert json.loads((folder / "config.json").read_text())["versions"]["sb3_plastic"] == sb3_plastic.__version__


@pytest.mark.parametrize("name", ["config.json", "policy.safetensors"])
def test_any_flipped_bit_or_cut_is_found_out(folder, name):
    whole = (folder / name).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(25):
        at, bit = rng.integers(len(whole)), rng.integers(8)
        changed = whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :]
        for content in (changed, whole[:at]):
            (folder / name).write_bytes(content)
            try:
                load_policy(folder)
            except ValueError:
                continue
            assert json.loads(content) == json.loads(whole)  # a blank between two entries became another


def test_what_a_killed_export_leaves_is_no_obstacle(tmp_path):
    policy = MODELS["PlasticPPO"]().policy
    (tmp_path / ".policy.4f1d2a3b.safetensors").write_bytes(b"half")
    load_policy(policy.export(tmp_path))
    (tmp_path / "policy.safetensors").unlink()
    with pytest.raises(ValueError, match="is not empty, and no exported policy"):
        policy.export(tmp_path)


def test_a_missing_file_is_named(folder):
    (folder / "policy.safetensors").unlink()
    with pytest.raises(DamagedError, match=r"no policy\.safetensors"):
        load_policy(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match="sb3-plastic export"):
        load_policy(folder)


def test_a_folder_with_other_things_is_not_written_to(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="not empty"):
        export_policy(MODELS["PPO"]().policy, tmp_path)


def test_a_policy_with_weights_that_are_not_finite_is_not_exported(tmp_path):
    policy = MODELS["PlasticPPO"]().policy
    with torch.no_grad():
        policy.snn.layers[0].w[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"snn\.layers\.0\.w has values that are not finite"):
        policy.export(tmp_path / "agent")
    assert not (tmp_path / "agent").exists()


def test_a_class_of_the_users_own_is_refused_with_the_way_out(tmp_path):
    class Mine(torch.nn.Tanh):
        pass

    model = stable_baselines3.PPO("MlpPolicy", RandomEnv(BOX, BOUNDED), policy_kwargs=dict(activation_fn=Mine))
    with pytest.raises(ValueError, match=r"activation_fn .* add it there"):
        export_policy(model.policy, tmp_path / "agent")


def rewritten(folder, change):
    """The folder, with a change in its configuration by somebody who knows how checksums are made."""
    from sb3_plastic.seals import digest

    config = json.loads((folder / "config.json").read_text())
    change(config)
    config["sha256"]["config.json"] = digest(config, "config.json")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "torch.load", "stable_baselines3.ppo.ppo.PPO"])
def test_a_folder_cannot_name_other_classes(folder, name):
    rewritten(folder, lambda config: config["policy"].update({"class": {"$class": name}}))
    with pytest.raises(RefusedError, match=f"{name}.* also with --trust.* enters it before it loads the folder"):
        load_policy(folder)


def test_a_class_that_is_not_installed_is_no_attack(folder, monkeypatch):
    monkeypatch.setitem(CLASSES, "sb3_extra.Policy", None)
    rewritten(folder, lambda config: config["policy"].update({"class": {"$class": "sb3_extra.Policy"}}))
    with pytest.raises(UserError, match=r"names the class sb3_extra\.Policy, which is not installed here") as raised:
        load_policy(folder)
    assert not isinstance(raised.value, RefusedError)


def test_a_folder_cannot_make_a_class_other_than_a_policy(folder):
    rewritten(folder, lambda config: config["policy"].update({"class": {"$class": "torch.optim.adam.Adam"}}))
    with pytest.raises(RefusedError, match="a policy of"):
        load_policy(folder)


def test_a_changed_argument_does_not_pass_unseen(folder):
    rewritten(folder, lambda config: config["policy"]["arguments"]["net_arch"].update(pi=[9]))
    with pytest.raises(DamagedError, match=r"fit: another version made them, or an edit (?s:.*)size mismatch"):
        load_policy(folder)


def test_a_later_format_says_what_to_do(folder):
    rewritten(folder, lambda config: config.update(format_version=2))
    with pytest.raises(ValueError, match="pip install --upgrade"):
        load_policy(folder)


def test_a_rule_of_a_later_version_is_said_to_be_of_it(folder):
    rewritten(folder, lambda config: config["versions"].update(sb3_plastic="99.0"))
    assert load_policy(folder)
    rewritten(folder, lambda config: config["policy"]["arguments"].update(rule="to_come"))
    with pytest.raises(UserError, match=r"rule 'to_come'. Allowed: .* sb3_plastic 99.0 saved it, and this is "):
        load_policy(folder)


# Plain data


def test_numbers_keep_every_bit():
    numbers = [0.1, -0.0, 1e-323, np.inf, -np.inf, 1 / 3]
    for dtype in (np.float32, np.float64):
        array = np.array([numbers], dtype)
        with np.errstate(all="ignore"):
            back = from_plain(json.loads(json.dumps(to_plain(array, ""), allow_nan=False)), "")
        assert back.tobytes() == array.tobytes()
        assert back.dtype == array.dtype
        assert back.shape == array.shape


@pytest.mark.parametrize(
    "space",
    [
        *(BOX, BOUNDED, IMAGES, MIXED, spaces.Dict({"y": BOUNDED, "x": BOX}), spaces.Discrete(5, start=-2)),
        *(spaces.MultiDiscrete([3, 4]), spaces.MultiDiscrete([3, 4], start=[1, -2])),
        *(spaces.MultiBinary(3), spaces.MultiBinary([2, 3])),
    ],
    ids=str,
)
def test_spaces_come_back(space):
    back = space_from_plain(json.loads(json.dumps(space_to_plain(space), allow_nan=False)), "")
    assert back == space
    assert back.dtype == space.dtype
    if isinstance(space, spaces.Dict):
        assert list(back.spaces) == list(space.spaces)


def test_a_model_cannot_make_a_class_other_than_a_policy(tmp_path):
    file = tmp_path / "m.zip"
    PPO("MlpPolicy", "Pendulum-v1", n_steps=8, batch_size=8).save(file)
    with zipfile.ZipFile(file) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(files["data"])
    data["policy_class"] = {":type:": "x", ":serialized:": base64.b64encode(pickle.dumps(torch.nn.ReLU)).decode()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in (files | {"data": json.dumps(data)}).items():
            archive.writestr(name, content)
    with pytest.raises(RefusedError, match="ReLU, which is no policy"):
        safe_objects(file)


def test_loading_a_policy_draws_no_random_numbers(tmp_path):
    export_policy(PPO("MlpPolicy", "Pendulum-v1", n_steps=8, batch_size=8).policy, tmp_path / "e")
    torch.manual_seed(3)
    load_policy(tmp_path / "e")
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert drawn == torch.rand(1)


@pytest.mark.parametrize("dtype", ["complex128", "object", "U3", "f4,f4"])
def test_arrays_hold_numbers_alone(dtype):
    with pytest.raises(DamagedError, match="is no type of numbers"):
        from_plain({"$array": [1], "dtype": dtype, "shape": [1]}, "config.json")


def test_a_folder_with_weights_that_are_not_finite_is_not_loaded(folder):
    from safetensors.torch import load_file, save

    from sb3_plastic.seals import sha256

    weights = load_file(folder / "policy.safetensors")
    weights["snn.layers.0.w"][0, 0] = torch.nan
    (folder / "policy.safetensors").write_bytes(save(weights))
    sums = {"policy.safetensors": sha256(save(weights))}
    rewritten(folder, lambda config: config.update(sha256=sums))
    with pytest.raises(ValueError, match=r"Cannot load the policy: snn\.layers\.0\.w has values that are not finite"):
        load_policy(folder)


def test_a_policy_is_loaded_to_the_device_that_is_asked_for(folder):
    assert load_policy(folder, device="meta").policy.device.type == "meta"
