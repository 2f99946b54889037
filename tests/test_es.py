"""PlasticES: the population is played as its individuals would be alone, trainings resume exactly, and it learns."""

import subprocess
import sys
import time

import gymnasium as gym
import numpy as np
import pytest
import torch
from command_line import answer
from envs import BOX, Dropping, RandomEnv, WholeEnds, random_vec_env, small_ppo
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    EvalCallback,
    ProgressBarCallback,
    StopTrainingOnMaxEpisodes,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import KVWriter, configure
from stable_baselines3.common.monitor import Monitor, load_results
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize
from stray_lines import stray_lines

from sb3_plastic import PlasticES, PlasticPPO
from sb3_plastic.errors import UserError
from sb3_plastic.es.evaluator import environment_seeds, reset_options
from sb3_plastic.es.evolved import get_vector, set_vector
from sb3_plastic.es.logs import generation_statistics
from sb3_plastic.es.population import Population
from sb3_plastic.es.strategies import STRATEGIES
from sb3_plastic.export import export_policy
from sb3_plastic.perturbations.wrapper import PerturbSignals


class Paid(gym.Env):
    """The action is the reward, of which an individual's weights alone decide; episodes of 3 steps."""

    observation_space = action_space = spaces.Box(-2, 2, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.ones(2, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.ones(2, np.float32), float(action.sum()), self.t == 3, False, {}


class Broken(Paid):
    """Pays what is no number."""

    def step(self, action):
        observation, _, *rest = super().step(action)
        return (observation, float("nan"), *rest)


class Fitness(BaseCallback):
    """Of the last generation."""

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        self.seen = self.locals["fitness"]


def paid(n_envs=8, cls=Paid, monitored=True):
    return DummyVecEnv([lambda: Monitor(cls()) if monitored else cls()] * n_envs)


def small_es(env=None, policy="MlpPolicy", **kwargs):
    """A PlasticES with 8 individuals of one small layer that fires well."""
    policy_kwargs = {"net_arch": [6], "gain": 3.0, "decoder_gain": 1.0, **kwargs.pop("policy_kwargs", {})}
    defaults = dict(population_size=8, sigma=0.1, learning_rate=0.05, seed=0, device="cpu")
    return PlasticES(policy, env or paid(), policy_kwargs=policy_kwargs, **{**defaults, **kwargs})


def cartpole(n_envs=8):
    return make_vec_env("CartPole-v1", n_envs)


def mean_of(model):
    return get_vector(model.policy.actor_parameters())


class Watch(BaseCallback):
    """Calls a function of itself at every step; a False from it stops the training."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def _on_step(self):
        return self.function(self) is not False


def until(generation):
    """Stop once so many generations are complete."""
    return Watch(lambda callback: callback.model._n_updates < generation)


def evaluate(model):
    """Individuals of the present generation, and their fitness, [P, S]; the strategy is not told of it."""
    _, callback = model._setup_learn(1000)
    individuals = model.strategy.ask(model._rng(0))
    fitness, _ = model.evaluate_population(individuals, callback, model.evaluator())
    return individuals.vectors(), fitness


# The population


IMAGE = spaces.Box(0, 255, (36, 36, 3), np.uint8)
RATES = ["beta", "lam_pre", "lam_post", "rho", "kappa", "kappa_e"]


class Branching(FlattenExtractor):
    """It branches on what it sees, which PyTorch's vmap does not."""

    def __init__(self, observation_space: spaces.Space) -> None:
        super().__init__(observation_space)
        self.gain = torch.nn.Parameter(torch.full((1,), 2.0))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        features = super().forward(observations)
        return features if features.sum() > 0 else self.gain * features


@pytest.mark.parametrize(
    ("policy", "observation_space", "action_space", "kwargs"),
    [
        ("MlpPolicy", BOX, BOX, {}),
        ("MlpPolicy", BOX, BOX, dict(net_arch=[9, 7], recurrent=True, external_modulation=True, readout="rate")),
        ("MlpPolicy", BOX, BOX, dict(rule="bcm", modulation="retroactive", eta_per="neuron", learn=RATES)),
        ("MlpPolicy", BOX, BOX, dict(rule="none", decoder="population", encoder="population")),
        ("MlpPolicy", BOX, spaces.Discrete(3), dict(backend="reference", eta_per="layer", critic="plastic")),
        ("MlpPolicy", BOX, spaces.MultiDiscrete([2, 3]), dict(encoder="population")),
        ("MultiInputPolicy", spaces.Dict(a=BOX, b=BOX), spaces.MultiBinary(3), dict(fast_weights="lifetime")),
        ("CnnPolicy", IMAGE, BOX, {}),
        ("MlpPolicy", BOX, BOX, dict(features_extractor_class=Branching)),
    ],
)
def test_each_individual_acts_as_it_would_alone(policy, observation_space, action_space, kwargs):
    env = random_vec_env(observation_space, action_space, n_envs=3)
    model = small_es(env, policy, policy_kwargs=kwargs)
    individuals = model.strategy.ask(np.random.default_rng(0)).vectors()[:3]
    population = Population(model.policy)
    population.load(individuals)
    states, obs, starts = [None] * 3, env.reset(), np.ones(3, bool)
    seen = []
    for _ in range(10):  # episodes have 7 steps
        actions = population.act(obs, starts)
        for i, individual in enumerate(individuals):
            set_vector(model.policy.actor_parameters(), individual)
            own = {key: value[i : i + 1] for key, value in obs.items()} if isinstance(obs, dict) else obs[i : i + 1]
            alone, states[i] = model.predict(own, states[i], starts[i : i + 1], deterministic=True)
            np.testing.assert_allclose(actions[i], alone[0], rtol=1e-4, atol=1e-5)
        obs, _, starts, _ = env.step(actions)
        seen.append(actions)
    assert len(np.unique(np.concatenate(seen), axis=0)) > 1


@pytest.mark.parametrize("shared", ["pair", "population", "none"])
def test_each_individual_has_the_return_it_would_have_alone(shared):
    model = small_es(cartpole(), n_episodes=2, shared_seeds=shared)
    individuals, fitness = evaluate(model)
    seeds = environment_seeds(model._rng(1), 8, shared)
    assert len(set(seeds.tolist())) == {"pair": 4, "population": 1, "none": 8}[shared]
    assert shared != "pair" or seeds[:4].tolist() == seeds[4:].tolist()
    returns = []
    for individual, seed in zip(individuals, seeds, strict=True):
        set_vector(model.policy.actor_parameters(), individual)
        env = make_vec_env("CartPole-v1", 1, seed=int(seed))
        returns.append(evaluate_policy(model, env, n_eval_episodes=2)[0])
    assert fitness[:, 0].tolist() == returns
    assert len(set(returns)) > 3


@pytest.mark.parametrize("n_envs", [1, 3, 8, 11])
@pytest.mark.parametrize("n_episodes", [1, 2])
def test_the_number_of_environments_does_not_show(n_envs, n_episodes):
    model = small_es(paid(n_envs), n_episodes=n_episodes)
    episodes = []
    callback = Watch(lambda c: episodes.extend(info["episode"] for info in c.locals["infos"] if "episode" in info))
    model.learn(1, callback)
    assert model.num_timesteps == 8 * n_episodes * 3
    assert len(episodes) == 8 * n_episodes
    reference = small_es(n_episodes=n_episodes).learn(1)
    torch.testing.assert_close(mean_of(model), mean_of(reference))


def test_an_environment_that_has_finished_is_neither_counted_nor_shown():
    steps, dones = [], []

    def look(callback):
        steps.append(callback.num_timesteps)
        dones.append(callback.locals["dones"].copy())

    model = small_es(cartpole())
    model.learn(1, Watch(look))
    assert np.sum(dones) == 8
    lengths = [episode["l"] for episode in model.ep_info_buffer]
    assert len(set(lengths)) > 1
    assert model.num_timesteps == sum(lengths)
    assert len(steps) == max(lengths)
    assert np.diff(steps).min() < 8
    stopped = small_es(cartpole())
    stopped.learn(10_000, StopTrainingOnMaxEpisodes(max_episodes=1))  # per environment
    assert (stopped.num_timesteps, stopped._n_updates) == (model.num_timesteps, 0)


# Fitness


def test_fitness_is_the_mean_return_plus_the_offset_of_the_alive_bonus():
    _, fitness = evaluate(small_es())
    _, offset = evaluate(small_es(alive_bonus_offset=-2.0))
    np.testing.assert_allclose(offset, fitness - 6, atol=1e-5)
    assert np.std(fitness) > 0.1


def test_an_end_may_be_a_whole_number():
    fitness = [evaluate(small_es(cls([lambda: Monitor(Paid())] * 8)))[1] for cls in (DummyVecEnv, WholeEnds)]
    np.testing.assert_array_equal(*fitness)


def test_individuals_are_judged_by_the_actions_that_predict_gives_where_motors_take_whole_numbers():
    class Whole(Paid):
        action_space = spaces.Box(-3, 3, (2,), np.int64)

    model = small_es(paid(cls=Whole), sigma=1e-9)
    mean, _ = evaluate_policy(model, paid(cls=Whole), n_eval_episodes=8)
    np.testing.assert_allclose(evaluate(model)[1], mean, rtol=1e-4)
    assert mean % 1


@pytest.mark.parametrize("monitored", [True, False])
def test_normalised_rewards_are_not_the_fitness(monitored):
    plain, normalised = paid(), VecNormalize(paid(monitored=monitored), norm_obs=False, clip_reward=0.01)
    np.testing.assert_allclose(evaluate(small_es(normalised))[1], evaluate(small_es(plain))[1], atol=1e-4)


def test_a_fitness_that_is_no_number_stops_the_training():
    with pytest.raises(ValueError, match="The fitness of individual 0 is nan: a reward was not finite"):
        small_es(paid(cls=Broken)).learn(1)


def test_an_observation_that_is_no_number_stops_the_training():
    class Blind(Paid):
        def step(self, action):
            return (np.full(2, np.nan, np.float32), *super().step(action)[1:])

    with pytest.raises(ValueError, match="The observation of environment 0 is nan"):
        small_es(paid(cls=Blind)).learn(1)


def test_what_an_environment_shows_when_its_individual_has_finished_is_nobodys():
    class Goes(DummyVecEnv):
        """Steps all environments, as SubprocVecEnv does."""

    class Blind(Paid):
        def step(self, action):
            observation, *rest = super().step(action)
            return (observation if self.t <= self.length else np.full(2, np.nan, np.float32), *rest)

        def reset(self, *, seed=None, options=None):
            self.length = 3 if seed is not None else 0  # by itself an episode begins without a seed
            return super().reset(seed=seed)

    class Longer(Blind):
        def step(self, action):
            _, reward, _, *rest = super().step(action)
            return np.ones(2, np.float32), reward, self.t == 6, *rest

    model = small_es(Goes([Blind, Longer] * 4)).learn(1)
    assert mean_of(model).isfinite().all()


def test_statistics_of_observations_are_held_for_a_generation_and_updated_after_it():
    env = VecNormalize(cartpole())
    held = []

    def look(callback):
        assert env.training  # as a callback that saves it has to find it
        held.append((callback.model._n_updates, env.obs_rms.count, *env.obs_rms.mean))

    model = small_es(env).learn(300, Watch(look))
    assert model._n_updates > 1
    assert len(set(held)) == model._n_updates
    # Of each round, the reset and every step of those who play.
    assert env.obs_rms.count == pytest.approx(model.num_timesteps + 8 * model._n_updates, abs=1e-3)
    env.training, before = False, env.obs_rms.mean.copy()
    model.learn(300)
    np.testing.assert_array_equal(env.obs_rms.mean, before)


# Learning


def test_all_of_the_actor_is_evolved_and_nothing_else():
    model = small_es(policy_kwargs=dict(rule="bcm", modulation="retroactive", encoder="population", learn=RATES))
    before = {name: p.detach().clone() for name, p in model.policy.named_parameters()}
    model.learn(1)
    same = {name.split(".")[0] for name, p in model.policy.named_parameters() if torch.equal(p, before[name])}
    assert same == {"log_std", "mlp_extractor", "value_net"}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_seed_gives_the_same_training(strategy):
    first, second, other = (small_es(cartpole(), strategy=strategy, seed=s).learn(500) for s in (1, 1, 2))
    assert torch.equal(mean_of(first), mean_of(second))
    assert not torch.equal(mean_of(first), mean_of(other))


def test_without_a_seed_no_two_trainings_draw_the_same_individuals():
    first, second = (small_es(seed=None) for _ in range(2))
    assert not set(first.strategy.ask(first._rng(0)).seeds) & set(second.strategy.ask(second._rng(0)).seeds)


# What evolves


def changed(model, learn=1):
    """Names of the actor's parameters that a training changes."""
    before = {name: p.detach().clone() for name, p in model.policy.named_parameters()}
    model.learn(learn)
    return {name for name, p in model.policy.named_parameters() if not torch.equal(p, before[name])}


@pytest.mark.parametrize(
    ("evolve", "expected"),
    [
        ("plasticity", {"alpha", "raw_eta", "a", "u", "c", "d"}),
        ("weights", {"w", "b"}),
        (["decoder", "snn.layers.0.alpha"], {"alpha", "weight", "bias"}),
    ],
)
def test_only_what_is_named_evolves(evolve, expected):
    assert {name.rsplit(".", 1)[-1] for name in changed(small_es(cartpole(), evolve=evolve, sigma=5.0))} == expected


def test_a_frozen_extractor_does_not_evolve_unless_it_is_named():
    class Frozen(Dropping):
        def __init__(self, space):
            super().__init__(space)
            self.requires_grad_(False)

    network = dict(features_extractor_class=Frozen)
    features = [
        {n for n in changed(small_es(evolve=e, policy_kwargs=network)) if "features" in n} for e in ("all", "features")
    ]
    assert features[0] == set() != features[1]


@pytest.mark.parametrize(
    ("group", "module"),
    [("features", "features_extractor."), ("encoder", "snn.encoder."), ("decoder", "action_net.")],
)
def test_a_group_has_the_name_of_the_module_that_evolves(group, module):
    network = dict(features_extractor_class=Dropping, encoder="population", learn=RATES)
    names = changed(small_es(evolve=group, sigma=5.0, policy_kwargs=network))
    assert names
    assert all(name.startswith(module) for name in names)


def test_individuals_differ_in_what_evolves_alone():
    model = small_es(evolve="plasticity")
    individuals = model.strategy.ask(model._rng(0))
    actor = get_vector(model.policy.actor_parameters())
    rows = model.evolved.whole(actor, individuals.vectors())
    differs = (rows != actor).any(0)
    assert differs.sum() == len(model.strategy.mean) < len(actor)
    assert torch.equal(model.evolved.part(rows[3]), individuals.vectors()[3])


def test_plasticity_evolves_over_the_weights_of_a_model_trained_without_it(tmp_path):
    trained = PlasticPPO(
        "MlpPolicy", paid(), n_steps=16, batch_size=16, policy_kwargs=dict(net_arch=[6], rule="none"), seed=3
    ).learn(128)
    trained.save(tmp_path / "static")
    model = small_es(start_from=tmp_path / "static.zip", evolve="plasticity")
    assert torch.equal(model.policy.snn.layers[0].w, trained.policy.snn.layers[0].w)
    assert torch.equal(model.policy.action_net.weight, trained.policy.action_net.weight)
    export_policy(trained.policy, tmp_path / "exported")
    exported = small_es(start_from=tmp_path / "exported", evolve="plasticity")
    assert torch.equal(exported.policy.snn.layers[0].w, trained.policy.snn.layers[0].w)
    fixed = {"snn.layers.0.w", "snn.layers.0.b", "action_net.weight", "action_net.bias"}
    assert not changed(model) & fixed
    with pytest.raises(ValueError, match=r"does not fit: the policy's snn\.layers\.0\.alpha .* nothing of this name"):
        small_es(start_from=tmp_path / "static.zip", evolve="weights")
    with pytest.raises(ValueError, match=r"snn\.layers\.0\.w has shape \(2, 9\), the file holds one of shape \(2, 6\)"):
        small_es(start_from=tmp_path / "static.zip", evolve="plasticity", policy_kwargs=dict(net_arch=[9]))


def test_fixed_weights_are_drawn_anew_in_each_episode_the_same_for_all():
    settings = dict(evolve="plasticity", sigma=1e-9, shared_seeds="population")
    _, kept = evaluate(small_es(**settings))
    _, redrawn = evaluate(small_es(**settings, fixed="redrawn"))
    _, two = evaluate(small_es(**settings, fixed="redrawn", n_episodes=2))
    assert np.ptp(kept) < 1e-4
    assert np.ptp(redrawn) < 1e-4  # all individuals have the same weights in the same episode
    assert abs(redrawn - kept).max() > 1e-3
    assert abs(redrawn - two).max() > 1e-3  # the second episode has others
    _, own = evaluate(small_es(**{**settings, "shared_seeds": "none"}, fixed="redrawn"))
    assert len(set(own[:, 0].round(4))) == 8


@pytest.mark.parametrize("n_envs", [1, 3])
def test_weights_that_are_drawn_anew_are_those_of_the_individual_in_any_number_of_environments(n_envs):
    settings = dict(evolve="plasticity", fixed="redrawn", n_episodes=3, shared_seeds="none")
    _, fitness = evaluate(small_es(cartpole(n_envs), **settings))
    np.testing.assert_array_equal(fitness, evaluate(small_es(cartpole(), **settings))[1])
    assert len(set(fitness[:, 0])) > 3  # some had finished, and their rows were dropped, before others began again


def test_what_is_drawn_anew_has_the_mean_and_the_spread_that_its_tensor_has():
    model = small_es(evolve="plasticity", fixed="redrawn")
    with torch.no_grad():
        model.policy.action_net.weight.normal_(-2.0, 5.0)  # 12 numbers, the last but two
        model.policy.action_net.bias.fill_(3.0)
    actor = get_vector(model.policy.actor_parameters())
    rows = actor.repeat(400, 1)
    model.evolved.redraw(rows, np.arange(400), np.arange(400), actor)
    drawn, weight = rows[:, -14:-2], model.policy.action_net.weight
    assert drawn.mean().item() == pytest.approx(weight.mean().item(), abs=0.3)
    assert drawn.std().item() == pytest.approx(weight.std(correction=0).item(), rel=0.05)
    assert (rows[:, -2:] == 3).all()


def test_a_name_that_matches_nothing_is_refused():
    with pytest.raises(
        ValueError, match=r"evolve names 'plastic', but the actor has no such parameters\. Groups: all, "
    ):
        small_es(evolve="plastic")


# Scenarios


class Scaled(Paid):
    """:class:`Paid`, times what the reset's options say, from then on."""

    scale = 1.0

    def reset(self, *, seed=None, options=None):
        self.scale = (options or {}).get("scale", self.scale)
        return super().reset(seed=seed)

    def step(self, action):
        observation, reward, *rest = super().step(action)
        return (observation, reward * self.scale, *rest)


@pytest.mark.parametrize("n_envs", [3, 8])
def test_each_individual_plays_each_scenario(n_envs):
    plain, scenarios = small_es(), [{"scale": 1.0}, {"scale": -3.0}]
    _, fitness = evaluate(plain)
    _, both = evaluate(small_es(paid(n_envs, Scaled), scenarios=scenarios, n_episodes=2))
    np.testing.assert_allclose(both, fitness * [1, -3], atol=1e-5)


def test_fitness_over_scenarios_is_their_mean_or_the_worst():
    means, scenarios = {}, [{"scale": 1.0}, {"scale": -0.5}]
    for how in ("mean", "worst"):
        model = small_es(paid(cls=Scaled), scenarios=scenarios, scenario_fitness=how)
        model.learn(1)
        means[how] = mean_of(model)
        fitness = evaluate(small_es(paid(cls=Scaled), scenarios=scenarios))[1]
        by_hand = small_es()
        by_hand.strategy.ask(by_hand._rng(0))
        by_hand.strategy.tell(fitness.mean(1) if how == "mean" else fitness.min(1), 0.05)
        assert torch.equal(means[how], by_hand.strategy.mean)
    assert not torch.equal(means["mean"], means["worst"])


def test_the_log_tells_how_each_scenario_went():
    model = small_es(paid(cls=Scaled), scenarios=[{"scale": 1.0}, {"scale": -3.0}])
    model.set_logger(configure(None, []))
    model.logger.output_formats.append(written := Written())
    model.learn(1, fitness := Fitness())
    for i, column in enumerate(fitness.seen.T):
        logged = [written.last[f"scenario/{i}_{what}"] for what in ("best", "mean", "worst")]
        assert logged == pytest.approx([column.max(), column.mean(), column.min()])


def test_the_log_tells_the_spread_of_the_fitness():
    logged = generation_statistics(np.array([0.0, 4.0]), np.array([[0.0], [4.0]]), None)
    assert [logged[f"train/fitness_{name}"] for name in ("best", "mean", "worst", "std")] == [4, 2, 0, 2]


def test_all_of_a_generation_meet_the_same_seed_in_each_scenario_and_the_next_generation_another():
    seeds = []

    class Seeded(Scaled):
        def reset(self, *, seed=None, options=None):
            seeds.extend([] if seed is None else [seed])
            return super().reset(seed=seed, options=options)

    model = small_es(paid(cls=Seeded), scenarios=[{"scale": 1.0}, {"scale": -3.0}])
    model.learn(2 * 8 * 2 * 3)
    first, second = np.reshape(seeds[8:], (2, 16)).tolist()  # those before are of SB3's own reset
    assert (model._n_updates, len({*first}), len({*second})) == (2, 1, 1)
    assert first != second


def test_scenarios_are_given_as_names_lists_or_options():
    assert reset_options("nda-v1/nominal") == {"scenario": "nda-v1/nominal"}
    assert reset_options([{"kind": "mass", "value": 2}]) == {"perturbations": [{"kind": "mass", "value": 2}]}
    assert reset_options({"low": 1}) == {"low": 1}


# Environments whose individual has finished


class Counted(Paid):
    """Counts its steps; an episode ends after as many as the environment has been given."""

    def __init__(self, length):
        self.length, self.n_steps = length, 0

    def step(self, action):
        self.n_steps += 1
        observation, reward, *_ = super().step(action)
        return observation, reward, self.t == self.length, False, {}


def test_after_a_training_the_environments_no_longer_play_the_same_episode():
    """Or evaluate_policy in the environments of the training would judge one episode again and again."""
    env = make_vec_env("CartPole-v1", 4)
    model = PlasticES("MlpPolicy", env, population_size=4, seed=0, policy_kwargs=dict(net_arch=[4])).learn(1)
    first = env.reset()
    assert len(np.unique(first, axis=0)) == 4
    model.learn(1)
    assert (env.reset() != first).all()


def test_environments_idle_once_their_individual_has_finished():
    env = DummyVecEnv([lambda length=length: Monitor(Counted(length)) for length in (2, 5, 9, 3)])
    originals = [*env.envs]
    _, fitness = evaluate(small_es(env, population_size=2, shared_seeds="none"))
    assert [one.unwrapped.n_steps for one in env.envs] == [2, 5, 0, 0]
    assert env.envs == originals
    assert len(fitness) == 2


def test_what_is_set_while_an_environment_idles_reaches_it():
    env = DummyVecEnv([lambda length=length: Counted(length) for length in (2, 9)])

    class Curriculum(BaseCallback):
        def _on_step(self):
            if self.n_calls == 5:  # the first idles
                self.training_env.set_attr("length", 7)
            return True

    small_es(env, population_size=2, shared_seeds="none").learn(1, callback=Curriculum())
    assert [one.length for one in env.envs] == [7, 7]


def test_environments_that_idle_by_themselves_are_told_to_and_woken_in_the_end():
    class Idles(DummyVecEnv):
        told = ()

        def set_idle(self, rows):
            self.told = (*self.told, rows.tolist())

    env = Idles([lambda length=length: Counted(length) for length in (2, 5, 9)])
    small_es(env, population_size=2, shared_seeds="none").learn(1)
    assert env.told == ([False, False, True], [True, False, True], [True, True, True], [False] * 3)


def test_episodes_of_an_environment_that_goes_on_without_its_individual_do_not_count():
    class Goes(DummyVecEnv):
        """Steps all environments, as those do that cannot idle."""

    env = Goes([lambda length=length: Monitor(Counted(length)) for length in (2, 9)])
    model = small_es(env, population_size=2, shared_seeds="none").learn(1)
    assert [episode["l"] for episode in model.ep_info_buffer] == [2, 9]
    assert model.num_timesteps == 11


class Picky(Counted):
    """Refuses the action 0, and shows a dict."""

    observation_space = spaces.Dict({"a": Paid.observation_space})
    action_space = spaces.Box(1, 2, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed)
        return {"a": observation}, info

    def step(self, action):
        assert self.action_space.contains(action)
        observation, *rest = super().step(action)
        return ({"a": observation}, *rest)


def test_environments_of_other_processes_idle_as_those_of_this_one(tmp_path):
    fitness = []
    for cls, options in ((DummyVecEnv, {}), (SubprocVecEnv, dict(start_method="fork"))):
        name = cls.__name__
        (tmp_path / name).mkdir()
        made = [
            lambda i=i, n=n, name=name: Monitor(Picky(n), f"{tmp_path}/{name}/{i}") for i, n in enumerate((2, 5, 9, 3))
        ]
        env = cls(made, **options)
        fitness.append(evaluate(small_es(env, "MultiInputPolicy", population_size=2, shared_seeds="none"))[1])
        assert env.get_attr("n_steps") == [2, 5, 0, 0]
        env.close()
        assert load_results(f"{tmp_path}/{name}").l.tolist() == [2, 5]
    np.testing.assert_array_equal(*fitness)


# Learning


def test_it_learns_cartpole():
    settings = dict(policy_kwargs=dict(net_arch=[16]), seed=1, device="cpu")
    model = PlasticES("MlpPolicy", cartpole(32), population_size=32, sigma=0.1, learning_rate=0.1, **settings)
    env = make_vec_env("CartPole-v1", 10, seed=5)
    assert evaluate_policy(model, env, n_eval_episodes=10)[0] < 100
    model.learn(70_000)
    assert evaluate_policy(model, env, n_eval_episodes=10)[0] > 400


def test_a_single_environment_by_its_name_is_enough():
    model = PlasticES("PlasticPolicy", "CartPole-v1", population_size=2, seed=0, policy_kwargs=dict(net_arch=[4]))
    assert model.learn(1)._n_updates == 1


def test_a_saved_model_keeps_its_strategy(tmp_path):
    model = small_es()
    model.save(tmp_path / "m.zip")
    assert PlasticES.load(tmp_path / "m.zip", strategy="openai_es").strategy_name == "openai_es"
    with pytest.raises(ValueError, match=r"saved with strategy='openai_es'.*strategy='pgpe', start_from=FILE"):
        PlasticES.load(tmp_path / "m.zip", strategy="pgpe")
    assert PlasticES.load(tmp_path / "m.zip", sigma=model.sigma).sigma == model.sigma
    with pytest.raises(ValueError, match=r"saved with sigma=0\.1, .* sigma=0\.01, start_from=FILE"):
        PlasticES.load(tmp_path / "m.zip", sigma=0.01)
    with pytest.raises(ValueError, match=r"saved optimiser has amsgrad, betas.* start_from=FILE"):
        PlasticES.load(tmp_path / "m.zip", strategy_kwargs=dict(optimizer="clipup"))


def test_settings_of_the_optimiser_may_change_when_a_model_goes_on(tmp_path):
    small_es(paid()).learn(1).save(tmp_path / "m.zip")
    changed = dict(optimizer_kwargs=dict(betas=(0.5, 0.9)))
    optimizer = PlasticES.load(tmp_path / "m.zip", strategy_kwargs=changed).strategy.optimizer
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.9)
    (memory,) = optimizer.state.values()
    assert memory["step"] == 1


# Callbacks and logger


@pytest.mark.filterwarnings("ignore:rich is experimental")
def test_the_progress_bar_counts_the_steps_that_were_played(monkeypatch):
    bars = []
    update = ProgressBarCallback._on_training_end
    monkeypatch.setattr(ProgressBarCallback, "_on_training_end", lambda bar: (bars.append(bar.pbar.n), update(bar)))
    model = small_es(cartpole())
    model.learn(1, progress_bar=True)
    assert bars == [model.num_timesteps]
    model.learn(1, [ProgressBarCallback()])  # as RL Zoo gives it
    assert bars[1:] == [model.num_timesteps]
    before = model.num_timesteps
    model.learn(1, CallbackList([ProgressBarCallback()]), reset_num_timesteps=False)
    assert bars[2:] == [model.num_timesteps - before]


def test_a_callback_stops_the_training():
    model = small_es(paid())
    model.learn(1000, Watch(lambda callback: callback.n_calls < 5))
    assert model.num_timesteps == 5 * 8  # in the second generation
    assert model._n_updates == 1


def test_callbacks_see_each_generation_begin_and_end():
    seen = []

    class Bounds(BaseCallback):
        def _on_training_start(self):
            seen.append("training")

        def _on_rollout_start(self):
            seen.append("start")

        def _on_step(self):
            return True

        def _on_rollout_end(self):
            seen.append("end")

        def _on_training_end(self):
            seen.append("over")

    small_es().learn(40, Bounds())
    assert seen == ["training", "start", "end", "start", "end", "over"]


def test_the_policy_is_the_mean_at_every_step_and_eval_callback_saves_it(tmp_path):
    means = []

    def look(callback):
        mean = mean_of(callback.model)
        assert torch.equal(mean, callback.model.strategy.mean)
        if callback.model._n_updates == len(means):
            means.append(mean)

    model = small_es(cartpole())
    save = EvalCallback(cartpole(1), eval_freq=40, best_model_save_path=str(tmp_path), verbose=0)
    model.learn(1000, [Watch(look), save])
    assert len(means) > 2
    best = mean_of(PlasticES.load(tmp_path / "best_model", device="cpu"))
    assert any(torch.equal(best, mean) for mean in means)


class Written(KVWriter):
    """What was logged last."""

    def write(self, key_values, key_excluded, step=0):
        self.last = dict(key_values)

    def close(self):
        pass


def test_the_log_tells_of_generations(tmp_path):
    model = small_es(cartpole(), strategy="pgpe", n_episodes=2)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.logger.output_formats.append(written := Written())
    model.learn(1000)
    model.logger.close()
    assert written.last["train/fitness"].shape == (8,)  # a tensor: TensorBoard's histogram
    log = np.genfromtxt(tmp_path / "progress.csv", delimiter=",", names=True, deletechars="")
    names = ("generation", "sigma", "grad_norm", "learning_rate", "fitness_best", "fitness_mean", "fitness_std")
    names += ("fitness_worst", "update_norm", "diversity")
    expected = {f"train/{name}" for name in names} | {"rollout/ep_rew_mean", "rollout/ep_len_mean"}
    expected |= {"snn/layer0_spike_rate", "snn/layer0_h_norm"}
    assert expected | {"time/fps", "time/total_timesteps"} <= set(log.dtype.names)
    assert log["train/generation"].tolist() == list(range(1, model._n_updates + 1))
    assert log["time/total_timesteps"][-1] == model.num_timesteps
    assert log["rollout/ep_rew_mean"][0] == pytest.approx(log["train/fitness_mean"][0])
    assert (log["train/fitness_best"] > log["train/fitness_mean"]).all()


def test_the_log_is_written_once_in_so_many_generations(tmp_path):
    model = small_es()
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(5 * 8 * 3, log_interval=2)
    model.logger.close()
    assert np.genfromtxt(tmp_path / "progress.csv", delimiter=",", names=True)["traingeneration"].tolist() == [2, 4]
    with pytest.raises(ValueError, match="log_interval must be a whole number at least 1, got 0"):
        model.learn(5 * 8 * 3, log_interval=0)


# Files


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("seed", [0, None])
@pytest.mark.parametrize("stop", ["between generations", "in a generation"])
def test_a_training_resumes_bit_for_bit(strategy, seed, stop, tmp_path):
    def make(**kwargs):
        return small_es(VecNormalize(cartpole()), strategy=strategy, seed=seed, **kwargs)

    whole, half = make(), make()
    set_vector(half.policy.actor_parameters(), mean_of(whole))
    half.noise_seed = whole.noise_seed
    whole.learn(10_000, until(5))
    in_the_third = []
    late = Watch(lambda c: c.model._n_updates < 2 or in_the_third.append(1) or len(in_the_third) < 5)
    half.learn(10_000, until(2) if stop == "between generations" else late)
    assert half._n_updates == 2
    half.save(tmp_path / "half")
    half.env.save(tmp_path / "statistics")
    env = VecNormalize.load(tmp_path / "statistics", cartpole())
    resumed = PlasticES.load(tmp_path / "half", env, device="cpu")
    resumed.learn(10_000, until(5), reset_num_timesteps=False)
    assert torch.equal(mean_of(resumed), mean_of(whole))
    found, expected = (model.strategy.state_dict() for model in (resumed, whole))
    assert all(torch.equal(found[name], x) for name, x in expected.items() if isinstance(x, torch.Tensor))
    np.testing.assert_array_equal(env.obs_rms.mean, whole.env.obs_rms.mean)
    assert not torch.equal(mean_of(half), mean_of(whole))


TRAINING = """
import sys
from stable_baselines3.common.callbacks import CheckpointCallback
from sb3_plastic import PlasticES

model = PlasticES(
    "MlpPolicy", "CartPole-v1", population_size=8, seed=0, device="cpu", policy_kwargs=dict(net_arch=[6], gain=3.0)
)
model.learn(10**9, CheckpointCallback(100, sys.argv[1], "model"))
"""


@pytest.mark.slow
def test_a_training_that_was_killed_goes_on_from_its_last_checkpoint_bit_for_bit(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", TRAINING, str(tmp_path)])
    while len(list(tmp_path.glob("model_*_steps.zip"))) < 5:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    last = max(tmp_path.glob("model_*_steps.zip"), key=lambda path: int(path.stem.split("_")[1]))
    resumed = PlasticES.load(last, make_vec_env("CartPole-v1"), device="cpu")
    generations = resumed._n_updates + 2
    resumed.learn(10**9, until(generations), reset_num_timesteps=False)
    whole = PlasticES(
        "MlpPolicy", "CartPole-v1", population_size=8, seed=0, device="cpu", policy_kwargs=dict(net_arch=[6], gain=3.0)
    ).learn(10**9, until(generations))
    assert torch.equal(mean_of(resumed), mean_of(whole))


def test_a_saved_model_acts_the_same_with_any_number_of_environments(tmp_path):
    model = small_es(cartpole(), strategy="pgpe", strategy_kwargs=dict(optimizer="clipup")).learn(100)
    model.save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model.zip"]
    observations = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    expected, _ = model.predict(observations, deterministic=True)
    assert len(set(expected)) == 2
    for env in (None, cartpole(3)):
        loaded = PlasticES.load(tmp_path / "model", env, device="cpu")
        np.testing.assert_array_equal(loaded.predict(observations, deterministic=True)[0], expected)
    assert loaded.learn(100, reset_num_timesteps=False).num_timesteps >= model.num_timesteps + 100


def test_a_truncated_file_is_refused(tmp_path):
    small_es().save(tmp_path / "model.zip")
    data = (tmp_path / "model.zip").read_bytes()
    (tmp_path / "model.zip").write_bytes(data[: len(data) // 3])
    with pytest.raises(ValueError, match="not a complete model"):
        PlasticES.load(tmp_path / "model.zip")


def test_parameters_that_the_user_gives_are_the_mean_from_there_on():
    giver, taker = small_es(seed=1), small_es(seed=2, learning_rate=0.0)
    taker.set_parameters({"policy": giver.get_parameters()["policy"]}, exact_match=False)
    taker.learn(1)
    assert torch.equal(mean_of(taker), mean_of(giver))
    assert {"policy", "strategy"} == giver.get_parameters().keys()


# Errors


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(strategy="cma"), "Unknown strategy 'cma'. Allowed: .*pgpe"),
        (dict(scenario_fitness="best"), "Unknown scenario_fitness 'best'. Allowed: mean, worst"),
        (dict(scenarios=[]), "scenarios is a list with at least one scenario"),
        (dict(scenarios="nda-v1/nominal"), "scenarios is a list with at least one scenario"),
        (dict(evolve=5), "evolve is a name or a list of names, got 5"),
        (dict(n_workers=-1), "n_workers must be a whole number at least 0, got -1"),
        (dict(population_size=7), "population_size must be even and at least 2, got 7"),
        (dict(n_episodes=0), "n_episodes must be a whole number at least 1, got 0"),
        (dict(n_episodes=1.5), r"n_episodes must be a whole number at least 1, got 1\.5"),
        (dict(population_size=8.0), r"population_size must be a whole number at least 2, got 8\.0 \(write 8\)"),
        (dict(sigma=-1.0), r"sigma, a standard deviation, must be .* above 0, got -1\.0"),
        (dict(sigma=np.nan), "sigma, a standard deviation, must be a finite number above 0, got nan"),
        (dict(sigma="1e-1"), "sigma, a standard deviation, must be a finite number above 0, got '1e-1'"),
        (dict(alive_bonus_offset=np.nan), "alive_bonus_offset must be a finite number"),
        (dict(strategy_kwargs=dict(weight_decay="1e-2")), "weight_decay must be a finite number at least 0"),
        (dict(strategy_kwargs=dict(weight_decy=0.1)), "strategy_kwargs of openai_es: .*'weight_decy'"),
        (dict(policy_kwargs=dict(rule="ojo")), "Unknown plasticity rule 'ojo'"),
        (dict(policy_kwargs=dict(adaptive=True)), "no rollouts from which an adaptive layer could learn"),
    ],
)
def test_settings_that_make_no_sense_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        small_es(**kwargs)


def test_a_scenario_that_is_none_is_refused():
    with pytest.raises(UserError, match="A scenario is a name, a list of perturbations or a mapping of options, got 5"):
        small_es(scenarios=[5]).learn(1)


@pytest.mark.parametrize("scenario", ["nda-v2/novel/reversed", [{"kind": "strength", "value": 0.5}]])
def test_scenarios_of_an_environment_that_would_ignore_them_are_refused(scenario):
    with pytest.raises(UserError, match="need environments that can be perturbed; these would ignore them"):
        small_es(cartpole(), scenarios=[scenario]).learn(1)


def test_scenarios_perturb_any_environment_in_perturb_signals():
    env = make_vec_env("Pendulum-v1", 4, wrapper_class=PerturbSignals)
    model = small_es(
        env, population_size=2, scenarios=["nda-v2/novel/sensors_off", [{"kind": "obs_bias", "value": 0.2}]]
    )
    model.learn(1)
    shown = [env_.get_wrapper_attr("perturber").perturbations for env_ in env.envs]
    assert [(p.kind, p.value) for (p,) in shown] == [("obs_bias", 0.1), ("obs_bias", 0.2)] * 2


def test_a_learning_rate_that_falls_below_zero_is_refused():
    with pytest.raises(UserError, match="The learning rate must be a finite number at least 0, got -"):
        small_es(learning_rate=lambda remaining: remaining - 0.9).learn(500)
    with pytest.raises(UserError, match=r"learning_rate must be a finite number at least 0, got -0\.1"):
        small_es(learning_rate=-0.1)


def test_a_seed_that_is_set_later_seeds_the_noise_too():
    trained = []
    for _ in range(2):
        model = small_es(seed=None)
        model.policy.load_state_dict(trained[0].policy.state_dict() if trained else model.policy.state_dict())
        trained.append(model)
    for model in trained:
        model.set_random_seed(7)
        model.strategy.mean.data.copy_(model._mean())
        model.learn(1)
    assert torch.equal(mean_of(trained[0]), mean_of(trained[1]))


def test_a_model_of_another_algorithm_is_named(tmp_path):
    small_es().save(tmp_path / "es.zip")
    small_ppo().save(tmp_path / "ppo.zip")
    for algorithm, name in ((PlasticPPO, "es"), (PlasticES, "ppo")):
        with pytest.raises(UserError, match=f"{name}.zip is no model of {algorithm.__name__}: another algorithm"):
            algorithm.load(tmp_path / f"{name}.zip")
    PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8).save(tmp_path / "mlp.zip")
    with pytest.raises(UserError, match="PlasticPPO trains a PlasticPolicy, got ActorCriticPolicy: for others use PPO"):
        PlasticPPO.load(tmp_path / "mlp.zip")


def test_a_seed_that_is_set_later_is_that_of_a_saved_model(tmp_path):
    model = small_es(seed=0)
    model.set_random_seed(5)
    model.save(tmp_path / "m.zip")
    assert PlasticES.load(tmp_path / "m.zip").noise_seed == 5
    assert PlasticES.load(tmp_path / "m.zip", seed=6).noise_seed == 6


def test_a_return_that_the_monitor_sums_over_lives_is_counted_once():
    class Lives(gym.Wrapper):
        """Done every two steps, as Atari's EpisodicLifeEnv; what is inside goes on."""

        over = True

        def reset(self, **kwargs):
            anew = kwargs.get("seed") is not None or self.over
            self.over, self.t = False, 0
            return self.env.reset(**kwargs) if anew else (self.observation, {})

        def step(self, action):
            self.observation, reward, terminated, truncated, info = self.env.step(action)
            self.t += 1
            self.over = terminated or truncated
            return self.observation, reward, terminated or self.t == 2, truncated, info

    def make():
        return Lives(Monitor(TimeLimit(gym.make("CartPole-v1"), 6)))  # which pays 1 for each step

    env, fitness = DummyVecEnv([make] * 2), Fitness()
    model = PlasticES("MlpPolicy", env, population_size=2, n_episodes=3, seed=0, policy_kwargs=dict(net_arch=[4]))
    model.learn(1, callback=fitness)
    assert fitness.seen.tolist() == [[2.0], [2.0]]


@pytest.mark.parametrize("n_envs", [4, 2])
def test_equal_individuals_are_judged_alike_whatever_their_row_also_by_an_encoder_that_draws(n_envs):
    network = dict(net_arch=[8], encoder="population", encoder_kwargs=dict(bernoulli=True))
    env, fitness = make_vec_env("Pendulum-v1", n_envs, seed=0), Fitness()
    model = PlasticES("MlpPolicy", env, population_size=4, sigma=1e-12, seed=0, policy_kwargs=network)
    model.learn(1, callback=fitness)
    assert len({*fitness.seen.ravel()}) == 1


def test_a_model_goes_on_evolving_what_it_has_evolved(tmp_path):
    small_es().save(tmp_path / "m.zip")
    with pytest.raises(UserError, match=r"or of another `evolve`\. To evolve something else, start anew"):
        PlasticES.load(tmp_path / "m.zip", evolve="plasticity")


def test_a_policy_without_a_state_is_refused():
    from stable_baselines3.common.policies import ActorCriticPolicy

    with pytest.raises(UserError, match="PlasticES evolves a PlasticPolicy, got ActorCriticPolicy"):
        PlasticES(ActorCriticPolicy, paid())


def test_observations_that_sb3_does_not_support_are_refused_as_sb3_does():
    pairs = spaces.Tuple([spaces.Box(-1, 1, (2,)), spaces.Discrete(2)])
    with pytest.raises(NotImplementedError, match="observation space is not supported"):
        small_es(DummyVecEnv([lambda: RandomEnv(pairs, spaces.Discrete(2))]))


# RL Zoo


def test_rl_zoo_trains_it_continues_and_watches_it(tmp_path, monkeypatch):
    es = ["--algo", "plastic_es", "--env", "CartPole-v1"]
    small = ["--eval-freq", "20", "--eval-episodes", "1", "-params", "n_envs:4", "population_size:4"]
    monkeypatch.chdir(tmp_path)
    output = answer(["train", *es, "-n", "100", *small, "policy_kwargs:dict(n_ticks=1)"])
    assert "train/" in output
    assert stray_lines(output) == []
    folder = tmp_path / "logs" / "plastic_es" / "CartPole-v1_1"
    trained = PlasticES.load(folder / "CartPole-v1.zip", device="cpu")
    assert trained.policy_kwargs["n_ticks"] == 1
    assert trained.policy_kwargs["rule"] == "oja"  # as configured
    assert (folder / "best_model.zip").exists()
    answer(["train", *es, "-n", "50", "-i", folder / "CartPole-v1.zip", *small[:4]])
    assert "Mean reward" in answer(["enjoy", *es, "--no-render", "-n", "600"])


# Fitness and statistics


@pytest.mark.parametrize("monitored", [True, False])
def test_the_offset_counts_in_each_of_several_episodes_also_without_a_monitor(monitored):
    _, fitness = evaluate(small_es())
    _, offset = evaluate(small_es(paid(monitored=monitored), alive_bonus_offset=-2.0, n_episodes=2))
    np.testing.assert_allclose(offset, fitness - 6, atol=1e-5)


def test_statistics_are_those_of_the_original_observations():
    env = VecNormalize(paid())
    assert small_es(env).learn(40)._n_updates == 2
    np.testing.assert_allclose(env.obs_rms.mean, 1, atol=1e-3)  # all that Paid shows


def test_statistics_of_dict_observations_are_those_of_who_plays():
    env = VecNormalize(DummyVecEnv([lambda length=length: Picky(length) for length in (2, 5, 9, 3)]))
    small_es(env, "MultiInputPolicy", population_size=2, shared_seeds="none").learn(1)
    assert env.obs_rms["a"].count == pytest.approx((1 + 2) + (1 + 5), abs=1e-3)  # reset and steps of two


def test_the_log_counts_successes():
    class Succeeds(Paid):
        def step(self, action):
            observation, reward, is_over, *_ = super().step(action)
            return observation, reward, is_over, False, {"is_success": reward > 0} if is_over else {}

    model = small_es(paid(cls=Succeeds))
    model.set_logger(configure(None, []))
    model.logger.output_formats.append(written := Written())
    model.learn(1)
    assert written.last["rollout/success_rate"] == np.mean(model.ep_success_buffer)
    assert len(model.ep_success_buffer) == 8


def test_a_mean_that_overflows_stops_the_training():
    with pytest.raises(UserError, match=r"Evolution stops: .* are not finite"):
        small_es(learning_rate=1e38, strategy_kwargs=dict(optimizer="sgd")).learn(1)
