"""Ray workers: equal seeds give equal generations, and a worker that dies costs time alone."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecMonitor, VecNormalize

from sb3_plastic import PlasticES
from sb3_plastic.es import workers
from sb3_plastic.es.environments import pack, unpack
from sb3_plastic.es.evolved import get_vector
from sb3_plastic.snn.rules import RULES
from sb3_plastic.studies.ray_tasks import RayTasks
from sb3_plastic.studies.results import read_results
from sb3_plastic.studies.runner import run_cells

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def cluster():
    """A local cluster with two processors, for all tests of this file."""
    import ray

    os.environ.setdefault("RAY_worker_niceness", "0")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def cartpole_es(n_workers=0, env=None, **kwargs):
    """8 individuals with 2 episodes each, in 4 sub-batches of 2, under normalised observations."""
    env = env or VecNormalize(make_vec_env("CartPole-v1", 2), norm_reward=False)
    settings = dict(population_size=8, n_episodes=2, seed=0, device="cpu", policy_kwargs=dict(net_arch=[6], gain=3.0))
    return PlasticES("MlpPolicy", env, n_workers=n_workers, **{**settings, **kwargs})


@dataclass
class Seen:
    """What a callback sees of a training."""

    timesteps: list = field(default_factory=list)
    episodes: list = field(default_factory=list)
    fitness: list = field(default_factory=list)


class Look(BaseCallback):
    def __init__(self):
        super().__init__()
        self.seen = Seen()

    def _on_step(self):
        infos = self.locals["infos"]
        self.seen.timesteps.append(self.num_timesteps)
        self.seen.episodes += [(i, info["episode"]["r"]) for i, info in enumerate(infos) if "episode" in info]
        return True

    def _on_rollout_end(self):
        self.seen.fitness.append(self.locals["fitness"].tolist())


def test_two_workers_give_the_generations_of_none_bit_for_bit(cluster):
    alone, look_alone, many, look_many = cartpole_es(), Look(), cartpole_es(2), Look()
    alone.learn(900, look_alone)
    many.learn(900, look_many)
    assert alone._n_updates == many._n_updates > 1
    assert torch.equal(*(get_vector(model.policy.actor_parameters()) for model in (alone, many)))
    assert look_alone.seen == look_many.seen
    mine, theirs = (model.get_env().obs_rms for model in (alone, many))
    np.testing.assert_array_equal(mine.mean, theirs.mean)
    assert mine.count == theirs.count
    assert [e["l"] for e in alone.ep_info_buffer] == [e["l"] for e in many.ep_info_buffer]


class Here:
    """An evaluator whose one worker is in this process."""

    def __init__(self, model):
        self.worker = workers.Worker(pack(model.env), workers.pack_policy(model.policy, model.evolve, model.fixed))

    def evaluate(self, generation, batches, on_step):
        outcomes = []
        for batch in batches:
            outcome, recording = self.worker.play(generation, batch)
            if not recording.replay(on_step):
                return None
            outcomes.append(outcome)
        return outcomes

    def statistics(self):
        return {}

    def close(self):
        pass


def succeeding(env):
    """An environment that says at the end whether the pole stood for long."""

    class Succeeds(gym.Wrapper):
        def reset(self, **kwargs):
            self.t = 0
            return self.env.reset(**kwargs)

        def step(self, action):
            observation, reward, terminated, truncated, info = self.env.step(action)
            self.t += 1
            return observation, reward, terminated, truncated, info | {"is_success": self.t > 20}

    return Succeeds(env)


def test_a_worker_plays_what_this_process_would_and_reports_the_same(monkeypatch):
    models = []
    for here in (False, True):
        env = VecNormalize(make_vec_env("CartPole-v1", 2, wrapper_class=succeeding), norm_reward=False)
        model = cartpole_es(env=env, evolve="plasticity", fixed="redrawn")
        if here:
            monkeypatch.setattr(model, "evaluator", lambda model=model: Here(model))
        models.append(model.learn(500))
    alone, worked = models
    assert alone._n_updates == worked._n_updates > 1
    assert torch.equal(*(get_vector(model.policy.actor_parameters()) for model in models))
    assert [*worked.ep_success_buffer] == [*alone.ep_success_buffer]
    assert len({*alone.ep_success_buffer}) == 2


def test_a_worker_has_a_rule_that_this_process_has_added(monkeypatch):
    monkeypatch.setitem(RULES, "mine", RULES["hebb"])
    model = cartpole_es(policy_kwargs=dict(net_arch=[6], rule="mine"))
    packed = pack(model.env), workers.pack_policy(model.policy, model.evolve, model.fixed)
    monkeypatch.delitem(RULES, "mine")  # as in a process of its own
    workers.Worker(*packed)
    assert "mine" in RULES


def test_a_callback_stops_the_training_that_workers_play(monkeypatch):
    class Stop(BaseCallback):
        def _on_step(self):
            return self.n_calls < 5

    model = cartpole_es()
    monkeypatch.setattr(model, "evaluator", lambda: Here(model))
    model.learn(900, Stop())
    assert (model.num_timesteps, model._n_updates) == (10, 0)


class Keep(BaseCallback):
    """Keeps the evaluator of a training."""

    def _on_training_start(self):
        self.evaluator = self.locals["evaluator"]

    def _on_step(self):
        return True


def test_a_worker_that_is_killed_in_a_generation_costs_time_alone(cluster, tmp_path):
    here, killed = os.getpid(), tmp_path / "killed"

    def fatal_once(env):
        class Fatal(gym.Wrapper):
            def step(self, action):
                if os.getpid() != here:
                    with suppress(FileExistsError):
                        killed.touch(exist_ok=False)
                        os.kill(os.getpid(), signal.SIGKILL)
                return self.env.step(action)

        return Fatal(env)

    env = make_vec_env("CartPole-v1", 2, seed=3, wrapper_class=fatal_once)
    alone, many, keep = cartpole_es(env=env), cartpole_es(2, env), Keep()
    alone.learn(1)
    many.learn(1, keep)
    logged = keep.evaluator.statistics()
    assert logged["workers"] == 2
    assert logged["workers_lost"] == 1
    assert 0 < logged["worker_utilisation"] <= 1
    assert torch.equal(*(get_vector(model.policy.actor_parameters()) for model in (alone, many)))


def test_an_error_of_an_environment_is_raised_as_it_was_in_the_worker(cluster):
    def blind(env):
        return gym.wrappers.TransformObservation(env, lambda observation: observation * float("nan"), None)

    env = make_vec_env("CartPole-v1", 2, wrapper_class=blind)
    with pytest.raises(ValueError, match="The observation of environment 0 is nan"):
        cartpole_es(1, env).learn(1)


@pytest.mark.slow
def test_two_nodes_give_the_generations_of_one_process_bit_for_bit():
    """Two nodes of one processor each, started by `ray start` as on two machines: each has one worker."""
    import ray

    address = "127.0.0.1:6399"
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--num-cpus=1", "--disable-usage-stats"]
    try:
        for role in (["--head", "--port=6399", "--include-dashboard=false"], [f"--address={address}"]):
            without_token = {**os.environ, "RAY_AUTH_MODE": "disabled"}
            subprocess.run([*start, *role], check=True, capture_output=True, env=without_token)
        ray.init(address, log_to_driver=False, logging_level="ERROR")
        assert [node["Resources"]["CPU"] for node in ray.nodes() if node["Alive"]] == [1, 1]
        alone, many = cartpole_es(), cartpole_es(2, ray_address=address)
        alone.learn(900)
        many.learn(900)
        assert torch.equal(*(get_vector(model.policy.actor_parameters()) for model in (alone, many)))
    finally:
        ray.shutdown()
        subprocess.run([sys.executable, "-m", "ray.scripts.scripts", "stop"], capture_output=True)


def test_versions_that_differ_are_refused():
    mine = workers.versions()
    workers.check_versions(mine, mine)
    with pytest.raises(workers.WorkerError, match=r"runs other software: .*torch 1\.0 there, .* here"):
        workers.check_versions({**mine, "torch": "1.0"}, mine)
    with pytest.raises(workers.WorkerError, match="runs other software: numpy missing there"):
        workers.check_versions({name: version for name, version in mine.items() if name != "numpy"}, mine)


def test_a_cluster_that_does_not_answer_is_said_to_be_unreachable():
    with pytest.raises(workers.WorkerError, match="No Ray cluster answers at localhost:1 "):
        cartpole_es(2, ray_address="localhost:1").learn(1)


def test_without_ray_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ImportError, match=r'n_workers needs Ray: pip install "sb3_plastic\[ray\]"'):
        cartpole_es(2).learn(1)


def test_a_study_names_its_own_options(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ImportError, match="--ray with --jobs needs Ray"):
        next(RayTasks("local", 2).map(print, []))


def test_more_workers_than_sub_batches_are_refused():
    with pytest.raises(ValueError, match=r"1 sub-batches for 2 workers.* Set n_envs to 4 or less"):
        cartpole_es(2, make_vec_env("CartPole-v1", 8)).learn(1)
    with pytest.raises(ValueError, match=r"has 24 rows .* which is 3 sub-batches for 4 workers.* Set n_envs to 6 or"):
        cartpole_es(4, make_vec_env("CartPole-v1", 8), scenarios=[{}] * 3).learn(1)


def test_an_environment_that_cannot_be_copied_is_refused():
    env = SubprocVecEnv([lambda: gym.make("CartPole-v1")], start_method="fork")
    with pytest.raises(ValueError, match="Workers cannot copy a SubprocVecEnv"):
        pack(env)
    env.close()


def test_a_copy_of_an_environment_plays_as_the_original(tmp_path):
    env = VecNormalize(make_vec_env("CartPole-v1", 2, monitor_dir=str(tmp_path)))
    copy = unpack(pack(env))
    for one in (env, copy):
        one.seed(3)
    np.testing.assert_array_equal(env.reset(), copy.reset())
    for _ in range(30):
        actions = np.array([0, 1])
        for mine, theirs in zip(env.step(actions)[:3], copy.step(actions)[:3], strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert len(env.envs[0].get_episode_rewards()) == len(copy.envs[0].get_episode_rewards()) > 0
    logged = next(tmp_path.glob("0.monitor.csv")).read_text().splitlines()
    assert len(logged) == 2 + len(env.envs[0].get_episode_rewards())  # the copy writes none


def test_a_copy_has_the_wrappers_in_their_order():
    env = VecNormalize(VecMonitor(DummyVecEnv([lambda: gym.make("CartPole-v1")])))
    copy = unpack(pack(env))
    assert [type(one) for one in (copy, copy.venv, copy.venv.venv)] == [VecNormalize, VecMonitor, DummyVecEnv]


def test_copies_leave_the_file_of_a_vec_monitor_to_the_original(tmp_path):
    env = VecMonitor(DummyVecEnv([lambda: gym.make("CartPole-v1")]), str(tmp_path / "all"))
    copy = unpack(pack(env))
    for one in (env, copy):
        one.seed(3)
        one.reset()
        for _ in range(30):
            one.step(np.zeros(1, int))
    env.close()
    ended = (tmp_path / "all.monitor.csv").read_text().splitlines()[2:]
    assert len(ended) == env.episode_count == copy.episode_count > 0


def cells_of_a_study(n):
    """Their class is defined in a function, so that Ray's workers get it by value: they cannot import tests."""

    @dataclass(frozen=True)
    class Cell:
        seed: int

        @property
        def name(self):
            return f"cell{self.seed}"

    return [Cell(seed) for seed in range(n)]


def test_cells_of_a_study_run_as_ray_tasks_again_if_their_worker_dies(cluster, tmp_path):
    def square(cell):
        marker = tmp_path / "died"
        if cell.seed == 1 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"square": cell.seed**2}

    results = run_cells(cells_of_a_study(3), square, tmp_path / "study", RayTasks("auto", 2))
    assert (tmp_path / "died").exists()
    assert [result["square"] for result in results.values()] == [0, 1, 4]


def test_after_an_error_of_a_cell_ray_tasks_that_run_are_finished_and_kept(cluster, tmp_path):
    def run(cell):
        marker = tmp_path / f"begun{cell.seed}"
        marker.touch()
        if cell.seed == 0:
            while not (tmp_path / "begun1").exists():
                time.sleep(0.05)
            raise RuntimeError("a bad cell")
        time.sleep(1)
        return {"square": cell.seed**2}

    with pytest.raises(RuntimeError, match="a bad cell"):
        run_cells(cells_of_a_study(12), run, tmp_path / "study", RayTasks("auto", 2))
    assert [*read_results(tmp_path / "study")] == ["cell1"]
    assert len([*tmp_path.glob("begun*")]) == 2, "the others are not begun"
