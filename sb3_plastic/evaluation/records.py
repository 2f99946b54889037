"""The results folder: what an evaluation leaves behind, and what a report reads.

    DIR/records.csv     one row per episode, the columns of `COLUMNS`
    DIR/traces/*.npz    one file per cell, i.e. protocol x scenario x control: a `Trace`
    DIR/summary.json    how they came about, keys: settings (all that decides results: label, algo, train_seed, env_id,
                        suite, tier, controls, protocols, base_seed, episodes, deterministic, checksums of model and
                        VecNormalize, ...), versions, commit (null outside of git), env_specs (by name), command,
                        plastic_layers (names, in the order of a trace), unstable_cells (file name: number of broken
                        simulations), sha256 (of records.csv and of this
                        file: a report refuses what was changed since)
    DIR/settings.json   written first: what an evaluation that goes on is compared with
    DIR/timing.json     wall time; the only file that differs between two runs of the same command

Traces are written first, and records are a function of them: `records_of`. Everything is written under a temporary name
and then moved, so a file that exists is complete.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sb3_plastic.evaluation.measures import MEASURES, episode_measures
from sb3_plastic.files import replace_file

Array = NDArray[Any]

RECORDS, SUMMARY, SETTINGS, TRACES = "records.csv", "summary.json", "settings.json", "traces"

PLASTICITY = ("intact", "frozen_at_onset", "zeroed_at_onset", "off")
"""Controls within an episode, of every model with plasticity: they are run by default."""

LAYER_OFF = "layer_off"
WITHIN = (*PLASTICITY, LAYER_OFF)
"""All controls within an episode."""

LIFETIME = ("carried", "reset")
"""Controls of a life of several episodes."""

CONTROLS = (*WITHIN, *LIFETIME)
"""What is done to a model's plasticity, see controls.py."""

PROTOCOLS = ("static", "onset", "removal", "switch", "lifetime", "horizon")
"""When a scenario's perturbation acts; see protocols.py."""

COLUMNS: dict[str, str] = {
    # which model
    "label": "name of what is compared: one per method, for instance oja+simple; all its trained seeds share it",
    "algo": "algorithm, a name in algorithms.ALGORITHMS",
    "train_seed": "the seed with which the model was trained: the unit of statistics",
    # under which condition
    "control": "intact, frozen_at_onset, zeroed_at_onset, off, layer_off; for the protocol lifetime carried, reset",
    "protocol": "static, onset, removal, switch, lifetime, horizon",
    "env_id": "environment",
    "robot": "such as HalfCheetah; empty for environments that are not ours",
    "suite": "such as nda-v1",
    "tier": "smoke, quick, full; or the patterns of scenarios that were asked for instead",
    "scenario": "full name in the suite, such as nda-v1/extrap1/mass/onset",
    "split": "nominal, reference (nominal, on a level height field), sham (an onset of nothing: what controls cost by "
    "themselves), train, id, interp, extrap1, extrap2, novel, anchor, fault (of the agent)",
    "kind": "what is perturbed: a family or kind, all (of the training families), none",
    "severity": "0 nominal, 1 train, interp and id, 2 extrap1, 3 extrap2; empty for novel kinds and anchors",
    "values": "what was drawn for this episode, such as mass=1.43;friction=0.8; empty if nothing is perturbed; of the "
    "split reference its ground, which is level",
    # which episode
    "eval_seed": "seed of the environment; equal seeds are paired over scenarios, controls and models",
    "episode": "index of the episode within the cell; for lifetime, within the life",
    "onset": "index of the first perturbed step, -1 if there is none; 0: from the start",
    "removal": "index of the first step that is unperturbed again, -1 if there is none",
    # what happened
    "steps": "time limit of the episode, steps",
    "length": "steps made",
    "return": "sum of rewards",
    "forward_reward": "sum of info['reward_forward'] (environments without it: of rewards)",
    "distance": "distance moved along x, m; empty where info has no x_position",
    "energy": "sum over steps of the squared action: control effort, dimensionless",
    "survived": "1: the time limit was reached",
    "fell": "1: terminated before it",
    "unstable": "1: the simulation broke; such episodes are listed apart and not trusted",
    # measures, see measures.py
    **MEASURES,
}
"""
Columns of records.csv, in order, with their meaning. Empty (NaN) where a measure does not apply. A column that earlier
versions lack may be empty, too: it is none of those that `reading` always wants.
"""


@dataclass(frozen=True)
class Cell:
    """
    One condition: a scenario under a protocol and a control.

    :param protocol: one of `PROTOCOLS`
    :param scenario: full name in the suite
    :param control: one of `CONTROLS`
    :param split: split of the suite
    :param kind: what is perturbed
    :param severity: 0 to 3, None where the suite orders nothing
    :param reference: the scenario whose intact episodes are the nominal ones of this cell, None if it is one itself
    :param switch_every: steps between switches, for the protocol ``switch``
    :param training_steps: length of a training episode, for the protocol ``horizon``
    """

    protocol: str
    scenario: str
    control: str
    split: str
    kind: str
    severity: int | None = None
    reference: str | None = None
    switch_every: int | None = None
    training_steps: int | None = None

    @property
    def file_name(self) -> str:
        """Of its trace."""
        return file_name_of(self.protocol, self.scenario, self.control)


def file_name_of(protocol: str, scenario: str, control: str) -> str:
    """
    ``<protocol>__<scenario, / as ->__<control>.npz``.

    :param protocol: its name
    :param scenario: full name
    :param control: its name
    """
    return f"{protocol}__{scenario.replace('/', '-')}__{control}.npz"


@dataclass(frozen=True)
class Trace:
    """
    The episodes of a cell, step by step. E episodes, T steps (the time limit), L plastic layers.

    :param forward_reward: [E, T], NaN after the end of an episode
    :param reward: [E, T], likewise
    :param effort: squared action [E, T], likewise
    :param onset: [E] first perturbed step, -1 without
    :param removal: [E] first step that is unperturbed again, -1 without
    :param eval_seed: [E]
    :param episode: [E]
    :param fell: bool [E], terminated
    :param unstable: bool [E], the simulation broke
    :param distance: [E], m, NaN if unknown
    :param values: [E] strings, what was drawn
    :param fast_weight_norm: root mean square of the fast weights of each layer after each step, [E, T, L]; L is 0 for
        models without
    """

    forward_reward: Array
    reward: Array
    effort: Array
    onset: Array
    removal: Array
    eval_seed: Array
    episode: Array
    fell: Array
    unstable: Array
    distance: Array
    values: Array
    fast_weight_norm: Array

    def rows(self, chosen: slice | Sequence[int]) -> Trace:
        """Some of the episodes. :param chosen: their indices"""
        return Trace(**{name: values[chosen] for name, values in vars(self).items()})

    @property
    def length(self) -> Array:
        """Steps of each episode, [E]."""
        return (~np.isnan(self.reward)).sum(1)

    @property
    def steps(self) -> int:
        """The time limit."""
        return int(self.reward.shape[1])


def joined(traces: Sequence[Trace]) -> Trace:
    """The episodes of all, those of the first first. :param traces: of the same time limit"""
    names = [field.name for field in dataclasses.fields(Trace)]
    return Trace(**{name: np.concatenate([getattr(trace, name) for trace in traces]) for name in names})


def save_trace(folder: Path, cell: Cell, trace: Trace) -> Path:
    """
    Write a cell to ``folder/traces``. Equal traces give equal bytes.

    :param folder: the results folder
    :param cell: which cell
    :param trace: its episodes
    :return: the file
    """
    path = folder / TRACES / cell.file_name
    buffer = io.BytesIO()
    np.savez_compressed(buffer, cell=json.dumps(dataclasses.asdict(cell)), **dataclasses.asdict(trace))
    replace_file(path, buffer.getvalue())
    return path


def records_of(traces: Mapping[Cell, Trace], common: Mapping[str, Any]) -> pd.DataFrame:
    """
    One row per episode, with its measures.

    :param traces: all cells of an evaluation: some measures compare cells, episodes of the same seed being paired
    :param common: the columns that are the same in all rows
    :return: a table with the columns `COLUMNS`
    """
    by_key = {(cell.protocol, cell.scenario, cell.control): trace for cell, trace in traces.items()}
    static = {
        cell.scenario: trace for cell, trace in traces.items() if cell.protocol == "static" and cell.control == "intact"
    }
    rows = []
    for cell, trace in traces.items():
        unchanged = cell.split in ("nominal", "reference")  # they are their own; others may have none among the cells
        compared = cell.scenario if unchanged else cell.reference
        nominal = static.get(compared) if compared else None
        frozen = by_key.get((cell.protocol, cell.scenario, "frozen_at_onset")) if cell.control == "intact" else None
        for i, length in enumerate(trace.length.tolist()):
            rows.append(
                {
                    **common,
                    "control": cell.control,
                    "protocol": cell.protocol,
                    "scenario": cell.scenario,
                    "split": cell.split,
                    "kind": cell.kind,
                    "severity": cell.severity,
                    **episode_measures(
                        trace.forward_reward[i],
                        int(trace.onset[i]),
                        int(trace.removal[i]),
                        nominal=_paired(nominal, trace, i),
                        frozen=_paired(frozen, trace, i),
                        switch_every=cell.switch_every,
                        training_steps=cell.training_steps,
                    ),
                    **_facts(trace, i, length),
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"severity": "Int64"})


def _facts(trace: Trace, i: int, length: int) -> dict[str, Any]:
    return {
        "values": str(trace.values[i]),
        "eval_seed": int(trace.eval_seed[i]),
        "episode": int(trace.episode[i]),
        "onset": int(trace.onset[i]),
        "removal": int(trace.removal[i]),
        "steps": trace.steps,
        "length": length,
        "return": float(np.nansum(trace.reward[i], dtype=np.float64)),
        "forward_reward": float(np.nansum(trace.forward_reward[i], dtype=np.float64)),
        "distance": float(trace.distance[i]),
        "energy": float(np.nansum(trace.effort[i], dtype=np.float64)),
        "survived": int(not trace.fell[i] and not trace.unstable[i]),
        "fell": int(trace.fell[i]),
        "unstable": int(trace.unstable[i]),
    }


def _paired(other: Trace | None, trace: Trace, i: int) -> Array | None:
    """The forward rewards of another cell's episode with the same seed, unless its simulation broke."""
    if other is None:
        return None
    rows = np.flatnonzero((other.eval_seed == trace.eval_seed[i]) & ~other.unstable)
    return other.forward_reward[rows[0]] if len(rows) else None


def write_records(folder: Path, records: pd.DataFrame) -> None:
    """Write ``records.csv``. :param folder: the results folder :param records: as `records_of` returns them"""
    replace_file(folder / RECORDS, records.to_csv(index=False, lineterminator="\n"))
