"""`sb3-plastic package`: the folder that a model hub expects, ready to push. Nothing is sent.

sb3-plastic package --model logs/plastic_ppo/Ant-v5_1 --out hub/ant
sb3-plastic package --model adaptive/cheetah --out hub/cheetah --episodes 20
hf upload USER/ant hub/ant                                             # when you want it there

It holds the model as `sb3-plastic export` writes it, which runs no code; README.md, the model card, with the return
that was measured; results.json, all episodes of that; and replay.mp4. What is measured and filmed is the folder itself.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Unpack

import numpy as np

from sb3_plastic.adaptive import is_adaptive_folder
from sb3_plastic.adaptive.files import AGENT
from sb3_plastic.adaptive.files import CONFIG as ADAPTIVE_CONFIG
from sb3_plastic.adaptive.files import TENSORS as ADAPTIVE_TENSORS
from sb3_plastic.artefacts.card import card
from sb3_plastic.artefacts.contents import contents
from sb3_plastic.artefacts.enjoying import play
from sb3_plastic.artefacts.exporting import export_model
from sb3_plastic.errors import UserError, check_number
from sb3_plastic.evaluation.arguments import add_model, model_settings
from sb3_plastic.evaluation.environment import perturbable, robot_of
from sb3_plastic.evaluation.loading import load_model, model_file
from sb3_plastic.evaluation.outputs import add_out
from sb3_plastic.evaluation.settings import AboutModel, FilmSettings, ModelSettings
from sb3_plastic.evaluation.zoo_files import zoo_files
from sb3_plastic.export.folder import CONFIG, RESULTS, TENSORS
from sb3_plastic.files import is_taken, replace_file, write_json
from sb3_plastic.progress import add_no_progress, is_wanted
from sb3_plastic.simulator import render_off_screen
from sb3_plastic.versions import versions

CARD, VIDEO, ATTRIBUTES = "README.md", "replay.mp4", ".gitattributes"

EXPORT_FILES = (CONFIG, TENSORS)
ADAPTIVE_FILES = (ADAPTIVE_CONFIG, ADAPTIVE_TENSORS, *(f"{AGENT}/{name}" for name in EXPORT_FILES))

LARGE_FILES = "".join(f"*.{kind} filter=lfs diff=lfs merge=lfs -text\n" for kind in ("mp4", "safetensors"))
"""What git is to keep as large files: a hub refuses binary files that are in git itself."""

AS_THEY_ARE = "*.json -text\n"
"""What git is to keep byte by byte: git for Windows would end lines in its own way, and checksums would not fit."""

FOLDERS = re.compile(r"(^|=)(?:/|[A-Za-z]:[\\/]|\\\\).*[\\/](?=.)")
"""Of an absolute path, also of Windows."""


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :param argv: arguments; None: those of the process
    :return: exit status
    """
    argv = sys.argv[1:] if argv is None else argv
    args = _parser().parse_args(argv)
    results = package_model(
        args.model,
        args.out,
        episodes=args.episodes,
        seed=args.seed,
        video_steps=args.video_steps,
        progress_bar=is_wanted(args),
        # Paths without their folders: a card is published, and says nothing of the machine.
        command=shlex.join(["sb3-plastic", "package", *(FOLDERS.sub(r"\1", word) for word in argv)]),
        **vars(model_settings(args)),
    )
    print(f"Mean return of {results['n_eval_episodes']} episodes: {_return(results)}")
    print(f"Wrote {args.out}. Nothing was sent. To send it: hf upload USER/NAME {shlex.quote(str(args.out))}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sb3-plastic package", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add_model(parser, "a zip file, a run of RL Zoo, an exported folder, or one of `sb3-plastic adapt`")
    add_out(parser, "DIR", "folder to write; replaces a package there")
    add("--episodes", type=int, default=10, help="that are measured (default: %(default)s)")
    add("--seed", type=int, default=10_000, help="of the first; the others count on (default: %(default)s)")
    add("--video-steps", type=int, default=300, metavar="N", help="steps that are filmed (default: %(default)s)")
    add("--no-video", dest="video_steps", action="store_const", const=0, help="where nothing can be drawn")
    add_no_progress(parser)
    return parser


def package_model(
    model: str | Path,
    out: str | Path,
    env: str | None = None,
    episodes: int = 10,
    seed: int = 10_000,
    *,
    video_steps: int = 300,
    command: str | None = None,
    progress_bar: bool = False,
    **about: Unpack[AboutModel],
) -> dict[str, Any]:
    """
    Write the folder that a model hub expects.

    :param model: a zip file, a run of RL Zoo, an exported folder, or the folder of an adaptive policy
    :param out: folder to write; replaces a package there
    :param env: environment; None: as noted down with the model
    :param episodes: how many are measured, with the most likely actions
    :param seed: of the first episode; the others count on
    :param video_steps: steps that are filmed; 0: no video
    :param command: command line to note down
    :param progress_bar: show how far the video is (needs tqdm)
    :param about: what else its file does not tell, fields of ``ModelSettings``: ``env_kwargs``, ``wrappers``,
        ``normalization``, ``algo``, ``trust``
    :return: what ``results.json`` holds
    :raises UserError: if a file is missing or refused, no environment is known, or nothing can be drawn
    """
    render_off_screen()
    check_number("episodes", episodes, at_least=1, integer=True)
    check_number("video_steps", video_steps, at_least=0, integer=True)
    folder, path, given = Path(out), model_file(model), ModelSettings(env, **about)
    for name, value in (("normalization", given.normalization), ("algo", given.algo)):
        if value is not None and path.is_dir():
            raise UserError(f"{path} tells both statistics and policy: leave out --{name}, got {value}.")
    env_id = env or _noted(path, given)
    if env_id is None:
        raise UserError(f"{path} does not tell its environment. Name it: --env, for instance HalfCheetah-v5.")
    _put_model(path, folder, given)
    given = replace(given, normalization=None, algo=None)  # the folder tells both
    returns = play(folder, replace(given, env=env_id), episodes=episodes, seed=seed)
    if not np.isfinite(returns).all():
        raise UserError(f"Returns in {env_id} are {returns}: a reward is not finite. Mend the environment.")
    if video_steps:
        _film(folder, given, FilmSettings(steps=video_steps, seed=seed), progress_bar)
    results = {
        "env_id": env_id,
        "mean_reward": float(np.mean(returns)),
        "std_reward": float(np.std(returns)),
        "n_eval_episodes": episodes,
        "is_deterministic": True,
        "eval_datetime": datetime.now(UTC).isoformat(timespec="seconds"),
        "returns": returns,
        "seed": seed,
        "command": command,
        "versions": versions(),
    }
    replace_file(folder / ATTRIBUTES, LARGE_FILES + AS_THEY_ARE)
    write_json(folder / RESULTS, results)
    adaptive = is_adaptive_folder(folder)
    agent = contents(folder / AGENT if adaptive else folder)
    replace_file(folder / CARD, card(results, agent, adaptive, with_video=video_steps > 0))
    return results


def _put_model(path: Path, folder: Path, given: ModelSettings) -> None:
    """The model as a folder without code: exported, or copied if it is such a folder already."""
    with TemporaryDirectory() as exported:
        if not path.is_dir():
            path = export_model(path, exported, **vars(given))
        load_model(path)  # refuses one that is damaged
        files = ADAPTIVE_FILES if is_adaptive_folder(path) else EXPORT_FILES
        if is_taken(folder) and not (folder / files[-1]).is_file():  # the first that is written
            raise UserError(f"{folder} is not empty, and no package of such a model. Choose another folder.")
        for stale in (VIDEO, CARD, RESULTS) if (folder / RESULTS).is_file() else (VIDEO,):  # a kill may have left that
            (folder / stale).unlink(missing_ok=True)  # what tells of a model must never be that of another
        for name in reversed(files):  # tensors before the configuration that holds their checksum
            replace_file(folder / name, (path / name).read_bytes())


def _noted(path: Path, given: ModelSettings) -> str | None:
    """The environment noted down; of a robot that could be perturbed, and is not, the stock one: a hub knows that."""
    zoo = zoo_files(path)
    noted = zoo.env_id(given)
    robot = "" if noted is None or zoo.env_kwargs(given) else robot_of(noted)
    return f"{robot}-v5" if robot and noted == perturbable(f"{robot}-v5") else noted


def _film(folder: Path, given: ModelSettings, settings: FilmSettings, progress_bar: bool) -> None:
    from sb3_plastic.evaluation.film_cli import film

    try:
        film([folder], folder / VIDEO, given, settings, progress_bar=progress_bar)
    except Exception as error:  # graphics fail in as many ways as there are drivers
        why = f"{type(error).__name__}: {error}"
        raise UserError(f"No video could be made ({why}). Without one: --no-video.") from error


def _return(results: dict[str, Any]) -> str:
    return f"{results['mean_reward']:.1f} +/- {results['std_reward']:.1f}"
