"""Results folders of one comparison, read and checked: nothing is counted twice, nothing unlike is compared."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.reading import AGAIN, check_once, check_sums, load_trace, read_json, read_records
from sb3_plastic.evaluation.records import (
    CONTROLS,
    PROTOCOLS,
    RECORDS,
    SETTINGS,
    SUMMARY,
    TRACES,
    WITHIN,
    Cell,
    Trace,
    file_name_of,
)
from sb3_plastic.evaluation.scores import chosen, with_scores

# What has to be the same in all folders for episodes of equal seeds to be the same episodes.
SAME_SETTINGS = ("suite", "tier", "base_seed", "episodes", "deterministic")
SAME_VERSIONS = ("sb3_plastic", "gymnasium", "mujoco")
MARKS = (RECORDS, SETTINGS, TRACES)
"""Of a results folder, whether its evaluation is finished or not."""
SPLITS = ("nominal", "reference", "train", "id", "interp", "extrap1", "extrap2", "novel", "anchor", "fault", "sham")


class ReportError(UserError):
    """These results cannot be reported, for a reason that the user can mend."""


@dataclass(frozen=True)
class Results:
    """
    All results of a comparison.

    :param records: one row per trusted episode, as in `evaluation.records.COLUMNS`, and ``group``: robot or
        environment, ``relative``: forward reward / mean over the same episodes of the scenario, unperturbed and intact,
        and the net gains `scores.NET`; without the sham
    :param sham: the same of the sham, the onset of nothing: no scenario, but what the raw gains are compared with
    :param unstable: the episodes whose simulation broke; they count nowhere else
    :param labels: in the order of the folders
    :param folders: of each trained model: (group, label, train_seed) -> results folders
    :param summaries: content of ``summary.json`` by folder
    :param oracle: label of the policy that observes the context, None without
    :param baseline: label of the static policy that the others are compared with, None without
    """

    records: pd.DataFrame
    sham: pd.DataFrame
    unstable: pd.DataFrame
    labels: tuple[str, ...]
    folders: dict[tuple[str, str, int], list[Path]]
    summaries: dict[Path, dict[str, Any]]
    oracle: str | None
    baseline: str | None

    @property
    def groups(self) -> list[str]:
        """Robots, or environments that are not ours. They are never averaged together."""
        return list(self.records["group"].unique())

    def labels_of(self, group: str) -> list[str]:
        """Labels of a group in the order of the folders, the oracle last. :param group: robot or environment"""
        there = set(self.of(group)["label"])
        return sorted((label for label in self.labels if label in there), key=lambda label: label == self.oracle)

    def plastic_layers(self, group: str, label: str) -> list[str]:
        """
        Names of what is plastic, as the evaluation noted them; earlier ones did not.

        :param group: robot or environment
        :param label: method
        """
        folders = next(paths for (g, name, _), paths in self.folders.items() if (g, name) == (group, label))
        return list(self.summaries[folders[0]].get("plastic_layers") or [])

    def plastic_labels(self, group: str) -> list[str]:
        """Labels that were run frozen as well. :param group: robot or environment"""
        frozen = self.of(group, control="frozen_at_onset")
        return [label for label in self.labels_of(group) if label in set(frozen["label"])]

    def of(self, group: str, **values: Any) -> pd.DataFrame:
        """Records of a group with these values. :param group: robot or environment :param values: by column"""
        return chosen(self.records, group=group, **values)

    def sham_of(self, group: str, **values: Any) -> pd.DataFrame:
        """Records of the sham, likewise. :param group: robot or environment :param values: by column"""
        return chosen(self.sham, group=group, **values)

    def traces(self, group: str, label: str, train_seed: int, cell: pd.Series) -> dict[str, tuple[Cell, Trace]]:
        """
        The traces of a scenario under a protocol, by control.

        :param group: robot or environment
        :param label: which method
        :param train_seed: which trained model
        :param cell: with ``protocol`` and ``scenario``
        """
        pattern = f"traces/{file_name_of(cell['protocol'], glob.escape(cell['scenario']), '*')}"
        folders = self.folders[group, label, train_seed]
        found = (load_trace(path) for folder in folders for path in sorted(folder.glob(pattern)))
        # A pattern finds the traces of `<scenario>__more`, too.
        return {own.control: (own, trace) for own, trace in found if own.scenario == cell["scenario"]}


def read_results(folders: Sequence[str | Path], *, oracle: str | None = None, baseline: str | None = None) -> Results:
    """
    Read results folders, and check that they may stand in one report.

    :param folders: of `sb3-plastic evaluate`, or folders that contain such folders
    :param oracle: label of the policy that observes the context; None: the one whose label contains "oracle"
    :param baseline: label of the static policy to compare with; None: the only label without controls, if it is one
    :raises ReportError: if a folder holds no finished evaluation, if they are of different suites, seeds or versions,
        if a model is there twice, if nothing nominal is in them, or if a label is not there
    """
    paths = _expanded(folders)
    summaries = {path: _summary(path) for path in paths}
    _check_alike(summaries)
    _check_models(summaries)
    tables = [read_records(path).assign(folder=str(path)) for path in paths]
    _check_traces(tables)
    # Files are read in alphabetical order; a reader expects another.
    order = {"protocol": PROTOCOLS, "split": SPLITS, "control": CONTROLS}
    rank = {name: {value: i for i, value in enumerate(values)} for name, values in order.items()}
    records = pd.concat(tables, ignore_index=True)
    check_once(records)
    records = records.sort_values(list(order), key=lambda c: c.map(rank[str(c.name)]), kind="stable", ignore_index=True)
    records.insert(0, "group", records["robot"].where(records["robot"] != "", records["env_id"]))
    _check_environments(records)
    _check_episodes(records, summaries)
    _check_draws(records)
    _check_nominal(records)
    labels = list(dict.fromkeys(label for table in tables for label in table["label"]))
    oracle = _oracle(labels, oracle)
    where: dict[tuple[str, str, int], list[Path]] = {}
    models = records[["group", "label", "train_seed", "folder"]].drop_duplicates()
    for group, label, seed, path in models.itertuples(index=False, name=None):
        where.setdefault((group, label, int(seed)), []).append(Path(path))
    broken = records["unstable"] == 1
    trusted = with_scores(records)
    is_sham = trusted["split"] == "sham"
    return Results(
        records=trusted[~is_sham].reset_index(drop=True),
        sham=trusted[is_sham].reset_index(drop=True),
        unstable=records[broken].reset_index(drop=True),
        labels=tuple(labels),
        folders=where,
        summaries=summaries,
        oracle=oracle,
        baseline=_baseline(records, labels, oracle, baseline),
    )


# Helpers


def _expanded(folders: Sequence[str | Path]) -> list[Path]:
    """Results folders, each once; a folder stands for those below it, too."""
    paths: list[Path] = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise ReportError(f"{folder} is no folder. Name the --out folders of `sb3-plastic evaluate`.")
        found = sorted({path.parent for mark in MARKS for path in folder.rglob(mark) if _is_mark(path, folder)})
        if not found:
            raise ReportError(
                f"{folder} is no results folder of `sb3-plastic evaluate`, nor are there any in it: "
                f"one has records.csv, summary.json and traces/. It has {_listing(folder)}."
            )
        paths += found
    seen: set[Path] = set()
    for path in paths:
        if path.resolve() in seen:
            raise ReportError(f"{path} is named twice, itself or through a folder above: it would be counted twice.")
        seen.add(path.resolve())
    return paths


def _is_mark(path: Path, folder: Path) -> bool:
    """Whether a file is of an evaluation: other programs have a settings.json, too. :param folder: above it"""
    if any(part.startswith(".") for part in path.relative_to(folder).parts):
        return False
    return path.name != SETTINGS or '"train_seed"' in path.read_text(errors="replace")


def _summary(folder: Path) -> dict[str, Any]:
    missing = [name for name in (RECORDS, SUMMARY) if not (folder / name).is_file()]
    if missing:
        raise ReportError(
            f"{folder} holds an unfinished evaluation: {' and '.join(missing)} not there yet. "
            "Start the same `sb3-plastic evaluate` again: it goes on where it stopped."
        )
    summary = read_json(folder / SUMMARY)
    for part in ("settings", "versions"):
        if not isinstance(summary.get(part), dict):
            raise ReportError(f"{folder / SUMMARY} has no {part}, which tell what may be compared. {AGAIN}")
    check_sums(folder, summary)
    return summary


def _check_traces(tables: Sequence[pd.DataFrame]) -> None:
    """The curves around the onset need their traces: a missing one would pass for a control that was not run."""
    columns = ["folder", "protocol", "scenario", "control"]
    for table in tables:
        expected = table.loc[table["protocol"] == "onset", columns].drop_duplicates()
        for folder, *cell in expected.itertuples(index=False, name=None):
            file = Path(folder) / TRACES / file_name_of(*cell)
            if not file.is_file():
                raise ReportError(f"{file} is missing, though records.csv has its episodes. {AGAIN}")


def _check_alike(summaries: dict[Path, dict[str, Any]]) -> None:
    for part, names in (("settings", SAME_SETTINGS), ("versions", SAME_VERSIONS)):
        for name in names:
            values = {path: summary.get(part, {}).get(name) for path, summary in summaries.items()}
            if len(different := set(map(str, values.values()))) > 1:
                (first, a), (second, b) = [next((p, v) for p, v in values.items() if str(v) == d) for d in different][
                    :2
                ]
                raise ReportError(
                    f"Different {part}, {name}: {a!r} in {first}, {b!r} in {second}. Their episodes are not the "
                    "same, so they cannot be compared: evaluate all models alike, or write a report of each."
                )


def _check_models(summaries: dict[Path, dict[str, Any]]) -> None:
    seen: dict[tuple[str, str], tuple[Path, Any]] = {}
    files: dict[Any, tuple[Path, str]] = {}
    for path, summary in summaries.items():
        settings = summary.get("settings", {})
        checksum = settings.get("model_sha256")
        if checksum is None:
            continue
        name = settings.get("label"), settings.get("train_seed")
        other, known = seen.setdefault((str(checksum), str(settings.get("env_id"))), (path, name))
        if known != name:  # under the same name it may be there with other protocols
            raise ReportError(
                f"{path} and {other} are evaluations of the same model file (checksum {checksum[:12]}) under different "
                "names: it would be counted as two trained models. Leave one out."
            )
        first, of_first = files.setdefault((*name, settings.get("env_id")), (path, checksum))
        if checksum != of_first:
            raise ReportError(
                f"{path} and {first} are evaluations of two model files, {checksum[:12]} and {of_first[:12]}, as "
                f"{name[0]!r} of seed {name[1]}: they would be counted as one trained model. Evaluate with another "
                "--train-seed or --label; or, if they are one model that was saved twice, with the same file."
            )


def _check_environments(records: pd.DataFrame) -> None:
    for (group, label), rows in records.groupby(["group", "label"], sort=False):
        if rows["env_id"].nunique() > 1:
            raise ReportError(
                f"{label!r} was evaluated in several environments of {group}: {', '.join(rows['env_id'].unique())}. "
                "Give each its own --label."
            )


def _check_episodes(records: pd.DataFrame, summaries: dict[Path, dict[str, Any]]) -> None:
    """Episodes of one name are as long, and meet the same: scenarios may be the user's own, or of an edited suite."""
    seen: dict[tuple[str, ...], tuple[Any, str]] = {}
    columns = ["group", "protocol", "scenario", "steps", "folder"]
    for group, protocol, scenario, steps, folder in records[columns].drop_duplicates().itertuples(index=False):
        digests = summaries[Path(folder)]["settings"].get("scenarios_sha256", {})
        digest = digests.get(f"{protocol} {scenario}")
        for what, value in (("steps", steps), ("perturbations", digest)):
            if value is None:  # evaluations of before have no digest
                continue
            known, there = seen.setdefault((group, protocol, scenario, what), (value, folder))
            if value != known:
                which = f": {known} in {there}, {value} in {folder}" if what == "steps" else f" in {there} and {folder}"
                raise ReportError(
                    f"The episodes of {scenario} ({protocol}) have other {what}{which}. They cannot be compared: "
                    "evaluate all models alike, or write a report of each."
                )


def _check_draws(records: pd.DataFrame) -> None:
    """
    Episodes of one seed have drawn the same: an earlier version drew otherwise. Of a life this is asked of the first
    alone, since what comes later may depend on how the agent has fared.
    """
    key = ["group", "protocol", "scenario", "eval_seed"]
    drawn = records[records["episode"] == 0].drop_duplicates([*key, "values"])
    again = drawn[drawn.duplicated(key)]
    if len(again):
        b = again.iloc[0]
        a = drawn[(drawn[key] == b[key]).all(axis=1)].iloc[0]
        raise ReportError(
            f"The episodes of {b['scenario']} ({b['protocol']}) with seed {b['eval_seed']} have drawn other values: "
            f"{a['values']} in {a['folder']}, {b['values']} in {b['folder']}. Other versions draw otherwise, and they "
            "cannot be compared: evaluate all models with one version, or write a report of each."
        )


def _check_nominal(records: pd.DataFrame) -> None:
    for (group, label, seed), rows in records.groupby(["group", "label", "train_seed"], sort=False):
        if not ((rows["split"] == "nominal") & (rows["protocol"] == "static")).any():
            raise ReportError(
                f"No nominal episodes of {label!r}, seed {seed}, {group}: nothing can be said relative to the "
                "unperturbed robot. Evaluate a tier with the scenario `nominal`, by the protocol `static`, too."
            )


def _oracle(labels: list[str], asked: str | None) -> str | None:
    _check_label("--oracle", asked, labels)
    named = [label for label in labels if "oracle" in label.lower()]
    if asked is None and len(named) > 1:
        raise ReportError(f"There are several oracles, {', '.join(named)}: name one with --oracle.")
    return asked or (named[0] if named else None)


def _baseline(records: pd.DataFrame, labels: list[str], oracle: str | None, asked: str | None) -> str | None:
    _check_label("--baseline", asked, labels)
    if asked is not None and asked == oracle:
        raise ReportError(f"{asked!r} is the oracle, and cannot be the baseline, too: name another label.")
    plastic = set(records.loc[records["control"].isin(WITHIN[1:]), "label"])
    static = [label for label in labels if label not in plastic | {oracle}]
    return asked or (static[0] if len(static) == 1 else None)


def _check_label(flag: str, label: str | None, labels: list[str]) -> None:
    if label is not None and label not in labels:
        raise ReportError(f"{flag} {label!r}: there is no such label. There are {', '.join(labels)}.")


def _listing(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())[:5]
    return f"only {', '.join(names)}" if names else "nothing"
