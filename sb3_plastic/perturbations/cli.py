"""`sb3-plastic perturbations`: list kinds and scenarios, describe them, render a picture or a short video of one.

sb3-plastic perturbations list
sb3-plastic perturbations list --suite nda-v1 --robot Ant
sb3-plastic perturbations describe motor_off
sb3-plastic perturbations describe nda-v1/novel/motor_off --robot Ant
sb3-plastic perturbations render nda-v1/novel/motor_off --robot Ant --output ant.mp4
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sb3_plastic.perturbations.registration import ROBOTS
from sb3_plastic.perturbations.spec import load, to_yaml


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :param argv: arguments; None: those of the process
    :return: exit status
    :raises PerturbationError: on an unknown name, or what cannot act on the robot
    """
    args = _parser().parse_args(argv)
    args.run(args)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sb3-plastic perturbations", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    listing = commands.add_parser("list", help="all kinds, or the scenarios of a suite")
    listing.add_argument("--suite", help="scenarios of this suite instead of kinds")
    listing.add_argument("--robot", choices=ROBOTS)
    listing.add_argument("--tier", default=None, help="smoke, quick or full; without it: all scenarios, training too")
    listing.set_defaults(run=_list)
    describing = commands.add_parser("describe", help="one kind, or one scenario as YAML")
    describing.add_argument("name")
    describing.add_argument("--robot", choices=ROBOTS, default="Ant")
    describing.set_defaults(run=_describe)
    rendering = commands.add_parser(
        "render", help="a picture (.png) or a short video (.mp4, .gif) of a scenario under random actions"
    )
    rendering.add_argument("scenario", help="name of a scenario, or a YAML file with a list of perturbations")
    rendering.add_argument("--robot", choices=ROBOTS, default="Ant")
    rendering.add_argument("--output", type=Path, required=True, help="file to write; its suffix decides what")
    rendering.add_argument("--steps", type=int, default=60, help="environment steps (a picture shows the last one)")
    rendering.add_argument("--width", type=int, default=320, help="pixels")
    rendering.add_argument("--height", type=int, default=240, help="pixels")
    rendering.add_argument("--seed", type=int, default=0, help="of the scenario and of the random actions")
    rendering.set_defaults(run=_render)
    return parser


def _list(args: argparse.Namespace) -> None:
    from sb3_plastic.perturbations.suites import load_suite, suite_names

    if args.suite is not None:
        suite = load_suite(args.suite)
        scenarios = suite.scenarios if args.tier is None else suite.select(args.tier)
        print(f"{suite.name}: {suite.title}")
        for s in scenarios:
            if args.robot in (None, s.robot):
                print(f"  {s.robot:<12} {s.name:<36} {s.about}")
        return
    from sb3_plastic.perturbations.kinds import KINDS

    for kind in KINDS.values():
        print(f"{kind.name:<16} {kind.unit:<40} {kind.law}")
    print(f"\nSuites: {', '.join(suite_names())} (list --suite NAME)")


def _describe(args: argparse.Namespace) -> None:
    from sb3_plastic.perturbations.kinds import KINDS
    from sb3_plastic.perturbations.suites import find_scenario

    if args.name in KINDS:
        from sb3_plastic.perturbations.describe import describe

        print(describe(KINDS[args.name]))
        return
    if "/" not in args.name:
        from sb3_plastic.perturbations.spec import unknown

        raise unknown("kind, nor the name of a scenario such as nda-v1/novel/slope:", args.name, KINDS)
    scenario = find_scenario(args.name, args.robot)
    print(f"# {scenario.name}, {scenario.robot}: {scenario.about}\n{to_yaml(scenario.perturbations)}", end="")


def _render(args: argparse.Namespace) -> None:
    from sb3_plastic.simulator import render_off_screen

    render_off_screen()
    from sb3_plastic.perturbations.render import check_suffix, film, save

    check_suffix(args.output)
    given = {"perturbations": load(args.scenario)} if Path(args.scenario).is_file() else {"scenario": args.scenario}
    size = {"width": args.width, "height": args.height}
    frames, fps = film(args.robot, given, n_steps=args.steps, seed=args.seed, **size)
    save(frames, fps, args.output)
    print(f"wrote {args.output}")
