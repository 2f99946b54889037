"""The command ``sb3-plastic``. Some of its commands forward to RL Zoo, with our algorithms registered."""

from __future__ import annotations

import argparse
import io
import os
import pkgutil
import runpy
import signal
import sys
import types
import warnings
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

import sb3_plastic
from sb3_plastic.answers import hints, is_users, nobody_reads, worded
from sb3_plastic.errors import UserError
from sb3_plastic.extensions import import_extensions
from sb3_plastic.files import replacing
from sb3_plastic.help import HELP
from sb3_plastic.simulator import hush_mujoco, is_headless, render_off_screen

ALGO = ("--algo", "plastic_ppo")
FOLDER = ("-f", "logs")  # where train writes; RL Zoo's enjoy looks among its own trained agents

COMMANDS = {
    # name: (what takes its arguments, help); imported when it is called
    "train": ("sb3_plastic.cli:train", "train an agent, or continue with --trained-agent"),
    "enjoy": ("sb3_plastic.cli:enjoy", "watch a trained agent, or print its returns with --no-render"),
    "record": ("sb3_plastic.cli:record", "record a video of a trained agent"),
    "plot": ("sb3_plastic.cli:plot", "plot learning curves: train, all or file"),
    "tune": ("sb3_plastic.cli:tune", "search hyperparameters with Optuna"),
    "adapt": ("sb3_plastic.adapt:main", "make a trained model adapt: put the adaptive layer around it"),
    "distill": ("sb3_plastic.distillation.cli:main", "teach a spiking network to act as a trained model does"),
    "evaluate": ("sb3_plastic.evaluation.cli:main", "does it adapt? any model of SB3 under novel dynamics"),
    "export": ("sb3_plastic.artefacts.exporting:main", "write a model as a folder of plain files that runs no code"),
    "package": ("sb3_plastic.artefacts.packaging:main", "write the folder that a model hub expects, with a card"),
    "convert": ("sb3_plastic.artefacts.converting:main", "write a model as ONNX, for snntorch, or as NIR"),
    "inspect": ("sb3_plastic.artefacts.inspection:main", "what is in a model; runs nothing of it"),
    "study": ("sb3_plastic.studies.cli:main", "run a whole study: temporal, learning, adaptation, meta, ..."),
    "perturbations": ("sb3_plastic.cli:perturbations", "list, describe and render perturbations"),
    "report": ("sb3_plastic.report.cli:main", "tables and figures of evaluations, as Markdown and as one HTML file"),
}

PLOTS = {
    # name: (function in rl_zoo3.plots, default arguments, help)
    "train": ("plot_train", ["-a", ALGO[1], *FOLDER, "-w", "10"], "returns of training episodes: -e <environment>"),
    "all": ("all_plots", ["-a", ALGO[1], *FOLDER, "-print"], "evaluations in training, and a table: -e <environment>"),
    "file": ("plot_from_file", [], "what `plot all -o <name>` saved of two runs or more: -i <name>"),
}

TABLE = "# results_table"
"""What RL Zoo prints above the table of `plot all`."""


def main(argv: list[str] | None = None) -> int:
    """
    Run a command.

    :param argv: arguments, those of the process by default
    :return: exit code
    """
    argv = sys.argv[1:] if argv is None else argv
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # of a terminal without umlauts or dashes, as stderr does
    common = argparse.ArgumentParser(prog="sb3-plastic", add_help=False, allow_abbrev=False)
    common.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="of yours, that adds a rule, an encoder, a hypothesis, a kind of perturbation, ...; with any command",
    )
    parser = argparse.ArgumentParser(
        prog="sb3-plastic",
        parents=[common],
        description="Plastic spiking policies for Stable-Baselines3, through RL Zoo.",
        epilog="commands:\n"
        + "\n".join(f"  {name:<14}{text}" for name, (_, text) in COMMANDS.items())
        + "\n\n`sb3-plastic <command> --help` says what a command does, with examples and its arguments.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sb3_plastic {sb3_plastic.__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="command", help="see below")
    args, argv = common.parse_known_args(argv)  # before the command or after it
    command = parser.parse_args(argv[:1]).command
    arguments = argv[1:]
    if command in HELP and {"-h", "--help"} & {*arguments}:
        print(HELP[command])
    try:
        import_extensions(args.modules)
        code = pkgutil.resolve_name(COMMANDS[command][0])(arguments)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if isinstance(error, BrokenPipeError) and nobody_reads():
            return 128 + signal.SIGPIPE
        if not is_users(error):
            raise
        lines = [f"sb3-plastic {command}: error: {worded(error)}", *hints(command, error, arguments, FOLDER[1])]
        print(*lines, sep="\n", file=sys.stderr)
        return 2
    return 128 + signal.SIGPIPE if nobody_reads() else code or 0


# RL Zoo's pipelines. Our defaults come before the user's arguments: argparse lets the last one win.


def train(arguments: list[str]) -> None:
    """Train an agent."""
    prepare()
    warn_of_files(arguments)
    from rl_zoo3.train import train as pipeline

    call(pipeline, "train", [*ALGO, *arguments])


def tune(arguments: list[str]) -> None:
    """Search hyperparameters: ``train -optimize``, without plots in a browser, and fewer trials than RL Zoo's 500."""
    prepare()
    warn_of_files(arguments)
    from rl_zoo3.train import train as pipeline

    call(pipeline, "tune", [*ALGO, "-optimize", "--no-optim-plots", "--n-trials", "50", *arguments])


def enjoy(arguments: list[str]) -> None:
    """Watch a trained agent."""
    if is_headless() and not {"--no-render", "-h", "--help"} & {*arguments}:
        raise UserError("There is no display: add --no-render, or write a video with `sb3-plastic record`.")
    if names_option("--model", arguments):
        from sb3_plastic.artefacts.enjoying import main as play

        play(arguments)
        return
    prepare()
    from rl_zoo3.enjoy import enjoy as pipeline

    warn_of_files(arguments, always=True)
    call(pipeline, "enjoy", [*ALGO, *FOLDER, *arguments])


def names_option(option: str, arguments: list[str]) -> bool:
    """
    Whether an option is there, as ``--option VALUE`` or ``--option=VALUE``.

    :param option: with its dashes
    :param arguments: of a command
    """
    return any(argument.split("=")[0] == option for argument in arguments)


def record(arguments: list[str]) -> int | None:
    """Record a video of a trained agent; with --perturb, of what a perturbation does to it. --model names any file."""
    render_off_screen()
    if names_option("--perturb", arguments) or names_option("--model", arguments):
        from sb3_plastic.evaluation.film_cli import main as film

        return film(arguments)
    prepare()
    warn_of_files(arguments, always=True)
    if {"-h", "--help"} & {*arguments}:
        from sb3_plastic.evaluation.film_cli import record_parser

        print("With --perturb or --model it films robots side by side, and takes these arguments:\n")
        print(record_parser().format_help() + "\nWithout, those of RL Zoo:\n")
    settings = [*ALGO, *FOLDER, *camera_of(arguments), *arguments]
    # This pipeline of RL Zoo's is a script.
    call(lambda: runpy.run_module("rl_zoo3.record_video", run_name="__main__"), "record", settings)
    return None


def camera_of(arguments: list[str]) -> list[str]:
    """
    The camera that follows the robot, for RL Zoo's pipeline: gymnasium's own choice stays where the robot started.

    :param arguments: of the command
    :return: nothing for environments without such a camera, or if arguments of the environment are given
    """
    import gymnasium

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--env", nargs="?", default="")
    parser.add_argument("--env-kwargs", nargs="*")
    args, _ = parser.parse_known_args(arguments)
    spec = gymnasium.registry.get(args.env)
    if args.env_kwargs is not None or spec is None or "gymnasium.envs.mujoco" not in str(spec.entry_point):
        return []
    return ["--env-kwargs", "camera_name:'track'"]


def perturbations(arguments: list[str]) -> int:
    """List, describe and render perturbations; a trained agent is rendered by what records videos."""
    if arguments[:1] == ["render"] and names_option("--model", arguments):
        render_off_screen()
        from sb3_plastic.evaluation.film_cli import render

        return render(arguments[1:])
    from sb3_plastic.perturbations.cli import main as pipeline

    return pipeline(arguments)


def plot(arguments: list[str]) -> None:
    """Show figures, or write them to a file."""
    parser = argparse.ArgumentParser(
        prog="sb3-plastic plot",
        epilog="figures:\n"
        + "\n".join(f"  {name:<8}{text}" for name, (_, _, text) in PLOTS.items())
        + "\n\nEach takes RL Zoo's arguments, and --save: `sb3-plastic plot <figure> --help` lists them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("figure", choices=PLOTS, metavar="figure", help="see below")
    name, defaults, _ = PLOTS[parser.parse_args(arguments[:1]).figure]
    ours = argparse.ArgumentParser(add_help=False, allow_abbrev=False, usage=argparse.SUPPRESS)
    group = ours.add_argument_group("beside the arguments of RL Zoo below")
    group.add_argument(
        "--save",
        metavar="FILE",
        type=Path,
        help="write to FILE (.png, .pdf, .svg, ...) instead of showing; FILE-2 and so on if there are several figures",
    )
    args, rest = ours.parse_known_args(arguments[1:])
    if {"-h", "--help"} & {*rest}:
        ours.print_help()
    save = args.save
    if save is None and is_headless() and "--no-display" not in rest:
        save = Path(f"{name}.png")
    prepare()
    import matplotlib
    from matplotlib.backend_bases import FigureCanvasBase

    if save is not None:
        matplotlib.use("Agg")
        formats = FigureCanvasBase.get_supported_filetypes()
        if save.suffix.removeprefix(".").lower() not in formats:
            raise UserError(f"--save takes a file that ends in .{', .'.join(sorted(formats))}; got {save}.")
    import rl_zoo3.plots
    from matplotlib import pyplot as plt
    from numpy.exceptions import AxisError

    if save is not None:
        plt.show = lambda *_, **__: None  # instead of a warning that there is nothing to look at
    warn_of_files(rest, always=arguments[0] == "file")
    pipeline = getattr(rl_zoo3.plots, name)
    describe_parsers(sys.modules[pipeline.__module__], f"sb3-plastic plot {arguments[0]}")
    warnings.filterwarnings("ignore", "No artists with labels found")  # what is empty is told below
    printed = io.StringIO()
    try:
        with nullcontext() if save is None else redirect_stdout(printed):
            call(pipeline, f"plot {arguments[0]}", [*defaults, *rest])
    except AxisError as error:
        raise UserError(
            "RL Zoo plots one run only if each evaluation has two episodes or more: train with --eval-episodes 2."
        ) from error
    finally:
        text = printed.getvalue()
        # RL Zoo's table of nothing has a score, 0.0.
        print(text if is_drawn() else text.partition(TABLE)[0], end="")
    if save is not None:
        save_figures(save)


# Helpers


def prepare() -> None:
    """Register our algorithms, use one torch thread unless told otherwise, and silence warnings that say nothing."""
    import torch

    import sb3_plastic.zoo  # noqa: F401

    hush_mujoco()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)  # networks this small are many times slower with two threads on busy cores


def warn_of_files(arguments: list[str], always: bool = False) -> None:
    """
    Say in one line that RL Zoo runs what its files hold, where it does.

    :param arguments: of the command
    :param always: whatever they are
    """
    parser = argparse.ArgumentParser(add_help=False)  # RL Zoo's takes `-im.zip` and `--trained m.zip`, too
    for names in (("-i", "--trained-agent"), ("-conf", "--conf-file")):
        parser.add_argument(*names, nargs="?", const="", dest="files", action="append")
    if (always or parser.parse_known_args(arguments)[0].files) and not {"-h", "--help"} & {*arguments}:
        print(
            "Warning: RL Zoo unpickles and evaluates the files that it reads here, so use it on files that you trust; "
            "`sb3-plastic inspect` shows what else they ask for.",
            file=sys.stderr,
        )


def call(pipeline: Callable[[], object], name: str, arguments: list[str]) -> None:
    """Run a pipeline, which takes its arguments from ``sys.argv``."""
    sys.argv = [f"sb3-plastic {name}", *arguments]
    pipeline()


def describe_parsers(module: Any, prog: str) -> None:
    """
    Name the program in a module's usage, where RL Zoo gives the description of a parser for its name.

    :param module: which makes an ArgumentParser
    :param prog: name of the program
    """

    class Parser(argparse.ArgumentParser):
        def __init__(self, description: str | None = None, **kwargs: Any) -> None:
            super().__init__(prog=prog, description=description, **kwargs)

    module.argparse = types.SimpleNamespace(**{**vars(argparse), "ArgumentParser": Parser})


def is_drawn() -> bool:
    """Whether there is anything in the open figures."""
    from matplotlib import pyplot as plt

    return any(axes.has_data() for number in plt.get_fignums() for axes in plt.figure(number).axes)


def save_figures(path: Path) -> None:
    """
    Write all open figures, and close them.

    :param path: file of the first; the others get a number
    :raises UserError: if nothing is drawn in them, or the format is unknown
    """
    from matplotlib import pyplot as plt

    if not is_drawn():
        raise UserError(
            "There is nothing to plot: no run matches, or it has fewer episodes than the window (-w), "
            "or, for `plot all`, fewer than two evaluations (--eval-freq of train)."
        )
    for i, figure in enumerate(map(plt.figure, plt.get_fignums()), start=1):
        target = path if i == 1 else path.with_stem(f"{path.stem}-{i}")
        with replacing(target) as temporary:
            figure.savefig(temporary)
        print(f"Saved {target}")
    plt.close("all")  # what is plotted next in this process begins afresh


if __name__ == "__main__":
    sys.exit(main())
