"""Synthetic results of an evaluation, written by the writer of real ones; and policies of which the truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_plastic.evaluation.records import (
    COLUMNS,
    Cell,
    Trace,
    records_of,
    save_trace,
    write_records,
)
from sb3_plastic.files import write_json
from sb3_plastic.perturbations import Scenario, parse
from sb3_plastic.perturbations.wrapper import PerturbSignals

STEPS = 1000
KINDS = ("mass", "friction", "strength", "damping")
NOVEL = ("motor_off", "slope")


def make_trace(forward: np.ndarray, onset: np.ndarray | int, **overrides: np.ndarray) -> Trace:
    """
    A trace from forward rewards alone.

    :param forward: [E, T], NaN after a fall
    :param onset: [E], or one for all
    :param overrides: other fields of `Trace`
    """
    n, steps = forward.shape
    fields = dict(
        forward_reward=forward.astype(np.float32),
        reward=(forward - 0.1).astype(np.float32),
        effort=np.where(np.isnan(forward), np.nan, 0.5).astype(np.float32),
        onset=np.broadcast_to(np.asarray(onset), (n,)).copy(),
        removal=np.full(n, -1),
        eval_seed=np.arange(n) + 1000,
        episode=np.arange(n),
        fell=np.isnan(forward).any(1),
        unstable=np.zeros(n, bool),
        distance=np.nansum(forward, 1) * 0.05,
        values=np.array([""] * n),
        fast_weight_norm=np.zeros((n, steps, 0), np.float32),
    )
    return Trace(**(fields | overrides))


def write_results(
    folder: Path,
    label: str = "plastic",
    train_seed: int = 0,
    adapts: float = 0.8,
    level: float = 5.0,
    plastic: bool = True,
    episodes: int = 4,
    falls: bool = False,
    sham: bool = False,
    needs: float = 0.0,
) -> Path:
    """
    A results folder with the cells of a quick tier: static, onset and removal. Perturbed, a policy loses up to 60 %
    of its forward reward at once; while it is plastic, it regains the fraction `adapts` of that within some 150 steps.

    :param folder: to write to
    :param label: method
    :param train_seed: of the model
    :param adapts: 0: a static policy, 1: regains everything
    :param level: forward reward per step, unperturbed
    :param plastic: with controls and norms of fast weights
    :param episodes: per cell
    :param falls: every fourth perturbed episode falls 120 steps after the onset, and one simulation breaks
    :param sham: with the sham, as real results of plastic models have it
    :param needs: fraction of its forward reward that is lost within some 60 steps once it is frozen, perturbed or not
    :return: the folder
    """
    rng = np.random.default_rng([train_seed, sum(label.encode())])
    skill = level * (1 + 0.1 * rng.standard_normal())
    noise = 0.3 * rng.standard_normal((episodes, STEPS))
    onsets = np.linspace(250, 499, episodes).astype(int)
    t = np.arange(STEPS)
    scenarios: list[tuple[str, str, int | None]] = [("nominal", "none", 0), ("id", "all", 1)]
    scenarios += [
        (f"{split}/{kind}", kind, severity)
        for split, severity in (("interp", 1), ("extrap1", 2), ("extrap2", 3))
        for kind in KINDS
    ]
    scenarios += [(f"novel/{kind}", kind, None) for kind in NOVEL]
    traces: dict[Cell, Trace] = {}

    def add(name: str, kind: str, severity: int | None, protocol: str, control: str) -> None:
        split = name.split("/")[0]
        loss = 0.0 if kind == "none" else {None: 0.5, 1: 0.15, 2: 0.35, 3: 0.6}[severity]
        onset = np.full(episodes, -1 if name == "nominal" else 0) if protocol == "static" else onsets
        removal = np.full(episodes, 700 if protocol == "removal" else -1)
        since = t - onset[:, None]
        active = (since >= 0) & (onset >= 0)[:, None] & ((t < 700) | (protocol != "removal"))
        learning = adapts if plastic and control in ("intact", "zeroed_at_onset") else 0.0
        lost = loss * (1 - learning * (1 - np.exp(-np.maximum(since, 0) / 60)))
        forward = skill * np.where(active, 1 - lost, 1.0) * (0.9 if control == "off" else 1.0) + noise
        if control == "frozen_at_onset":
            forward = forward * (1 - needs * (1 - np.exp(-np.maximum(since, 0) / 60)))
        unstable = np.zeros(episodes, bool)
        if falls and kind != "none":
            forward[::4][since[::4] > 120] = np.nan
            unstable[-1] = kind == "slope"
            forward[-1, 600 if kind == "slope" else STEPS :] = np.nan
        norm = np.zeros((episodes, STEPS, 0))
        if plastic:
            grown = {"off": 0.0, "frozen_at_onset": 0.1}.get(control, 0.1)
            moved = 0.0 if control in ("off", "frozen_at_onset") else 0.05
            norm = grown + moved * np.stack([np.maximum(since, 0) / STEPS, active * 1.0], -1)
        scenario = f"nda-v1/{name}" + ("" if protocol == "static" else "/onset")
        scenario = "nda-v1/nominal/sham" if name == "sham" else scenario
        reference = None if name == "nominal" else "nda-v1/nominal"
        cell = Cell(protocol, scenario, control, split, kind, severity, reference)
        fell = np.isnan(forward).any(1) & ~unstable
        drawn = np.array(["" if kind == "none" else f"{kind}={1 + loss:.3f}"] * episodes)
        traces[cell] = make_trace(
            forward,
            onset,
            removal=removal,
            unstable=unstable,
            fell=fell,
            values=drawn,
            fast_weight_norm=norm.astype(np.float32),
        )

    for name, kind, severity in scenarios:
        for control in ("intact", "off") if plastic else ("intact",):
            add(name, kind, severity, "static", control)
        if name not in ("nominal", "id"):
            for control in ("intact", "frozen_at_onset", "zeroed_at_onset", "off") if plastic else ("intact",):
                add(name, kind, severity, "onset", control)
    for control in ("intact", "frozen_at_onset", "zeroed_at_onset", "off") if plastic and sham else ():
        add("sham", "none", 0, "onset", control)
    add("extrap1/mass", "mass", 2, "removal", "intact")

    for cell, trace in traces.items():
        save_trace(folder, cell, trace)
    common = dict(
        label=label,
        algo="plastic_ppo" if plastic else "ppo",
        train_seed=train_seed,
        env_id="sb3_plastic/PerturbedHalfCheetah-v0",
        robot="HalfCheetah",
        suite="nda-v1",
        tier="quick",
    )
    write_records(folder, records_of(traces, common))
    write_json(
        folder / "summary.json",
        {
            "settings": {
                **common,
                "model_sha256": "0" * 64,
                "episodes": episodes,
                "base_seed": 1000,
                "deterministic": True,
            },
            "versions": {"mujoco": "4.0.0", "stable_baselines3": "2.9.2", "sb3_plastic": "0.1.0"},
            "commit": None,
            "env_specs": {},
            "command": "synthetic",
            "unstable_cells": {},
        },
    )
    return folder


# A toy of which the truth is known: hold 0.5, while something is added to the command.


class Tracking(gym.Env):
    """Forward reward ``1 - 8 (command - 0.5)^2``; the command is observed."""

    observation_space = spaces.Box(-10, 10, (1,), np.float64)
    action_space = spaces.Box(-1, 1, (1,), np.float64)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.full(1, 0.5), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = 1 - 8 * (float(action[0]) - 0.5) ** 2
        return np.array(action, dtype=np.float64), reward, False, False, {"reward_forward": reward}


TRACKING = "sb3_plastic_tests/Tracking-v0"
if TRACKING not in gym.registry:
    gym.register(TRACKING, entry_point=lambda: PerturbSignals(Tracking()))


def tracking_scenarios(protocols: tuple[str, ...] = ("static", "onset", "removal")) -> dict[str, Any]:
    """Arguments of `evaluate_adaptation`: nothing, and a bias of the command from the start and in mid-episode."""
    bias = {"kind": "action_bias", "value": 0.2}
    late = {**bias, "schedule": {"form": "onset", "at": {"uniform": [250, 500]}}}
    scenarios = [
        Scenario("toy/nominal", "", "nominal", False, ()),
        Scenario("toy/novel/bias", "", "novel", False, parse([bias])),
        Scenario("toy/novel/bias/onset", "", "novel", True, parse([late])),
    ]
    return dict(env=TRACKING, scenarios=scenarios, protocols=protocols, suite="toy", tier="all", episodes=2)


class StaticPolicy:
    """Gives the right command, whatever happens."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        return np.full((len(observation), 1), 0.5), None


class AdaptivePolicy:
    """Gives it with a wobble of 0.25 to either side, but integrates its error: what it has learned is the integral."""

    def __init__(self, frozen: bool = False, keeps: bool = False) -> None:
        self.frozen, self.keeps = frozen, keeps

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        learned, side = (np.zeros((len(observation), 1)), np.ones((len(observation), 1))) if state is None else state
        if episode_start is not None:
            starts = np.asarray(episode_start)[:, None]
            side = np.where(starts, 1.0, side)
            learned = learned if self.keeps else np.where(starts, 0.0, learned)
            error = np.where(starts, 0.0, 0.5 + 0.25 * side - observation)  # `side` is that of the last command
        if not self.frozen:
            learned = learned + 0.02 * error
        return 0.5 - 0.25 * side + learned, (learned, -side)

    def plastic_layers(self) -> list[str]:
        return ["side"]

    def prepared(self, frozen: bool = False, keep_fast_weights: bool | None = None) -> AdaptivePolicy:
        return AdaptivePolicy(frozen, bool(keep_fast_weights))

    def zero_fast_weights(self, state: Any, rows: Any) -> Any:
        return np.where(np.asarray(rows)[:, None], 0.0, state[0]), state[1]

    def fast_weight_norms(self, state: Any) -> Any:
        return np.abs(state[0])


def episode(scenario: str, forward: float, eval_seed: int = 0, **values: object) -> dict[str, object]:
    """One row of records: unperturbed, intact, of 1000 steps, unless said otherwise."""
    row: dict[str, object] = dict.fromkeys(COLUMNS, np.nan)
    row |= dict(label="a", train_seed=0, env_id="x", suite="s", protocol="static", control="intact", kind="mass")
    row |= dict(episode=0, onset=-1, steps=1000, unstable=0)
    split = scenario if scenario in ("nominal", "reference", "sham") else "novel"
    return {**row, "scenario": scenario, "split": split, "forward_reward": forward, "eval_seed": eval_seed, **values}
