"""`sb3-plastic export`: a model as a folder of plain files, which runs no code when it is loaded.

sb3-plastic export logs/plastic_ppo/Ant-v5_1 --to ant
sb3-plastic evaluate --model ant --out results/ant
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sb3_plastic.adaptive import is_adaptive_folder
from sb3_plastic.algorithms import ALGORITHMS
from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.loading import load_model, model_file
from sb3_plastic.evaluation.zoo_files import statistics_beside, zoo_files
from sb3_plastic.export import Normalization, export_policy


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command.

    :param argv: arguments; None: those of the process
    :return: exit status
    """
    parser = argparse.ArgumentParser(
        prog="sb3-plastic export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a model's zip file, or a run of RL Zoo")
    parser.add_argument(
        "--to", required=True, type=Path, metavar="DIR", help="folder to write; replaces an export there"
    )
    parser.add_argument("--vecnorm", type=Path, help="file of VecNormalize; by default looked for beside the model")
    parser.add_argument("--env", help="environment to note down; by default as RL Zoo wrote beside the model")
    parser.add_argument("--algo", choices=ALGORITHMS, help="by default recognised from the file")
    parser.add_argument("--trust", action="store_true", help="run what the model's files ask for; else that is refused")
    args = parser.parse_args(argv)
    folder = export_model(args.model, args.to, args.vecnorm, args.env, args.algo, args.trust)
    print(f"Wrote {folder}. In Python: sb3_plastic.load_policy({str(folder)!r})")
    return 0


def export_model(
    model: str | Path,
    to: str | Path,
    vec_normalize: str | Path | None = None,
    env: str | None = None,
    algo: str | None = None,
    trust: bool = False,
) -> Path:
    """
    Export a saved model.

    :param model: a zip file, or a run of RL Zoo
    :param to: folder to write; replaces an export there
    :param vec_normalize: file with the statistics of VecNormalize; None: looked for beside the model
    :param env: environment to note down; None: as RL Zoo wrote beside the model
    :param algo: a name in ``ALGORITHMS``; None: recognised
    :param trust: run what the model's files ask for
    :return: the folder
    :raises UserError: if a file is missing or damaged, or asks to run code and is not trusted
    """
    path = model_file(model)
    if path.is_dir():
        what = "a policy with an adaptive layer" if is_adaptive_folder(path) else "an exported policy"
        raise UserError(f"{path} is {what}: plain files already.")
    if vec_normalize is not None and not Path(vec_normalize).is_file():
        raise UserError(f"There are no statistics of VecNormalize in {vec_normalize}.")
    zoo = zoo_files(path)
    loaded, found = load_model(path, algo, trust)
    statistics = vec_normalize or statistics_beside(path, zoo)
    training: dict[str, Any] = {
        "algo": found,
        "env_id": env or zoo.env_id(trust),
        "env_kwargs": zoo.env_kwargs(),
        "env_wrapper": [_plain(wrapper) for wrapper in zoo.wrappers(trust)],
        "frame_stack": zoo.config.get("frame_stack"),
        "num_timesteps": loaded.num_timesteps,
        "seed": loaded.seed,
    }
    normalization = None if statistics is None else Normalization.load(Path(statistics), trust)
    return export_policy(
        loaded.policy, to, normalization, {k: v for k, v in training.items() if v not in (None, {}, [])}
    )


def _plain(wrapper: Any) -> Any:
    return dict(wrapper) if isinstance(wrapper, Mapping) else wrapper
