"""A forecast: how soon the layer will know a change, asked of the gait before anything has changed."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv
from toy_robots import NOISE, Robots, Wanderer, linear_model, policy

from sb3_plastic.adapt import summary
from sb3_plastic.adaptive import AdaptivePolicy, forecast
from sb3_plastic.adaptive.layer import AdaptiveLayer
from sb3_plastic.errors import UserError


class Linear(gym.Env):
    """One of the toy's robots. :param noise: of its steps :param length: of an episode"""

    observation_space, action_space = Wanderer.observation_space, Wanderer.action_space

    def __init__(self, noise=NOISE, length=0):
        self.noise, self.length, self.told = noise, length, []

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.robot = Robots(1, noise=self.noise, seed=seed)
        self.robot.o[:], self.robot.t = 0, 0
        return self.robot.see()[0], {}

    def step(self, action):
        self.told.append(action)
        self.robot.step(action[None])
        return self.robot.see()[0], 0.0, self.robot.t == self.length, False, {}


def robots(n=16, **kwargs):
    return DummyVecEnv([lambda: Linear(**kwargs)] * n)


def layer_for(noise):
    """The layer, whose forward model knows how noisy the robot is."""
    p = policy(("motors", "plugs", "sensor_bias"))
    model = linear_model()
    with torch.no_grad():
        model.members[0].log_R[-1].bias.fill_(float(np.log(noise**2)))
    return AdaptivePolicy(p.agent, AdaptiveLayer(model, p.layer.settings))


def test_motors_that_show_in_each_step_are_known_after_five_and_those_that_noise_hides_are_not():
    clear, hidden = (forecast(layer_for(noise), robots(noise=noise)) for noise in (NOISE, 50 * NOISE))
    assert [*clear] == ["motors", "plugs"]
    assert min(clear.values()) > 0.8
    assert max(hidden.values()) < 0.5


def test_it_is_repeatable_and_leaves_policy_and_robots_as_they_are():
    p, venv = layer_for(NOISE), robots(4)
    found = forecast(p, venv, seed=3)
    assert forecast(p, venv, seed=3) == found != forecast(p, venv, seed=4)
    told = np.array(venv.envs[0].told)
    agent, state = Wanderer(), None
    o = venv.env_method("reset", seed=3)[0][0]
    for action in told[:20]:  # nothing but the agent moves the motors
        meant, state = agent.predict(o[None], state)
        np.testing.assert_allclose(action, meant[0], atol=1e-6)
        o = venv.envs[0].step(action)[0]


def test_where_nobody_walks_long_enough_nothing_is_said():
    assert forecast(layer_for(NOISE), robots(4, length=5)) == {}


def test_a_layer_that_knows_no_motors_is_not_asked_and_the_robot_stays_where_it_is():
    venv = robots(1)
    assert forecast(layer_for(NOISE).with_hypotheses("sensor_bias"), venv) == {}
    assert venv.envs[0].told == []


def test_a_layer_inside_a_policy_is_refused():
    p = layer_for(NOISE)  # one inside observes what is normalised, and knows where its sensors' zero is
    inside = AdaptivePolicy(p.agent, AdaptiveLayer(p.layer.model, replace(p.layer.settings, sensor_zero=(0.0,) * 3)))
    with pytest.raises(UserError, match="not of one inside"):
        forecast(inside, robots(1))


@pytest.mark.parametrize(("shares", "warned"), [((0.9, 0.5), False), ((0.9, 0.49), True)])
def test_the_summary_warns_of_a_gait_that_tells_little(shares, warned):
    p = layer_for(NOISE)
    p.report.update(unexplained={"0": 0.01}, forecast=dict(zip(("motors", "plugs"), shares, strict=True)))
    text = summary(p)
    assert "right after 5 steps: motors reversed 90%; cables plugged in anew" in text
    assert ("It tells little of its motors" in text) == warned
