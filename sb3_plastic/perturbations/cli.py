"""`sb3-plastic perturbations`: list kinds and scenarios, describe them, render a picture or a short video of one.

sb3-plastic perturbations list
sb3-plastic perturbations list --suite nda-v2 --robot Ant
sb3-plastic perturbations describe motor_off
sb3-plastic perturbations describe nda-v1/novel/motor_off --robot Ant
sb3-plastic perturbations render nda-v1/novel/motor_off --robot Ant --out ant.mp4
sb3-plastic perturbations render nda-v2/novel/wires_swapped/onset --model m.zip --out m.mp4
"""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym

from sb3_plastic.errors import check_number
from sb3_plastic.perturbations.registration import ROBOTS, registered
from sb3_plastic.perturbations.spec import PerturbationError, load, to_yaml, unknown
from sb3_plastic.progress import add_no_progress, is_wanted

RENDER = """\
Draw a perturbed robot: a picture, or a short video, of random actions or of a trained agent.

sb3-plastic perturbations render nda-v1/novel/motor_off --robot Ant --out ant.png
sb3-plastic perturbations render nda-v1/novel/slope --robot HalfCheetah --steps 120 --out slope.gif
sb3-plastic perturbations render mine.yaml --robot Hopper --out mine.mp4
sb3-plastic perturbations render nda-v2/novel/wires_swapped/onset --model m.zip --out m.mp4
"""


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
    listing = commands.add_parser("list", help="all kinds; or scenarios, of a suite, a robot or a tier")
    listing.add_argument("--suite", help="scenarios of this suite instead of kinds")
    robot: dict[str, Any] = dict(type=_robot, metavar="ROBOT")
    which = f"one of {', '.join(ROBOTS)}, or the id of another environment"
    listing.add_argument("--robot", **robot, help=f"its scenarios, of all suites without --suite: {which}")
    listing.add_argument("--tier", default=None, help="smoke, quick or full; without it: all scenarios, training too")
    listing.set_defaults(run=_list)
    describing = commands.add_parser("describe", help="one kind, or one scenario as YAML")
    describing.add_argument("name", help="a kind, or a scenario such as nda-v1/novel/slope")
    describing.add_argument("--robot", **robot, help="likewise; by default all robots that have the scenario")
    describing.set_defaults(run=_describe)
    rendering = commands.add_parser(
        "render",
        help="a picture (.png) or a short video (.mp4, .gif) of a scenario",
        description=RENDER,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    rendering.add_argument("scenario", help="name of a scenario, or a YAML file with a list of perturbations")
    rendering.add_argument("--robot", **robot, help=f"needed unless only one has the scenario: {which}")
    rendering.add_argument(
        "--out", "--output", type=Path, required=True, metavar="FILE", help="file to write; its suffix decides what"
    )
    rendering.add_argument(
        "--model",
        metavar="FILE",
        help="a trained agent, not random actions; it has other options: add --help",
    )
    rendering.add_argument(
        "--steps", type=int, default=60, help="steps to film; a picture shows the last one (default: %(default)s)"
    )
    rendering.add_argument("--width", type=int, default=320, help="pixels (default: %(default)s)")
    rendering.add_argument("--height", type=int, default=240, help="pixels (default: %(default)s)")
    rendering.add_argument("--seed", type=int, default=0, help="of scenario and actions (default: %(default)s)")
    add_no_progress(rendering)
    rendering.set_defaults(run=_render)
    return parser


def _robot(name: str) -> str:
    """What ``--robot`` takes. Of ``module:Env-v0`` the module is imported, and the id is left."""
    if name not in ROBOTS:
        try:
            registered(name)
        except (gym.error.Error, ImportError) as error:
            raise argparse.ArgumentTypeError(
                f"{name!r} is none of {', '.join(ROBOTS)}, nor the id of an environment ({error})"
            ) from error
    return name.rpartition(":")[2]


def _list(args: argparse.Namespace) -> None:
    from sb3_plastic.perturbations.suites import load_suite, suite_names

    if args.suite is not None or args.robot is not None or args.tier is not None:
        for name in suite_names() if args.suite is None else (args.suite,):
            suite = load_suite(name)
            scenarios = suite.scenarios if args.robot is None else suite.of(args.robot)
            if args.tier is not None and (args.robot is None or scenarios):
                scenarios = suite.select(args.tier, args.robot)
            print(f"{suite.name}: {suite.title}")
            for s in scenarios:
                print(_row(f"  {s.robot:<12}", f"{s.name:<36}", s.about))
        return
    from sb3_plastic.perturbations.kinds import KINDS

    print(_row(f"{'kind':<16}", f"{'its value':<40}", "what it does"))
    for kind in KINDS.values():
        print(_row(f"{kind.name:<16}", f"{kind.unit:<40}", kind.law))
    print(f"\nSuites: {', '.join(suite_names())}. Their scenarios: list --suite NAME. Of a robot: list --robot NAME.")


def _row(first: str, second: str, text: str) -> str:
    """A row of a list. In a terminal that is too narrow for it the text goes on below the second column."""
    width, indent = shutil.get_terminal_size(fallback=(1000, 24)).columns, " " * (len(first) + 1)
    row = f"{first} {second} {text}"
    if len(row) <= width:
        return row
    below = textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    return "\n".join([f"{first} {second}".rstrip(), *below])


def _describe(args: argparse.Namespace) -> None:
    from sb3_plastic.perturbations.kinds import KINDS
    from sb3_plastic.perturbations.suites import find_scenario

    if args.name in KINDS:
        from sb3_plastic.perturbations.describe import describe

        print(describe(KINDS[args.name]))
        return
    if "/" not in args.name:
        raise unknown("kind, nor the name of a scenario such as nda-v1/novel/slope:", args.name, KINDS)
    for robot in _robots(args.name) if args.robot is None else (args.robot,):
        scenario = find_scenario(args.name, robot)
        print(f"# {scenario.name}, {scenario.robot}: {scenario.about}\n{to_yaml(scenario.perturbations)}", end="")


def _robots(name: str) -> list[str]:
    """The robots that have a scenario, at least one."""
    from sb3_plastic.perturbations.suites import load_suite

    scenarios = load_suite(name.split("/")[0]).scenarios
    robots = [s.robot for s in scenarios if s.name == name]
    if not robots:
        raise unknown("scenario", name, {s.name for s in scenarios})
    return robots


def _render(args: argparse.Namespace) -> None:
    from sb3_plastic.simulator import render_off_screen

    render_off_screen()
    from sb3_plastic.perturbations.render import check_suffix, film, save
    from sb3_plastic.perturbations.suites import find_scenario, names_file

    check_suffix(args.out)
    for name, least in dict(steps=1, seed=0, width=1, height=1).items():
        check_number(f"--{name}", getattr(args, name), at_least=least, integer=True)
    is_file = names_file(args.scenario)
    robot = args.robot
    if robot is None:
        robots = list(ROBOTS) if is_file else _robots(args.scenario)
        if len(robots) > 1:
            raise PerturbationError(f"Which robot? Add --robot, one of {', '.join(robots)}.")
        (robot,) = robots
    given = load(args.scenario) if is_file else find_scenario(args.scenario, robot).perturbations
    size = {"width": args.width, "height": args.height}
    frames, fps = film(robot, given, n_steps=args.steps, seed=args.seed, **size, progress_bar=is_wanted(args))
    save(frames, fps, args.out)
    print(f"Saved {args.out}")
