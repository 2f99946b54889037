"""`sb3-plastic study`: whole studies with one command each. A study that was stopped goes on where it was; `severity`
alone writes no folder, and begins anew.

sb3-plastic study temporal --out results --jobs 2
sb3-plastic study temporal --help
"""

from __future__ import annotations

import argparse
import pkgutil
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from sb3_plastic.errors import UserError

STUDIES = {
    # name: (what takes its arguments, help); imported when it is called
    "temporal": ("sb3_plastic.studies.temporal.cli:main", "temporal tasks: plastic and static networks under noise"),
    "learning": (
        "sb3_plastic.studies.learning:main",
        "HalfCheetah and Ant (others: --envs): plastic, static, MLP, a million steps; distilled",
    ),
    "adaptation": (
        "sb3_plastic.studies.adaptation:main",
        "trained agents with and without the adaptive layer",
    ),
    "robustness": ("sb3_plastic.studies.adaptation:robustness", "trained agents on robots and networks with faults"),
    "meta": ("sb3_plastic.studies.meta:main", "agents trained under randomised dynamics: does their plasticity adapt?"),
    "estimates": ("sb3_plastic.studies.estimates:main", "agents trained on dead motors with the layer in the loop"),
    "replugged": (
        "sb3_plastic.studies.replugged:main",
        "Pendulum, Reacher, Pusher re-plugged in mid-run: SAC, PPO",
    ),
    "evolution": ("sb3_plastic.studies.evolution:main", "PlasticES beside ARS; agents evolved on damage"),
    "severity": ("sb3_plastic.studies.severity:main", "how hard the perturbations of a suite are"),
    "curves": ("sb3_plastic.studies.curves:main", "learning curves of trainings that are there"),
}


class StudyParser(argparse.ArgumentParser):
    """
    A parser whose errors a caller from Python can catch; the command line prints them, and exits with code 2. Options
    are written in full, or a new one would change what a script means.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raise a :class:`UserError`. :param message: what is wrong with the arguments"""
        self.print_usage(sys.stderr)
        raise UserError(message)


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run a study.

    :param argv: arguments; None: those of the process
    :return: exit status
    """
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="sb3-plastic study",
        description=__doc__,
        epilog="studies:\n" + "\n".join(f"  {name:<12}{text}" for name, (_, text) in STUDIES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", choices=STUDIES, metavar="study", help="see below; each has a --help of its own")
    study = parser.parse_args(argv[:1]).study
    return pkgutil.resolve_name(STUDIES[study][0])(argv[1:]) or 0
