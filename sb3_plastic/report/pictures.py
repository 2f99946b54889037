"""Pictures of the robots of a report, as they are and with what is damaged in red."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.perturbations.registration import ROBOTS
from sb3_plastic.perturbations.spec import Perturbation, PerturbationError
from sb3_plastic.perturbations.suites import find_scenario
from sb3_plastic.report.results import Results

Picture = NDArray[np.uint8]

CAPTION = "At the start of an episode, under the first draw of a perturbation; the parts that it damages are red."


def robot_pictures(results: Results, group: str) -> dict[str, Picture] | str:
    """
    The robot, unperturbed, and under the first scenarios that damage a part of it.

    :param results: of the comparison
    :param group: robot or environment
    :return: by what is written below; or why there is none, in a sentence
    """
    if group not in ROBOTS:
        return f"There is no picture: {group} is none of our robots."
    scenarios = results.of(group)["scenario"]
    # The same perturbation from the start and from an onset looks the same.
    names = {name.removesuffix("/onset"): name for name in map(str, scenarios.unique())}
    try:
        return _drawn(group, tuple(names.values()))
    except Exception as error:  # graphics fail in as many ways as there are drivers
        return f"There is no picture, since nothing can be drawn here ({type(error).__name__})."


@lru_cache(maxsize=16)
def _drawn(robot: str, names: tuple[str, ...]) -> dict[str, Picture]:
    from sb3_plastic.perturbations.render import stills  # which imports MuJoCo

    known: dict[str, tuple[Perturbation, ...]] = {}
    for name in names:
        try:
            known[name.split("/", 1)[-1].removesuffix("/onset")] = find_scenario(name, robot).perturbations
        except PerturbationError:  # of a suite that is not installed
            continue
    return {name or f"{robot}, nothing perturbed": picture for name, picture in stills(robot, known).items()}
