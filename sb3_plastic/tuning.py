"""What `sb3-plastic tune` says before a search and after it. The search itself is RL Zoo's."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.trial import FrozenTrial, TrialState

from sb3_plastic.journal import open_journal


def open_study(storage: str, name: str) -> tuple[optuna.Study, bool]:
    """
    A study of Optuna, made if it is not there.

    :param storage: a journal file, ``*.log``, or the address of a database
    :param name: of the study
    :return: the study, and whether it was made
    """
    kept: Any = storage
    if storage.endswith(".log"):
        kept = open_journal(Path(storage))
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(storage=kept, study_name=name, direction="maximize"), True
    except DuplicatedStudyError:
        return optuna.load_study(storage=kept, study_name=name), False
    finally:
        optuna.logging.set_verbosity(level)


@contextmanager
def not_called_existing(is_new: bool) -> Iterator[None]:
    """
    Inside, Optuna does not log of a new study that it exists: we have made it, and RL Zoo opens it again.

    :param is_new: whether we have; else all is as it was
    """

    def is_wanted(record: logging.LogRecord) -> bool:
        return not (is_new and record.getMessage().startswith("Using an existing study"))

    logger = logging.getLogger("optuna.study.study")
    logger.addFilter(is_wanted)
    try:
        yield
    finally:
        logger.removeFilter(is_wanted)


def n_finished(study: optuna.Study) -> int:
    """How many trials are finished or pruned; interrupted ones are not. :param study: any"""
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def seed_of(seed: int, n_trials: int) -> int:
    """
    The seed of a search that goes on, or runs beside others: with equal seeds it would draw what is there already.

    :param seed: of the command
    :param n_trials: trials that are there, running ones too
    :return: the seed itself, if there are none
    """
    # No sum: the second process of seed 1 would meet the first of seed 2.
    return int(np.random.SeedSequence([seed, n_trials]).generate_state(1)[0] // 2) if n_trials else seed


def budget(n_trials: int, finished: int, n_timesteps: int, n_evaluations: int, episodes: int) -> str:
    """
    What a search costs, in words.

    :param n_trials: trials in all
    :param finished: those that are there
    :param n_timesteps: training steps of a trial
    :param n_evaluations: evaluations of a trial
    :param episodes: of an evaluation
    """
    todo = max(n_trials - finished, 0)
    return (
        f"Budget: {n_trials} trials of {n_timesteps:,} training steps, at most {todo * n_timesteps:,} steps "
        f"{'still to do' if finished else 'in all'}; {n_evaluations} evaluation{'s' * (n_evaluations != 1)} of "
        f"{episodes} episodes in each trial. {finished} trials are finished. Fewer: --n-trials; shorter: -n."
    )


def winner(study: optuna.Study, wanted: int, command: Callable[[FrozenTrial], Sequence[str]]) -> str:
    """
    The best trial, and the command that trains with it.

    :param study: after the search
    :param wanted: trials in all
    :param command: that command, by trial
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        return "No trial is finished" + " yet: the same command goes on" * (n_finished(study) < wanted) + "."
    best = max(complete, key=lambda trial: trial.value if trial.value is not None else float("-inf"))
    return (
        f"Best of {len(complete)} finished trials: number {best.number}, mean return {best.value:.1f}. "
        f"Train with it:\n  {shlex.join(command(best))}"
    )
