"""The study of motors that are plugged in anew: what it draws, plays and prints."""

import numpy as np
import pytest
from gymnasium import spaces

from sb3_plastic.adaptive import AdaptivePolicy
from sb3_plastic.adaptive.forward_model import ForwardModel
from sb3_plastic.adaptive.layer import AdaptiveLayer
from sb3_plastic.adaptive.settings import LayerSettings
from sb3_plastic.cli import main
from sb3_plastic.errors import UserError
from sb3_plastic.studies import replugged
from sb3_plastic.studies.replugged import SIZES, changes_of, permuted, play, reversed_motors, table


class Pusher:
    """An agent that always gives full torque to the left."""

    observation_space, action_space = spaces.Box(-8, 8, (3,)), spaces.Box(-2, 2, (1,))

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.full((len(observation), 1), -2.0), state


def test_something_is_always_changed_and_nothing_is_lost():
    rng = np.random.default_rng(0)
    for n in (1, 2, 7):
        for _ in range(50):
            signs = np.diag(reversed_motors(rng, n)["wires"])
            assert (signs < 0).any()
            assert set(signs) <= {-1, 1}
    for _ in range(50):
        wires = permuted(rng, 7)["wires"]
        assert (np.diag(wires) == 0).all()
        assert (np.abs(wires).sum(0) == 1).all()
        assert (np.abs(wires).sum(1) == 1).all()


@pytest.mark.parametrize("env", SIZES)
def test_every_change_can_be_drawn(env):
    for change in changes_of(env).values():
        assert set(change(np.random.default_rng(0), SIZES[env][0])) <= {"at", "wires", "attributes"}


def test_episodes_are_played_side_by_side_and_scored_from_the_onset_on():
    layer = AdaptiveLayer(ForwardModel(3, 1, net_arch=(4,)).requires_grad_(False), LayerSettings(("motors",)))
    alone = AdaptivePolicy(Pusher(), layer).prepared(frozen=True)
    changes = [{"at": 5}, {"at": 5, "wires": [[-1.0]]}, {"at": 0}]
    rewards = play(alone, "Pendulum-v1", changes, 15, seed=3)
    again = play(alone, "Pendulum-v1", changes[:1], 15, seed=3)
    assert rewards.shape == (3,)
    assert rewards[0] == again[0]
    assert rewards[0] != rewards[1]
    whole, start = (play(alone, "Pendulum-v1", [{"at": 0}], steps, seed=3)[0] for steps in (15, 5))
    assert rewards[0] == pytest.approx((15 * whole - 5 * start) / 10)


def test_the_table_has_a_row_for_each_change():
    rewards = {"reversed": {"alone": -4.0, "with the layer": -1.0}}
    rows = {
        f"s{i}": {"env": "Pendulum-v1", "algo": "sac", "scale": 1.0, "episodes": 20, "rewards": rewards}
        for i in range(2)
    }
    assert table(rows)[2:] == ["| Pendulum-v1 | SAC | reversed | -4.00 (-4.00, -4.00) | -1.00 (-1.00, -1.00) |"]


def test_agents_that_are_judged_on_other_episodes_are_not_trained_again(tmp_path, monkeypatch):
    agents = []

    def agent_of(cell, path):
        agents.append(path)
        raise UserError("enough")

    monkeypatch.setattr(replugged, "agent_of", agent_of)
    cells = [replugged.Cell("Pendulum-v1", "sac", 0, episodes=episodes) for episodes in (2, 20)]
    for cell in cells:
        with pytest.raises(UserError, match="enough"):
            replugged.run(cell, tmp_path)
    assert agents[0] == agents[1]
    assert [cell.name for cell in cells] == [f"Pendulum_v1-sac-seed0-scale1-{n}" for n in (2, 20)]


def test_an_agent_of_other_settings_is_not_taken_for_one_of_todays(tmp_path, monkeypatch):
    cell = replugged.Cell("Pendulum-v1", "ppo", 0, scale=1e-5)
    for _ in range(2):
        replugged.agent_of(cell, tmp_path / "agent")
    monkeypatch.setitem(replugged.PPO_ARGUMENTS["Pendulum-v1"], "gamma", 0.5)
    with pytest.raises(UserError, match=r"agent.yml was trained with other settings"):
        replugged.agent_of(cell, tmp_path / "agent")


@pytest.mark.parametrize("scale", ["0", "-1", "nan", "much"])
def test_a_scale_is_a_number_above_0(scale, tmp_path, capsys):
    assert main(["study", "replugged", "--out", str(tmp_path), "--scale", scale]) == 2
    assert "argument --scale: a " in capsys.readouterr().err


@pytest.mark.slow
def test_the_study_runs_and_goes_on_from_its_results(tmp_path, capsys):
    argv = ["study", "replugged", "--out", str(tmp_path), "--envs", "Pendulum-v1", "--seeds", "0"]
    assert main([*argv, "--scale", "0.03", "--episodes", "2"]) == 0
    assert "| Pendulum-v1 | SAC (0.03 of the steps, 2 episodes) | reversed |" in capsys.readouterr().out
    assert main([*argv, "--report-only"]) == 0
