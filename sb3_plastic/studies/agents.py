"""What the studies of trained agents judge: agents as folders, and arms, which are what is put around an agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sb3_plastic.adaptive.files import AGENT, is_adaptive_folder
from sb3_plastic.adaptive.files import read_config as read_layer_config
from sb3_plastic.adaptive.hypotheses import HYPOTHESES, RIVALS
from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.environment import called_in_suites, find_training
from sb3_plastic.evaluation.loading import checksum_of_model, load_model, model_file
from sb3_plastic.evaluation.settings import ModelSettings
from sb3_plastic.evaluation.zoo_files import zoo_files
from sb3_plastic.export import read_config
from sb3_plastic.perturbations.registration import ROBOTS
from sb3_plastic.safe import raw_data


class Arm(NamedTuple):
    """
    What is put around an agent, as plain data.

    :param layer: an adaptive layer as it was fitted, but for these fields of ``LayerSettings``; None: no layer
    :param wrappers: around the vector environment, the first innermost
    :param controls: of the plasticity of layer or agent; None: all that there are
    :param ours: for our robots alone, into whose simulator it looks
    """

    layer: Mapping[str, Any] | None = None
    wrappers: tuple[str, ...] = ()
    controls: tuple[str, ...] | None = ("intact",)
    ours: bool = False


ARMS: dict[str, Arm] = {
    "frozen": Arm(),  # the agent as it is; of a plastic one, its own synapses go on
    "adaptive": Arm({}, controls=("intact", "frozen_at_onset")),
    "told": Arm(wrappers=("sb3_plastic.evaluation.told.Told",), ours=True),
    # Other estimators; each acts throughout, as it was published.
    **{name: Arm({"hypotheses": (name,), "always": name}) for name in RIVALS},
    # One hypothesis alone: what the layer would give if one knew what had broken.
    **{name: Arm({"hypotheses": (name,)}) for name in HYPOTHESES if name not in ("nominal", *RIVALS)},
    "controls": Arm(controls=None),  # the agent as it is, and its own plasticity frozen, zeroed and off
    "low_pass": Arm(wrappers=("sb3_plastic.evaluation.low_pass.LowPass",)),
}
"""Arms by name."""


class Agent(NamedTuple):
    """
    A trained agent, and the layers that were fitted to it already.

    :param label: of its method, shared by its trained seeds
    :param robot: that it moves, one of ours, or the id of another environment
    :param seed: of its training
    :param model: its file or folder
    :param layers: folders of adaptive policies around it, by the seed of the forward model
    :param layer_inside: it was trained with a layer inside the policy, which no other goes around
    """

    label: str
    robot: str
    seed: int
    model: Path
    layers: dict[int, Path]
    layer_inside: bool = False

    def can_be_in(self, arm: str) -> bool:
        """Whether it has what an arm asks for: a layer inside is as it was trained. :param arm: a key of ``ARMS``"""
        return not (self.layer_inside and ARMS[arm].layer) and (self.robot in ROBOTS or not ARMS[arm].ours)

    def checksum(self) -> str:
        """Of its parameters: a model that is saved twice, exported or copied beside a layer is the same one."""
        return str(checksum_of_model(load_model(self.model)[0], None))

    def layer_seeds(self, seeds: Sequence[int]) -> list[int]:
        """Seeds of its layers: of those that it has, or else of those to fit. :param seeds: to fit"""
        return [self.seed] if self.layer_inside else sorted(self.layers) or list(seeds)


def read_agents(texts: Sequence[str]) -> list[Agent]:
    """
    Agents as they are named on the command line.

    :param texts: ``LABEL=FOLDER,FOLDER,...``; a folder is a run of RL Zoo, a model's zip file, an exported policy,
        or what `sb3-plastic adapt` wrote, whose layer is then used
    :return: one per label and trained seed
    :raises UserError: on another form, the name of an arm as a label, a folder without a model, a model that does not
        tell its environment, two models with one label and seed, or an exported policy with a layer inside
    """
    found: dict[tuple[str, str, int], Agent] = {}
    for text in texts:
        label, separator, folders = text.partition("=")
        if not separator or not label or not folders:
            raise UserError(f"An agent is LABEL=FOLDER,FOLDER,... (one folder per trained seed), got {text!r}.")
        if label in ARMS:
            raise UserError(f"{label!r} is the name of an arm, and agents stand beside arms: choose another label.")
        for folder in folders.split(","):
            agent = _read_agent(label, Path(folder))
            key = (agent.label, agent.robot, agent.seed)
            known = found.setdefault(key, agent)
            if known is not agent:
                if not agent.layers or known.checksum() != agent.checksum():
                    raise UserError(
                        f"{known.model} and {agent.model} are both {label!r} of seed {agent.seed}: name two labels."
                    )
                if twice := [*({*known.layers} & {*agent.layers})]:
                    raise UserError(
                        f"{known.layers[twice[0]]} and {agent.layers[twice[0]]} are both layers of seed {twice[0]} "
                        f"around {label!r} of seed {agent.seed}: name two labels."
                    )
                known.layers.update(agent.layers)
    return list(found.values())


def _read_agent(label: str, folder: Path) -> Agent:
    layers = {}
    if is_adaptive_folder(folder):
        layers[int(read_layer_config(folder)["report"]["seed"])] = folder
        folder = folder / AGENT
    model = model_file(folder)
    if zoo_files(model).env_id(ModelSettings()) is None:
        raise UserError(
            f"{model} does not tell its environment. A run of RL Zoo does, and so does a folder that `sb3-plastic "
            f"adapt --model {model} --env ID` writes."
        )
    robot = called_in_suites(find_training(model).env_id)
    if model.is_dir():
        config = read_config(model)
        about = config.get("training", {})
        if config["policy"].get("arguments", {}).get("adaptive"):
            raise UserError(
                f"{model} is an exported policy with an adaptive layer inside, which cannot be judged without it: name "
                "the run that it was exported from."
            )
    else:
        about = raw_data(model)
    inside = bool((about.get("policy_kwargs") or {}).get("adaptive"))
    return Agent(label, robot, int(about.get("seed") or 0), model, layers, inside)
