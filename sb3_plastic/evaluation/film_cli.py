"""Film a perturbed robot: one agent intact and frozen side by side, or two agents. A policy that adapts shows what its
layer believes below. Without --perturb, the nominal robot, or any other environment, is filmed.

examples:
  sb3-plastic record --perturb nda-v2/novel/wires_permuted/onset --model adaptive/cheetah --out adaptive.gif
  sb3-plastic record --model adaptive/cheetah --out nominal.mp4
  sb3-plastic record --perturb nda-v2/novel/reversed/onset --env HalfCheetah-v5 -f docs/results/learning/agents
  sb3-plastic record --perturb nda-v1/novel/motor_off/onset --model a.zip b.zip --out both.gif
  sb3-plastic record --perturb mine.yaml --model a.zip --seed 3 --steps 300

The film begins shortly before the onset. Damaged parts are red, curves show the speed, |h| is the norm of fast weights.
Of an adaptive layer, lines and a ribbon show its estimates, with a standard deviation, and which hypothesis acts.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sb3_plastic.errors import UserError, check_number
from sb3_plastic.evaluation.arguments import add_about_model, model_settings
from sb3_plastic.evaluation.controls import Player, controls_of
from sb3_plastic.evaluation.environment import TrainedIn, called_in_suites, find_training, robot_of
from sb3_plastic.evaluation.loading import load_model, model_file
from sb3_plastic.evaluation.settings import FilmSettings, ModelSettings
from sb3_plastic.perturbations.cli import RENDER
from sb3_plastic.perturbations.spec import Perturbation, load
from sb3_plastic.perturbations.suites import find_scenario, names_file
from sb3_plastic.progress import add_no_progress, is_wanted
from sb3_plastic.undisturbed import undisturbed_torch


def main(arguments: Sequence[str] | None = None) -> int:
    """
    ``sb3-plastic record --perturb`` or ``--model``.

    :param arguments: None: those of the process
    :return: exit status
    """
    parser = record_parser()
    args = parser.parse_args(arguments)
    if args.model and (args.load_best or args.exp_id):
        parser.error("--load-best and --exp-id choose among runs of RL Zoo: they go with --env ID, not --model")
    if not args.model:
        if args.env is None:
            parser.error("name the model: --model FILE, or --env ID -f FOLDER for one that RL Zoo trained")
        args.model = [find_model(args.folder, args.algo or "plastic_ppo", args.env, args.exp_id, args.load_best)]
        args.env = args.algo = None  # as RL Zoo wrote beside the model, and as its file tells
    return _film(args, args.perturb)


def record_parser() -> argparse.ArgumentParser:
    """The arguments of ``sb3-plastic record --perturb`` or ``--model``."""
    parser = _parser("sb3-plastic record")
    parser.add_argument(
        "--perturb", metavar="SCENARIO", help="a scenario, or a YAML file of perturbations; without, nothing happens"
    )
    parser.add_argument(
        "-f",
        "--folder",
        type=Path,
        default=Path("logs"),
        help="where trained agents are, those of --algo plastic_ppo unless it is given (default: logs)",
    )
    parser.add_argument("--exp-id", type=int, default=0, help="number of the run; 0: the latest (default)")
    parser.add_argument("--load-best", action="store_true", help="its best model, not the last")
    return parser


def render(arguments: Sequence[str]) -> int:
    """
    ``sb3-plastic perturbations render --model``.

    :param arguments: of the command
    :return: exit status
    """
    parser = _parser("sb3-plastic perturbations render", RENDER)
    parser.add_argument("scenario", help="name of a scenario, or a YAML file with a list of perturbations")
    parser.add_argument("--robot", help="not needed: the model tells")
    args = parser.parse_args(arguments)
    return _film(args, args.scenario)


def _parser(prog: str, description: str | None = __doc__) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add(
        "--model",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="one model, intact and frozen; or several side by side: zips, exports, or folders of `sb3-plastic adapt`",
    )
    add_about_model(parser)
    add("--out", "--output", type=Path, default=Path("perturbed.mp4"), help=".mp4, .gif or .png (default: %(default)s)")
    add("--steps", type=int, default=200, help="steps to film (default: %(default)s)")
    add("--every", type=int, default=1, metavar="N", help="a picture of each N-th step alone (default: %(default)s)")
    add("--before", type=int, default=40, help="how many of them before the onset (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the episode (default: %(default)s)")
    add("--width", type=int, default=320, help="pixels of each picture (default: %(default)s)")
    add("--height", type=int, default=240, help="pixels (default: %(default)s)")
    add_no_progress(parser)
    return parser


def find_model(folder: Path, algo: str, env: str, exp_id: int = 0, best: bool = False) -> Path:
    """
    A model where RL Zoo puts it.

    :param folder: of trained agents
    :param algo: a name in `algorithms.ALGORITHMS`
    :param env: environment
    :param exp_id: number of the run; 0: the latest
    :param best: the best model of its evaluations, not the last
    :raises UserError: if there is none, naming those that there are
    """
    name = env.replace("/", "-")
    found = {path.parent.name.removeprefix(f"{name}_"): path for path in (folder / algo).glob(f"{name}_*/{name}.zip")}
    runs = {int(number): path for number, path in found.items() if number.isdecimal()}
    if not runs or (exp_id and exp_id not in runs):
        there = ", ".join(sorted(str(path) for path in folder.glob("*/*/*.zip"))) or "none"
        raise UserError(f"There is no model of {algo} for {env} in {folder}. Models there: {there}.")
    last = runs[exp_id or max(runs)]
    found_best = last.with_name("best_model.zip")
    if best and not found_best.is_file():
        raise UserError(f"{last.parent} has no best_model.zip: its training made no evaluation. Leave out --load-best.")
    return found_best if best else last


def _film(args: argparse.Namespace, scenario: str | None) -> int:
    least = dict(steps=1, every=1, before=0, seed=0, width=1, height=1)
    for name, smallest in least.items():
        check_number(f"--{name}", getattr(args, name), at_least=smallest, integer=True)
    settings = FilmSettings(**{name: getattr(args, name) for name in least})
    film(args.model, args.out, model_settings(args), settings, scenario, is_wanted(args))
    return 0


def film(
    models: Sequence[Path],
    output: Path,
    about: ModelSettings,
    settings: FilmSettings,
    scenario: str | None = None,
    progress_bar: bool = False,
) -> None:
    """
    Write a film, and print which steps it shows.

    :param models: one, intact and frozen if it is plastic, or several side by side
    :param output: an .mp4, .gif or .png
    :param about: what the models' files do not tell, alike for all
    :param settings: of the film
    :param scenario: name of a scenario, or a YAML file with a list of perturbations; None: nothing happens
    :param progress_bar: show progress (needs tqdm)
    :raises UserError: if a file is missing, damaged or refused, or the environment cannot be perturbed
    """
    from sb3_plastic.evaluation.film import compose, fps_of, shoot_all
    from sb3_plastic.perturbations.render import check_suffix, save

    check_suffix(output)
    if about.normalization is not None and len(models) > 1:
        raise UserError("--normalization is of one model, and there are several: put each file beside its model.")
    arms: dict[str, tuple[Player, TrainedIn]] = {}
    for path in models:
        model, algorithm = load_model(path, about.algo, about.trust)
        trained = find_training(model_file(path), about)
        called = path.absolute().name.removesuffix(".zip")  # the folder `.` has a name, too; `hebb-0.5` no suffix
        if len(models) > 1:
            name = called if called not in arms else str(path)
            arms[name] = Player(model), trained
            continue
        plastic = bool(controls_of(model))
        name = "adaptive" if algorithm == "adaptive" else "intact" if plastic else called
        arms[name] = Player(model), trained
        if plastic and scenario is not None:
            arms["frozen"] = Player(model, "frozen_at_onset"), trained
    _, trained = next(iter(arms.values()))
    perturbations = () if scenario is None else perturbations_of(scenario, called_in_suites(trained.env_id))
    with undisturbed_torch():
        shots, first = shoot_all(arms, perturbations, settings, progress_bar)
    title = "" if scenario is None else Path(scenario.removesuffix("/onset")).stem
    frames = compose(shots, first, title, settings.every, "m/s" if robot_of(trained.env_id) else "reward")
    save(frames, fps_of(trained) / settings.every, output)
    last = max(map(len, shots.values()))
    print(f"Saved {output}: steps {first} to {last}, {', '.join(arms)}")


def perturbations_of(scenario: str, robot: str) -> tuple[Perturbation, ...]:
    """
    What acts.

    :param scenario: name of a scenario, or a YAML file with a list of perturbations
    :param robot: for which robot, or the id of another environment
    """
    if names_file(scenario):
        return load(scenario)
    return find_scenario(scenario, robot).perturbations
