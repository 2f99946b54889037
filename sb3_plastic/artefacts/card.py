"""The model card: a README.md whose front matter tells a hub what the model is and what return was measured."""

from __future__ import annotations

import math
from typing import Any

import yaml

from sb3_plastic.artefacts.contents import Contents, as_json
from sb3_plastic.evaluation.environment import perturbable

TAGS = ("deep-reinforcement-learning", "reinforcement-learning", "stable-baselines3", "sb3_plastic")

LOAD = {
    False: ("from sb3_plastic import load_policy", 'load_policy(".")'),
    True: ("from sb3_plastic.adaptive import AdaptivePolicy", 'AdaptivePolicy.load(".")'),
}
"""By whether the policy adapts: what to import, and how to load the folder."""


def card(results: dict[str, Any], agent: Contents, adaptive: bool, with_video: bool) -> str:
    """
    The text of a card.

    :param results: what was measured: ``results.json``
    :param agent: the policy, without the adaptive layer
    :param adaptive: whether the layer is around it
    :param with_video: whether there is ``replay.mp4``
    """
    env_id, algo = results["env_id"], agent.facts.get("algo", "exported")
    name = f"adaptive {algo}" if adaptive else algo
    front = yaml.safe_dump(metadata(results, name, agent, adaptive), sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{front}---\n",
        f"# {name} on {env_id}\n",
        _what(agent, adaptive, results),
        "The video is `replay.mp4`.\n" if with_video else "",
        "## Measured\n",
        _measured(results),
        "## Use it\n",
        _usage(env_id, agent, adaptive),
        "## The policy\n",
        f"`{agent.policy}`, with the arguments\n\n```json\n{as_json(agent.arguments)}\n```\n",
        "Trained:\n\n```json\n" + as_json(agent.facts) + "\n```\n",
        "Versions at the measurement:\n\n```json\n" + as_json(results["versions"]) + "\n```\n",
    ]
    return "\n".join(part for part in parts if part)


def metadata(results: dict[str, Any], name: str, agent: Contents, adaptive: bool) -> dict[str, Any]:
    """
    The front matter, with the keys that Hugging Face reads.

    :param results: what was measured
    :param name: of the model
    :param agent: the policy
    :param adaptive: whether the adaptive layer is around it
    """
    spiking = agent.policy.startswith("sb3_plastic.")
    tags = [results["env_id"], *TAGS, *["spiking-neural-network"] * spiking, *["adaptive-control"] * adaptive]
    value = f"{results['mean_reward']:.2f} +/- {results['std_reward']:.2f}"
    return {
        "library_name": "stable-baselines3",
        "tags": tags,
        "model-index": [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
                        "dataset": {"name": results["env_id"], "type": results["env_id"]},
                        "metrics": [{"type": "mean_reward", "value": value, "name": "mean_reward", "verified": False}],
                    }
                ],
            }
        ],
    }


def _what(agent: Contents, adaptive: bool, results: dict[str, Any]) -> str:
    text = (
        "A policy of [Stable-Baselines3](https://github.com/DLR-RM/stable-baselines3), as plain files that run no "
        f"code: JSON, and tensors as safetensors. Written by sb3_plastic {results['versions']['sb3_plastic']}."
    )
    if agent.policy.startswith("sb3_plastic."):
        text += " It is a network of spiking neurons, whose synapses may go on changing while it acts."
    if adaptive:
        text += (
            " Around it lies an adaptive layer, which follows the error of a forward model of the nominal robot and "
            "corrects the actions when the robot changes."
        )
    return text + "\n"


def _measured(results: dict[str, Any]) -> str:
    returns, seed, n = results["returns"], results["seed"], results["n_eval_episodes"]
    least, most = f"{min(returns):.1f}", f"{max(returns):.1f}"
    seeds = f"Seeds {seed} to {seed + n - 1}" if n > 1 else f"Seed {seed}"
    by = f" by\n\n    {results['command']}\n" if results["command"] else ".\n"
    return (
        "| return, mean | standard deviation | least | most | episodes |\n|---|---|---|---|---|\n"
        f"| {results['mean_reward']:.1f} | {results['std_reward']:.1f} | {least} | {most} | {n} |\n\n"
        f"{seeds}, the most likely actions. All returns are in `results.json`. Measured on "
        f"{results['eval_datetime']}{by}"
    )


def _usage(env_id: str, agent: Contents, adaptive: bool) -> str:
    imported, loaded = LOAD[adaptive]
    kwargs = agent.facts.get("env kwargs")
    noted = agent.facts.get("env id")
    named = "" if noted and noted in (env_id, perturbable(env_id)) else f" --env {env_id}"
    made = f'gym.make("{env_id}"' + (f", **{_source(kwargs)})" if kwargs else ")")
    wrapped = (
        "The training wrapped the environment (see below), which the command does, too, and the code does not.\n\n"
        if agent.facts.get("env wrapper")
        else ""
    )
    return f"""\
Download the folder, install `sb3_plastic` with the environment, and in the folder

```bash
sb3-plastic enjoy --model .{named} --no-render
```

{wrapped}```python
import gymnasium as gym
{imported}

agent, env = {loaded}, {made}
(observation, _), state, done, total = env.reset(seed=0), None, False, 0.0
start = [True]
while not done:
    action, state = agent.predict(observation, state, episode_start=start, deterministic=True)
    observation, reward, terminated, truncated, _ = env.step(action)
    total, done, start = total + reward, terminated or truncated, [False]
print(total)
```

`predict` takes observations as the environment gives them.
"""


def _source(value: Any) -> str:
    """Plain data as Python writes it; what is not finite as a call, since `inf` would be an unknown name."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_source(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_source, value)) + "]"
    return f'float("{value}")' if isinstance(value, float) and not math.isfinite(value) else repr(value)
