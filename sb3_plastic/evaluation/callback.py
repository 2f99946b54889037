"""AdaptationEvalCallback: a small evaluation of adaptation every so many steps of training, in TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Figure

from sb3_plastic.adaptive.agents import layer_around
from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.controls import controls_of
from sb3_plastic.evaluation.environment import called_in_suites, find_training, perturbable
from sb3_plastic.evaluation.evaluate import check_evaluation, evaluate_adaptation
from sb3_plastic.evaluation.layer_signals import signals_around_onset
from sb3_plastic.evaluation.loading import taken_apart
from sb3_plastic.evaluation.measures import TAIL, aligned, filled
from sb3_plastic.evaluation.records import Cell, Trace
from sb3_plastic.evaluation.running_training import spec_of, wrappers_of
from sb3_plastic.evaluation.scores import iqm, matrix, mean, with_scores
from sb3_plastic.evaluation.settings import ModelSettings
from sb3_plastic.perturbations.suites import find_scenario

AFTER = 400
"""Steps from the onset on, in the figure."""


@runtime_checkable
class Settles(Protocol):
    """An algorithm that calibrates an adaptive layer when it is asked to."""

    def settle(self) -> None:
        """Calibrate, if the layer has learned since it was calibrated."""


class AdaptationEvalCallback(BaseCallback):
    """
    Evaluate the model under novel dynamics while it trains. In RL Zoo's YAML::

        callback:
          - sb3_plastic.evaluation.AdaptationEvalCallback: {eval_freq: 20000, env: sb3_plastic/PerturbedAntLatent-v0}

    Scalars, under ``adaptation/``: ``nominal`` (forward reward), for each split ``<split>_relative`` (relative forward
    reward), ``fell``; where something begins in mid-episode ``kept``, ``drop``, ``plateau`` and, for models with
    plasticity, ``gain``, ``gain_net``, ``gain_early`` and ``gain_late``. Figure: ``adaptation/onset``, forward reward
    around the onset for each control. The same seeds each time, so that evaluations differ by the model alone.

    An adaptive layer that the model learns (``adaptive`` of PlasticPolicy) is calibrated first. Of it, under
    ``adaptive/before`` and ``adaptive/after`` an onset: surprise, who acts, responsibilities, estimates.

    :param eval_freq: evaluate every so many calls, i.e. steps of the vector environment
    :param env: environment; None: that of the training, if it is one that can be perturbed
    :param env_kwargs: arguments of it; None: those of the training
    :param wrappers: as RL Zoo's ``env_wrapper``; None: those of the training, if they tell their arguments
    :param suite: name of a suite
    :param tier: ``smoke``: 2 to 4 scenarios of 2 episodes, some seconds
    :param controls: None: the model as it is, and frozen at the onset where it has plasticity
    :param watched: scenario with an onset, in an episode of which an adaptive layer is watched; of another environment
        than ours, one of its suite
    :param kwargs: further arguments of :func:`~sb3_plastic.evaluation.evaluate_adaptation`; each evaluation has a
        folder of its own in ``out``, named after the steps of the training
    :raises UserError: at the start of training, on what the evaluation refuses
    """

    def __init__(
        self,
        eval_freq: int = 10_000,
        env: str | None = None,
        env_kwargs: Mapping[str, Any] | None = None,
        wrappers: Sequence[str | Mapping[str, Any]] | None = None,
        suite: str = "nda-v1",
        tier: str = "smoke",
        controls: Sequence[str] | None = None,
        watched: str = "nda-v2/novel/reversed/onset",
        verbose: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(verbose)
        if eval_freq < 1:
            raise UserError(f"eval_freq is a number of calls, at least 1, got {eval_freq}.")
        self.eval_freq, self.controls, self.watched = eval_freq, controls, watched
        self._asked = dict(env=env, env_kwargs=env_kwargs, wrappers=wrappers, suite=suite, tier=tier, **kwargs)
        self.settings: dict[str, Any] = dict(self._asked)
        self.records: pd.DataFrame | None = None
        """Of the last evaluation."""

    def _on_training_start(self) -> None:
        self.settings = dict(self._asked)  # of this training: another may have another environment
        if self.settings["env"] is None:
            spec = spec_of(self.training_env)
            if spec is None:
                raise UserError(
                    "The training's environment is not registered with gymnasium, or not made by it: it cannot be "
                    "made anew for evaluations. Name one: env=..., such as sb3_plastic/PerturbedHalfCheetah-v0."
                )
            self.settings["env"] = spec.id
            if self.settings["env_kwargs"] is None:
                self.settings["env_kwargs"] = spec.kwargs
            if self.settings["wrappers"] is None:
                self.settings["wrappers"] = wrappers_of(spec)
        if self._learns_layer():
            find_scenario(self.watched, called_in_suites(perturbable(self.settings["env"])))
        # What a layer will be able to do is known once it has learned.
        controls = ("intact",) if self._learns_layer() else self._controls()
        check_evaluation(self.model, controls=controls, **self.settings)

    def _on_step(self) -> bool:
        if self.n_calls % self.eval_freq == 0:
            self.evaluate()
        return True

    def evaluate(self) -> None:
        """Evaluate now, and log."""
        if isinstance(self.model, Settles):
            self.model.settle()
        records, traces = evaluate_adaptation(self.model, controls=self._controls(), **self._given())
        self.records = records
        for name, value in self._layer_signals().items():
            self.logger.record(f"adaptive/{name}", value, exclude="stdout")
        for name, value in adaptation_scalars(records).items():
            self.logger.record(f"adaptation/{name}", value)
        figure = onset_figure(traces)
        if figure is not None:
            self.logger.record("adaptation/onset", Figure(figure, close=True), exclude=("stdout", "log", "json", "csv"))
        if self.verbose:
            print(f"Adaptation at {self.num_timesteps} steps: {adaptation_scalars(records)}")
        self.logger.dump(self.num_timesteps)

    def _learns_layer(self) -> bool:
        """Whether an adaptive layer learns beside the training."""
        return getattr(self.model.policy, "beside", None) is not None

    def _controls(self) -> Sequence[str]:
        if self.controls is not None:
            return self.controls
        return ("intact", "frozen_at_onset") if controls_of(self.model) else ("intact",)

    def _given(self) -> dict[str, Any]:
        out = self.settings.get("out")  # the model of each evaluation is another, and results are not mixed
        return self.settings if out is None else {**self.settings, "out": Path(out) / f"{self.num_timesteps}_steps"}

    def _layer_signals(self) -> dict[str, float]:
        if layer_around(self.model.policy) is None:
            return {}
        given = {name: self.settings[name] for name in ("env", "env_kwargs", "wrappers")}
        trained = find_training(None, ModelSettings(**given, normalization=taken_apart(self.model)[1]))
        perturbations = find_scenario(self.watched, called_in_suites(trained.env_id)).perturbations
        return signals_around_onset(self.model, trained, perturbations)


def adaptation_scalars(records: pd.DataFrame) -> dict[str, float]:
    """
    What to watch during training: scores as `scores` defines them.

    :param records: of one evaluation
    :return: values by name
    """
    scored = with_scores(records)
    # Other protocols have other lengths, and scenarios of the same names.
    intact = scored[(scored.control == "intact") & scored.protocol.isin(["static", "onset"])]
    values = {"nominal": intact[intact.split == "nominal"].forward_reward.mean()}
    values["fell"] = intact[intact.split != "sham"].fell.mean()  # the sham would count the unperturbed robot twice
    for split, rows in intact[~intact.split.isin(["nominal", "reference", "sham"])].groupby("split"):
        values[f"{split}_relative"] = iqm(matrix(rows, "relative").to_numpy())
    onset = intact[(intact.protocol == "onset") & (intact.split != "sham")]
    values["kept"] = iqm(matrix(onset, "kept").to_numpy())
    names = {"drop": "drop", "plateau": "plateau", "gain": "adaptation_gain", "gain_net": "net"}
    names |= {"gain_early": "adaptation_gain_early", "gain_late": "adaptation_gain_late"}
    for name, column in names.items():
        values[name] = mean(matrix(onset, column).to_numpy())
    return {name: float(value) for name, value in values.items() if not np.isnan(value)}


def onset_figure(traces: Mapping[Cell, Trace]) -> Any:
    """
    Forward reward around the onset, a mean over episodes and a running mean over 20 steps, for each control.

    :param traces: cells of an evaluation
    :return: a figure of matplotlib, None if nothing begins in mid-episode
    """
    from matplotlib.figure import Figure as Canvas

    by_control: dict[str, Any] = {}
    for cell, trace in traces.items():
        met = (trace.onset >= 0) & ~trace.unstable
        if cell.protocol == "onset" and cell.split != "sham" and met.any():
            curves = aligned(filled(trace.forward_reward), trace.onset, TAIL, AFTER)
            by_control.setdefault(cell.control, []).append(curves[met])
    if not by_control:
        return None
    figure = Canvas(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for control, parts in by_control.items():
        rows = np.concatenate(parts)
        shown = ~np.isnan(rows).all(0)
        smooth = pd.Series(np.nanmean(rows[:, shown], axis=0)).rolling(20, min_periods=1, center=True).mean()
        axes.plot(np.arange(-TAIL, AFTER)[shown], smooth, label=control.replace("_", " "))
    axes.axvline(0, color="gray", linewidth=1)
    axes.set(xlabel="steps since onset", ylabel="forward reward per step")
    axes.legend()
    return figure
