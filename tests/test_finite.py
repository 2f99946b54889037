"""NaN and infinity stop a training, a prediction and a save, with what, where and a remedy. Models are stamped."""

import json
import zipfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from envs import BOX, RandomEnv, random_vec_env, small_ppo
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_plastic import PlasticES, PlasticPPO
from sb3_plastic.errors import NotFiniteError, UserError
from sb3_plastic.evaluation.loading import load_model
from sb3_plastic.finite import check_rewards
from sb3_plastic.observations import check_observation
from sb3_plastic.stamp import digest

AGENTS = Path(__file__).parent.parent / "docs/results/learning/agents"
NAN, INF = float("nan"), float("inf")


class Faulty(RandomEnv):
    """Environment 1 of a vector gives, at step 5 of its first episode, something else."""

    made = 0

    def __init__(self, fault: str, value: Any) -> None:
        super().__init__(BOX, BOX)
        self.fault, self.value, self.is_faulty = fault, value, Faulty.made == 1
        Faulty.made += 1

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = super().step(action)
        if self.is_faulty:
            if self.fault == "everything" and self.t >= 5:
                obs, reward = np.full_like(obs, self.value), self.value
            if self.fault == "reward" and self.t == 5:
                reward = self.value
            if (self.fault == "observation" and self.t == 5) or (self.fault == "last observation" and truncated):
                obs = np.full_like(obs, self.value)
        return obs, reward, terminated, truncated, info


def faulty_env(fault: str, value: Any = NAN, normalized: bool = False) -> VecEnv:
    Faulty.made = 0
    env = make_vec_env(lambda: Faulty(fault, value), 3, seed=0)
    return VecNormalize(env) if normalized else env


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_a_reward_stops_training_in_its_rollout(value, normalized):
    model = small_ppo(faulty_env("reward", value, normalized))
    with pytest.raises(NotFiniteError, match=r"reward of environment 1 is (nan|inf).* training can go on from here"):
        model.learn(96)
    assert model.num_timesteps == 12


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("fault", ["observation", "last observation"])
def test_an_observation_stops_training_in_its_rollout(fault, normalized):
    with pytest.raises(NotFiniteError, match="observation of environment 1 is nan at index"):
        small_ppo(faulty_env(fault, normalized=normalized)).learn(96)


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_numbers_whose_sum_alone_overflows_are_numbers():
    large = np.full((3, 4), 3e38, np.float32)
    check_observation(large)
    check_rewards(large[:, 0])


def test_after_a_last_observation_that_is_not_finite_all_environments_start_anew():
    model = small_ppo(faulty_env("last observation"))
    with pytest.raises(NotFiniteError, match="environment 1"):
        model.learn(96)
    Faulty.made = 0
    for env in model.env.envs:
        env.unwrapped.fault = ""
    model.learn(96, reset_num_timesteps=False)
    np.testing.assert_array_equal(np.flatnonzero(model.rollout_buffer.episode_starts[:, 0]), [0, 7, 14, 21, 28])


def test_a_membrane_that_is_not_finite_is_forgotten_when_an_episode_starts():
    model = small_ppo()
    model.learn(96)
    for tensor in filter(torch.is_floating_point, model._last_state):
        tensor.fill_(NAN)
    with pytest.raises(NotFiniteError, match="membranes"):
        model.learn(96, reset_num_timesteps=False)
    model.set_env(random_vec_env())
    model.learn(96)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_an_environment_that_has_broken_for_good_stops_training_in_its_rollout(normalized):
    model = small_ppo(faulty_env("everything", normalized=normalized))
    with pytest.raises(NotFiniteError, match="of environment 1 is nan"):
        model.learn(96)
    assert model.num_timesteps == 12


@pytest.mark.parametrize("fault", ["reward", "observation"])
def test_statistics_are_as_before_the_rollout_that_failed_and_training_goes_on(fault):
    env = faulty_env(fault, normalized=True)
    model = small_ppo(env)
    with pytest.raises(NotFiniteError):
        model.learn(96)
    assert np.isfinite([env.ret_rms.mean, env.ret_rms.var, *env.obs_rms.mean, *env.obs_rms.var, *env.returns]).all()
    for faulty in env.unwrapped.envs:
        faulty.unwrapped.is_faulty = False
    model.learn(96)
    assert model.logger.name_to_value["train/dropped_updates"] == 0


def test_a_first_observation_does_not_stay_in_the_statistics():
    env = faulty_env("", normalized=True)
    reset, bad = env.unwrapped.envs[1].unwrapped.reset, [NAN]
    env.unwrapped.envs[1].unwrapped.reset = lambda **kwargs: (reset(**kwargs)[0] * (bad.pop() if bad else 1), {})
    model = small_ppo(env)
    with pytest.raises(NotFiniteError, match="observation of environment 1 is nan"):
        model.learn(96)
    assert np.isfinite([*env.obs_rms.mean, *env.obs_rms.var]).all()
    model.learn(96)


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_evolution_does_not_take_infinity_into_the_statistics():
    env = faulty_env("observation", INF, normalized=True)
    model = PlasticES("MlpPolicy", env, population_size=4, policy_kwargs=dict(net_arch=[8]), seed=0, device="cpu")
    with pytest.raises(NotFiniteError, match="observation of environment 1 is inf"):
        model.learn(96)
    assert np.isfinite([*env.obs_rms.mean, *env.obs_rms.var]).all()


def predict_for(model: PlasticPPO, n_steps: int) -> None:
    state = None
    for observation in np.random.default_rng(0).normal(size=(n_steps, 3, 4)).astype(np.float32):
        _, state = model.predict(observation, state)


@pytest.mark.parametrize("name", ["snn.layers.0.w", "snn.layers.1.alpha", "value_net.bias", "log_std"])
def test_a_weight_stops_training_prediction_and_saving(name, tmp_path):
    model = small_ppo()
    with torch.no_grad():
        dict(model.policy.named_parameters())[name].flatten()[0] = NAN
    with pytest.raises(NotFiniteError, match=f"Training stops: 1 of .* parameter '{name}' .* lower learning rate"):
        model.learn(96)
    with pytest.raises(NotFiniteError, match=f"not saved: 1 of .* parameter '{name}'"):
        model.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())
    if name.startswith("snn"):
        with pytest.raises(NotFiniteError, match=f"There is no action: 1 of .* parameter '{name}'"):
            predict_for(model, 50)


def test_a_learning_rate_stops_training_in_its_rollout():
    model = small_ppo(learning_rate=lambda remaining: 1e-3 if remaining > 0.7 else NAN)
    with pytest.raises(UserError, match="learning_rate must be a finite number at least 0, got nan"):
        model.learn(960)
    assert model.num_timesteps < 480
    assert np.isfinite(model.policy.parameters_to_vector()).all()


@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")
def test_rewards_too_large_for_any_gradient_stop_training():
    model = small_ppo(faulty_env("reward", 1e38))
    for env in model.env.envs:
        env.unwrapped.is_faulty = True
    with pytest.raises(NotFiniteError, match=r"All 3 updates of this rollout were dropped.*VecNormalize"):
        model.learn(96)


def test_a_state_that_is_not_finite_stops_prediction():
    model = small_ppo()
    _, state = model.predict(np.zeros((3, 4), np.float32))
    spoiled = tuple(np.where(np.arange(3).reshape(-1, *[1] * (a.ndim - 1)) == 2, NAN, a) for a in state)
    with pytest.raises(NotFiniteError, match="membranes of layer 0 of the actor are not finite in environment 2"):
        model.predict(np.zeros((3, 4), np.float32), spoiled)
    model.predict(np.zeros((3, 4), np.float32), spoiled, np.array([False, False, True]))  # a new episode clears it


def test_a_membrane_of_the_critic_is_named_as_such():
    model = small_ppo(policy_kwargs=dict(critic="plastic"))
    _, state = model.predict(np.zeros((3, 4), np.float32))
    own = len(state) // 2
    spoiled = (*state[:own], *(np.where(True, NAN, array) for array in state[own:]))
    with pytest.raises(NotFiniteError, match="membranes of layer 0 of the critic are not finite in environment 0"):
        model.predict(np.zeros((3, 4), np.float32), spoiled)


@pytest.mark.parametrize(
    "kwargs",
    [
        *({name: NAN} for name in ("gamma", "gae_lambda", "learning_rate", "clip_range", "clip_range_vf", "vf_coef")),
        *(dict(ent_coef=INF), dict(max_grad_norm=NAN), dict(target_kl=NAN), dict(chunk_len=0), dict(n_epochs=0)),
        *(dict(target_kl=0), dict(clip_range_vf=0)),
    ],
    ids=str,
)
def test_arguments_of_the_algorithm_are_checked(kwargs):
    with pytest.raises(UserError, match=f"{next(iter(kwargs))}.* must be a (finite|whole) number"):
        small_ppo(**kwargs)


@pytest.mark.parametrize(
    "kwargs",
    [
        *({name: INF} for name in ("eta_init", "alpha_init", "slope", "threshold", "h_max", "gain", "decoder_gain")),
        *({name: NAN} for name in ("critic_lr_scale", "beta", "rho", "log_std_init", "eta_init")),
        *(dict(plasticity_lr_scale=INF), dict(decoder_neurons=-1), dict(rate_spread="x"), dict(n_ticks=1.5)),
    ],
    ids=str,
)
def test_arguments_of_the_policy_are_checked(kwargs):
    with pytest.raises(UserError, match=rf"{next(iter(kwargs))}.* must be a (finite|whole) number.*, got"):
        small_ppo(policy_kwargs=kwargs)


# Stamps


def edit(path: Path, change: Any) -> None:
    """Change the JSON in a model's file."""
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    data = json.loads(parts["data"])
    change(data)
    parts["data"] = json.dumps(data).encode()
    with zipfile.ZipFile(path, "w") as file:
        for name, content in parts.items():
            file.writestr(name, content)


def make_es() -> PlasticES:
    return PlasticES(
        "MlpPolicy", random_vec_env(), population_size=4, policy_kwargs=dict(net_arch=[9, 7], rule="oja", n_ticks=2)
    )


def make_ppo() -> PlasticPPO:
    return small_ppo(policy_kwargs=dict(rule="oja", n_ticks=2))


@pytest.mark.parametrize("make", [make_ppo, make_es])
@pytest.mark.parametrize(("name", "value"), [("rule", "none"), ("n_ticks", 3)])
def test_an_edited_policy_is_refused_with_the_field_that_differs(name, value, make, tmp_path):
    model = make()
    model.save(tmp_path / "model.zip")
    type(model).load(tmp_path / "model.zip")
    # SB3 writes policy_kwargs twice: as text for people, and pickled. An edit of either is the same as this override.
    kwargs = {**model.policy_kwargs, name: value}
    saved = f"{name}={model.policy_kwargs[name]!r}"
    says = f"with {saved}, but loads with {name}={value!r}: its file was edited, or load.. was given another {name}, or"
    with pytest.raises(UserError, match=f"{says} other policy_kwargs. Leave it out, or give.* with {saved}"):
        type(model).load(tmp_path / "model.zip", custom_objects={"policy_kwargs": kwargs})
    # The remedy it names.
    type(model).load(tmp_path / "model.zip", custom_objects={"policy_kwargs": model.policy_kwargs})


@pytest.mark.parametrize("make", [make_ppo, make_es])
def test_a_default_of_the_policy_that_has_changed_since_does_not_matter(make, tmp_path):
    model = make()
    model.policy_kwargs |= dict(n_ticks=3, plasticity_lr_scale=2.0, log_std_init=-3.0)
    model._setup_model()
    model.save(tmp_path / "model.zip")
    # To leave them out now is the same as not to have named them when they were the defaults.
    named = {"rule": model.policy_kwargs["rule"]}
    loaded = type(model).load(tmp_path / "model.zip", custom_objects={"policy_kwargs": named})
    assert loaded.policy.snn_config == model.policy.snn_config
    assert (loaded.policy.plasticity_lr_scale, loaded.policy.log_std_init) == (2.0, -3.0)
    assert loaded.policy.net_arch == model.policy.net_arch


def test_an_edited_algorithm_is_refused_unless_the_user_gives_the_value_anew(tmp_path):
    make_ppo().save(tmp_path / "model.zip")
    assert PlasticPPO.load(tmp_path / "model.zip", gamma=0.5).gamma == 0.5
    edit(tmp_path / "model.zip", lambda data: data.update(gamma=0.5))
    with pytest.raises(
        UserError, match=r"gamma=0.99, but loads with gamma=0.5: its file was edited. Give .*load\(..., gamma=...\)"
    ):
        PlasticPPO.load(tmp_path / "model.zip")


def test_arguments_of_load_may_go_by_their_place(tmp_path):
    make_ppo().save(tmp_path / "model.zip")
    assert PlasticPPO.load(tmp_path / "model.zip", None, "cpu", {"gamma": 0.5}).gamma == 0.5


def test_what_is_left_out_of_a_file_does_not_refuse_it(tmp_path):
    model = make_ppo()
    model.gamma = 0.5
    model.save(tmp_path / "model.zip", exclude=(name for name in ["gamma"]))
    assert PlasticPPO.load(tmp_path / "model.zip").gamma == 0.99


@pytest.mark.parametrize("make", [make_ppo, make_es])
def test_a_model_that_was_loaded_and_saved_knows_its_policy_kwargs_as_before(make, tmp_path):
    model = make()
    model.save(tmp_path / "1.zip")
    type(model).load(tmp_path / "1.zip").save(tmp_path / "2.zip")
    again = type(model).load(tmp_path / "2.zip", env=model.get_env(), policy_kwargs=dict(model.policy_kwargs))
    assert again.policy_kwargs == model.policy_kwargs


def test_an_edited_stamp_is_refused(tmp_path):
    make_ppo().save(tmp_path / "model.zip")
    edit(tmp_path / "model.zip", lambda data: data["stamp"]["configuration"]["policy"].update(n_ticks=3))
    with pytest.raises(UserError, match="stamp in the model's file has been edited"):
        PlasticPPO.load(tmp_path / "model.zip")


def later(data: dict[str, Any]) -> None:
    """The file of a version to come, with an argument that this one does not have."""
    stamp = data["stamp"]
    stamp["versions"]["sb3_plastic"] = "99.0"
    stamp["configuration"]["policy"]["to_come"] = 1
    stamp["digest"] = digest(stamp["configuration"])


@pytest.mark.parametrize("make", [make_ppo, make_es])
def test_a_model_of_a_later_version_is_not_said_to_have_been_edited(make, tmp_path):
    model = make()
    model.save(tmp_path / "model.zip")
    edit(tmp_path / "model.zip", later)
    says = "saved by sb3_plastic 99.0 with to_come=1, which is no argument of this version: read it with that one"
    with pytest.raises(UserError, match=says):
        type(model).load(tmp_path / "model.zip")
    kwargs = {"policy_kwargs": dict(rule="to_come")}
    with pytest.raises(UserError, match=r"rule 'to_come'. Allowed: none, .* sb3_plastic 99.0 saved it, and this is "):
        type(model).load(tmp_path / "model.zip", custom_objects=kwargs)


@pytest.mark.parametrize("make", [make_ppo, make_es])
def test_a_model_whose_parameters_have_other_names_is_said_to_be_of_another_version(make, tmp_path):
    model = make()
    with patch.object(model.policy, "state_dict", lambda: {"earlier": torch.zeros(1)}):
        model.save(tmp_path / "model.zip")
    for load in (type(model).load, load_model):
        with pytest.raises(
            UserError, match=r"model.zip holds other parameters .*: another version saved it, .* Missing key"
        ):
            load(tmp_path / "model.zip")


@pytest.mark.parametrize("name", ["Ant-v5", "HalfCheetah-v5"])
def test_models_of_the_version_before_load(name):
    (path,) = (AGENTS / "plastic_ppo").glob(f"{name}_1/{name}.zip")
    model = PlasticPPO.load(path, device="cpu")
    assert model.stamp is None
    observation = np.zeros(model.observation_space.shape, np.float32)
    assert np.isfinite(model.predict(observation, deterministic=True)[0]).all()
