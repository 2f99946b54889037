"""Damage to a HalfCheetah: what agents of the study of evolution are evolved on, and what they are judged on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from sb3_plastic.evaluation import ModelSettings, TrialSettings, evaluate_adaptation
from sb3_plastic.perturbations.spec import parse
from sb3_plastic.perturbations.suites import Scenario
from sb3_plastic.studies.table import Result
from sb3_plastic.studies.trials import scores_of

ROBOT = "HalfCheetah"
WEAK = 0.3
JOINTS = ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")

Entry = dict[str, Any]


def weak(joint: str) -> Entry:
    """A motor with a third of its strength. :param joint: one of ``JOINTS``"""
    return {"kind": "strength", "target": joint, "value": WEAK}


def motor_off(joint: str) -> Entry:
    """A motor that does nothing. :param joint: one of ``JOINTS``"""
    return {"kind": "motor_off", "target": joint}


SEEN: dict[str, Entry] = {"weak_bthigh": weak("bthigh"), "off_ffoot": motor_off("ffoot")}
"""Evolved on, beside the undamaged robot."""

UNSEEN: dict[str, Entry] = {
    **{f"weak_{joint}": weak(joint) for joint in JOINTS[1:]},
    **{f"off_{joint}": motor_off(joint) for joint in JOINTS[:-1]},
    **{f"locked_{joint}": {"kind": "joint_lock", "target": joint} for joint in ("bshin", "fshin")},
}
"""Judged on, never evolved on."""

TRAINED_ON: list[list[Entry]] = [[], *([entry] for entry in SEEN.values())]
"""The argument ``scenarios`` of PlasticES."""


def scenarios() -> tuple[Scenario, ...]:
    """Nominal, and each damage from the start and from an onset; those that were seen are of the split ``train``."""
    made = [Scenario("damage/nominal", ROBOT, "nominal", False, ())]
    for split, damages in (("train", SEEN), ("novel", UNSEEN)):
        for name, entry in damages.items():
            late = entry | {"schedule": {"form": "onset", "at": {"uniform": [250, 500]}}}
            made.append(Scenario(f"damage/{name}", ROBOT, split, False, parse([entry])))
            made.append(Scenario(f"damage/{name}/onset", ROBOT, split, True, parse([late])))
    return tuple(made)


def judge(model: Path, statistics: Path, env_id: str, episodes: int, first: int) -> list[Result]:
    """
    Judge a trained agent on all damage, a plastic one also with its plasticity frozen, zeroed and off.

    :param model: its file
    :param statistics: of its VecNormalize
    :param env_id: environment of its training
    :param episodes: of each condition
    :param first: seed of the first
    :return: see :func:`sb3_plastic.studies.trials.scores_of`
    """
    about = ModelSettings(env=env_id, normalization=statistics, wrappers=())
    trials = TrialSettings(scenarios=scenarios(), episodes=episodes, seed=first)
    return scores_of(evaluate_adaptation(model, None, about, trials).records)


def speed(run: Result, of: str, column: str = "scenario") -> float:
    """
    Speed under damage from the start of the episode in m/s, the mean over scenarios.

    :param run: a training, judged
    :param of: how the values of ``column`` begin in the scenarios that count
    :param column: of the scores
    :return: NaN if there are none
    """
    return float(_judged(run, of, column, "static", "intact", "forward_reward").mean() / 1000)


def kept(run: Result, of: str, column: str = "scenario", control: str = "intact") -> float:
    """
    The share of its speed that an agent keeps after the onset of damage, the mean over scenarios.

    :param run: a training, judged
    :param of: how the values of ``column`` begin in the scenarios that count
    :param column: of the scores
    :param control: of the plasticity
    :return: NaN if there are none
    """
    return float(_judged(run, of, column, "onset", control, "kept").mean())


def _judged(run: Result, of: str, column: str, protocol: str, control: str, measure: str) -> pd.Series:
    frame = pd.DataFrame(run["scores"])
    rows = frame[column].str.startswith(of) & (frame["protocol"] == protocol) & (frame["control"] == control)
    return frame[rows].get(measure, pd.Series(dtype=float))  # nobody moved: nothing was kept
