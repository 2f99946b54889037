"""The report of the learning study: curves and tables of returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from sb3_plastic.studies.curves import draw_curves
from sb3_plastic.studies.differences import beside, relative_difference
from sb3_plastic.studies.table import Result

Teacher = Callable[[str], str]  # environment -> label of an agent


def summary(results: Sequence[Result]) -> list[float]:
    """
    Means over trainings.

    :param results: of the same agent
    :return: return of the training episodes over the last tenth of the steps, and of the episodes with and without
        exploration noise
    """
    columns = [
        [_last_tenth(result) for result in results],
        *([result[kind] for result in results] for kind in ("exploring", "deterministic")),
    ]  # NaN: no episode has ended, or there are none
    return [round(float(np.mean([np.mean(values or np.nan) for values in column])), 1) for column in columns]


def _last_tenth(result: Result) -> list[float]:
    """Returns of the bins in the last tenth of a training, in which no episode may have ended."""
    points = list(zip(result["training"]["steps"], result["training"]["returns"], strict=True))
    end = max([result["steps"], *result["training"]["steps"]])  # the last rollout may go beyond
    return [value for step, value in points if step > end - result["steps"] / 10]


def report(
    results: Iterable[Result], order: Iterable[str], out: Path, teachers: Mapping[str, Teacher] | None = None
) -> None:
    """
    Draw the learning curves of each environment, and print a table of returns.

    :param results: those of searches are left out
    :param order: labels of the agents
    :param out: ``ENVIRONMENT.png`` goes there
    :param teachers: by label, of which agent one has learned: they are compared seed by seed
    """
    groups: dict[tuple[str, int, int], dict[str, list[Result]]] = {}
    for result in results:
        if not result.get("candidate"):
            judged = result["steps"], result.get("episodes", len(result["deterministic"]))
            groups.setdefault((result["environment"], *judged), {}).setdefault(result["agent"], []).append(result)
    most = {env_id: max(key[1:] for key in groups if key[0] == env_id) for env_id, *_ in groups}
    for (environment, *budget), agents in groups.items():
        # What was trained or judged otherwise is no other seed.
        other = "" if tuple(budget) == most[environment] else f" ({budget[0]} steps, {budget[1]} episodes)"
        env_id = environment + other
        done = {label: agents[label] for label in order if label in agents}
        if not done:  # agents of an earlier version alone
            continue
        curves = {label: [run["training"] for run in runs if run["training"]["steps"]] for label, runs in done.items()}
        named = "-".join(map(str, [environment, *(budget if other else [])]))
        draw_curves({label: runs for label, runs in curves.items() if runs}, out / f"{named}.png")
        print(f"\n| {env_id} | training | exploring | deterministic | deterministic, by seed |")
        print("|---|---|---|---|---|")
        for label, runs in done.items():
            by_seed = ", ".join(f"{np.mean(run['deterministic']):.0f} ({run['seed']})" for run in runs)
            print(f"| {label} | {' | '.join(_number(value) for value in summary(runs))} | {by_seed} |")
        first, *others = done
        if others:
            print(f"\n| {env_id}, {first} against | training | exploring | deterministic |")
            print("|---|---|---|---|")
            for label in others:
                columns = zip(_by_seed(done[first]), _by_seed(done[label]), strict=True)
                print(f"| {label} | {' | '.join(relative_difference(ours, theirs) for ours, theirs in columns)} |")
        for label, teacher_of in (teachers or {}).items():
            teacher = teacher_of(environment)
            if line := beside(_deterministic(agents.get(label, [])), _deterministic(agents.get(teacher, []))):
                print(f"\n| {env_id}, {label} | against its teacher | by seed: pupil and teacher |\n|---|---|---|")
                print(f"| {teacher} | {line} |")


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.0f}"


def _deterministic(results: Sequence[Result]) -> dict[int, float]:
    return {result["seed"]: float(np.mean(result["deterministic"])) for result in results}


def _by_seed(results: Sequence[Result]) -> np.ndarray:
    """The columns of :func:`summary`, a row of seeds in each."""
    return np.transpose([summary([result]) for result in results])


def report_search(results: Iterable[Result]) -> None:
    """
    Print the returns of each candidate.

    :param results: those without a candidate are left out
    """
    print("\n| environment | agent | candidate | steps | seed | training | exploring | deterministic |")
    print("|---|---|---|---|---|---|---|---|")
    for result in results:
        if result.get("candidate"):
            what = [str(result[name]) for name in ("environment", "agent", "candidate", "steps", "seed")]
            print(f"| {' | '.join([*what, *map(_number, summary([result]))])} |")
