"""A report, from top to bottom."""

from __future__ import annotations

import json

import pandas as pd
from matplotlib.figure import Figure

from sb3_plastic.evaluation.measures import MOVING
from sb3_plastic.evaluation.records import COLUMNS, PLASTICITY
from sb3_plastic.progress import Progress
from sb3_plastic.report import figures
from sb3_plastic.report.claims import claims, few_seeds
from sb3_plastic.report.curves import BIN, read_onsets
from sb3_plastic.report.document import Document
from sb3_plastic.report.heat_map import heat_map
from sb3_plastic.report.pictures import CAPTION, robot_pictures
from sb3_plastic.report.results import Results
from sb3_plastic.report.scores import against, cells, controls, headline, other_protocols
from sb3_plastic.report.verdict import key_figures, verdict

BAND = "Bands: 95 % bootstrap interval over trained seeds, where there are two or more."
INTERVAL = "In brackets: 95 % bootstrap interval over trained seeds, where there are two or more."
MEANS = f"Means of {BIN} steps, over episodes, scenarios and trained seeds"
STEPS = f"{MEANS}; who has fallen counts as 0."
RAW_GAIN = "intact minus frozen at the onset, same model and seed, in units of the forward reward before the onset"
NET_GAIN = (
    f"the raw gain ({RAW_GAIN}) minus that of the sham, i.e. of freezing in the same episodes with nothing perturbed"
)
TERMS = (
    "drop",
    "plateau",
    "recovery_ratio",
    "recovery_time",
    "adaptation_gain",
    "after_effect",
    "switch_gain",
    "late_ratio",
)
DEFINITIONS = {
    "onset": "the first perturbed step, in mid-episode",
    "frozen": "from the onset on, no fast weight changes any more",
    "sham": "the control that freezes at an onset at which nothing is perturbed: what freezing costs there is no "
    "adaptation",
    "raw gain": RAW_GAIN,
    "net gain": NET_GAIN,
    "relative forward reward": "forward reward / mean of that of the same model in the same episodes, unperturbed",
    "speed kept": "1 - what is lost over the perturbed steps, against the same steps unperturbed, / the speed before "
    "the onset: who stops there, and would have fallen later, keeps more than 0",
    "split": "how far the perturbation is from training: id, interp (within), extrap1, extrap2 (beyond), novel (kinds "
    "that training did not have)",
    "IQM": "interquartile mean: the mean of the middle half of all scores",
    "CVaR10": "mean of the worst tenth of all scores",
    "oracle": "a policy that observes the perturbation",
    "head-room": "by how much the oracle's forward reward exceeds the baseline's",
    "P(better)": "probability that a trained seed of one agent beats one of the other; 0.5 is no difference",
}
"""Terms of the report."""
WHEN = {"static": "from the start of the episode", "onset": "from an onset in mid-episode on"}

CAPTIONS = {
    "agents": f"Forward reward around the onset, intact models. {STEPS} {BAND}",
    "gain": f"Net adaptation gain: {NET_GAIN}. Adaptation is a net gain that rises above 0 after the onset. In the "
    f"panel of the sham stands what was taken off: what freezing costs where nothing changes. {STEPS} {BAND}",
    "raw-gain": f"Raw adaptation gain: {RAW_GAIN}. It is no evidence of adaptation by itself: that of the sham, where "
    f"nothing is perturbed, is what freezing costs by itself. {STEPS} {BAND}",
    "controls": "Forward reward around the onset, with every control; and the sham, where they intervene at such an "
    f"onset and nothing is perturbed. {STEPS} {BAND}",
    "fast-weights": "Root mean square of the fast weights around the onset (dimensionless), of an adaptive layer how "
    f"far each hypothesis' estimates are from nominal, and of the sham. {MEANS}. {BAND}",
    "severity": "Forward reward relative to the same model unperturbed, by what is perturbed and how far outside of "
    "the training range; intact models, means over trained seeds. Empty: not in the suite.",
    "profiles": "Performance profiles: fraction of scenarios, perturbed from the start or from mid-episode on, in "
    f"which more than τ of the unperturbed forward reward is kept. {BAND}",
    "survival": "Episodes that have not fallen yet: Kaplan-Meier estimate of each trained seed over all scenarios with "
    f"an onset, right-censored at the time limit; mean over seeds. {BAND}",
    "recovery": "Episodes that are back at 80 % of their forward reward before the onset (those never below it count "
    "from 0 on): one minus the Kaplan-Meier estimate of each trained seed over all scenarios with an onset, "
    f"right-censored at the end of the perturbation; mean over seeds. {BAND}",
    "lifetime": f"Forward reward over the episodes of a life, fast weights carried across episodes or reset. {BAND}",
    "gallery": "Forward reward around the onset in each scenario, and of plastic models the same with the fast weights "
    f"frozen at the onset. {STEPS} {BAND}",
    "scenario-gains": f"Net adaptation gain in each scenario with a sham of the same onsets. {BAND}",
}


def compose(results: Results, title: str | None = None, progress: Progress | None = None) -> Document:
    """
    The whole report.

    :param results: of the comparison
    :param title: None: from the suite and the robots
    :param progress: counts the parts; None: nothing is shown
    """
    progress = progress or Progress(False)
    suite = results.records["suite"].iloc[0]
    document = Document(title or f"Adaptation to novel dynamics: {', '.join(results.groups)}, {suite}")
    document.heading("Verdict")
    document.paragraph(f"**{verdict(results)}**")
    figures_of_onsets = key_figures(results)
    if len(figures_of_onsets):
        document.table(figures_of_onsets, f"Over all scenarios with an onset, intact models. {INTERVAL}")
    _introduction(document, results)
    document.heading("What this says")
    for group in results.groups:
        document.paragraph(f"**{group}**")
        document.bullets(claims(results, group))
    document.paragraph(few_seeds(results))
    progress.begin("report", len(results.groups) * len(_Section.PARTS))
    for group in results.groups:
        document.heading(group)
        section = _Section(document, results, group)
        for part in _Section.PARTS:
            part(section)
            progress.tick(1)
    _unstable(document, results)
    _provenance(document, results)
    return document


def _introduction(document: Document, results: Results) -> None:
    records = results.records
    agents = [
        f"**{label}** ({part['algo'].iloc[0]}, {_count(part['train_seed'].nunique(), 'seed')})"
        for label, part in records.groupby("label", sort=False)
    ]
    document.paragraph(
        f"Suite `{records['suite'].iloc[0]}`, tier `{records['tier'].iloc[0]}`: {len(records)} episodes of "
        f"{_count(len(results.folders), 'trained model')}. Agents: {'; '.join(agents)}. "
        f"Oracle: {results.oracle or 'none'}. Baseline: {results.baseline or 'none'}."
    )
    document.paragraph(
        "The unit of all statistics is the trained seed: a score is a trained model's mean over the episodes of a "
        "scenario, and intervals come from drawing trained seeds anew. Robots are reported separately. Returns mislead "
        "(standing still earns some), so forward reward comes first."
    )
    with document.details("Terms"):
        meanings = {**DEFINITIONS, **{name.replace("_", " "): COLUMNS[name] for name in TERMS}}
        document.table([{"term": name, "meaning": meaning} for name, meaning in meanings.items()])


class _Section:
    """What is said of one robot."""

    def __init__(self, document: Document, results: Results, group: str) -> None:
        self.document, self.results, self.group = document, results, group
        self.look = figures.looks(results, group)
        self.onsets = read_onsets(results, group)

    def at_a_glance(self) -> None:
        pictures = robot_pictures(self.results, self.group)
        if isinstance(pictures, str):
            self.document.paragraph(pictures)
        else:
            self.document.pictures(f"{_slug(self.group)}-robot", pictures, CAPTION)
        self._figure("gallery", figures.gallery(self.onsets, self.look))

    def how_well(self) -> None:
        self._heading("how well")
        for protocol, when in WHEN.items():
            self._table(
                headline(self.results, self.group, protocol),
                f"Intact models, perturbed {when}. Relative: to the same model in the same episodes, unperturbed. IQM, "
                "worst and CVaR10 (mean of the worst tenth) are over trained seeds and scenarios; forward reward, "
                f"distance and return are those of an episode. {INTERVAL}",
            )
        intact = self.results.of(self.group, control="intact")
        intact = intact[intact["protocol"].isin(WHEN)]
        if n := int(intact["relative"].isna().sum()):
            self.document.paragraph(
                f"{n} of {len(intact)} intact episodes have no relative forward reward, since unperturbed the model "
                f"earned less than {MOVING} of it per step, or the simulation broke. They are left out of what is "
                "relative."
            )
        base = self.results.baseline
        if base is None:
            self.document.paragraph("No baseline: name a static policy's label with `--baseline` to compare with it.")
            return
        for protocol, when in WHEN.items():
            self._table(
                against(self.results, self.group, protocol),
                f"Compared with {base}, perturbed {when}: probability of improvement, and difference of the forward "
                "reward of an episode; the oracle's difference is the head-room. Gap closed: the fraction of the "
                f"head-room that an agent has, stated only where the interval of the head-room is above 0. {INTERVAL}",
            )
        if self.results.oracle is None:
            self.document.paragraph("No oracle, i.e. no policy that observes the context: the head-room is not known.")

    def around_the_onset(self) -> None:
        self._heading("around the onset")
        plastic = self.results.plastic_labels(self.group)
        self._figure("agents", figures.agents(self.onsets, self.look))
        has_net = self._figure("gain", figures.gain(self.onsets, self.look))
        if not self._figure("raw-gain", figures.raw_gain(self.onsets, self.look)):
            self.document.paragraph(
                "No model was run with its fast weights frozen at the onset: there is no adaptation gain to show."
            )
        elif not has_net:
            self.document.paragraph(
                "There is no sham, or none with these onsets: what freezing costs where nothing is perturbed is not "
                "known, and there is no net gain to show. Evaluate again to have one."
            )
        for label in plastic:
            self._figure("controls", figures.adaptation(self.onsets, label, self.results.oracle), label)
        self._table(
            controls(self.results, self.group),
            "Plateau: forward reward over the last 100 perturbed steps, relative to that before the onset, under each "
            f"control. Raw gain: {RAW_GAIN}, mean over the perturbed steps. Net gain: minus that of the sham, same "
            "episodes with nothing perturbed; early: over the first 50 perturbed steps, late: over the last 100. In "
            f"the row of the sham, the raw gain is what freezing costs by itself. {INTERVAL}",
        )
        for note in missing_controls(self.results, self.group):
            self.document.paragraph(note)
        for label in plastic:
            self._figure(
                "fast-weights",
                figures.fast_weights(self.onsets, label, self.results.plastic_layers(self.group, label)),
                label,
            )

    def how_hard_and_how_often(self) -> None:
        self._heading("how hard, and how often")
        self._figure("severity", heat_map(self.results, self.group))
        self._figure("profiles", figures.profiles(self.results, self.group, self.look))
        if not self._figure("survival", figures.survival(self.results, self.group, self.look)):
            self.document.paragraph("No intact model fell after an onset: there is no survival curve to show.")
        self._figure("recovery", figures.recovery(self.results, self.group, self.look))

    def other_protocols(self) -> None:
        table = other_protocols(self.results, self.group)
        if not table.empty:
            self._heading("other protocols")
            self._table(table, f"One measure per protocol. {INTERVAL}")
            self._figure("lifetime", figures.lifetime(self.results, self.group, self.look))

    def appendix(self) -> None:
        with self.document.details(f"Every scenario of {self.group}"):
            self._figure("scenario-gains", figures.scenario_gains(self.onsets, self.look))
            self._table(cells(self.results, self.group), "Means over trained seeds of their means over episodes.")

    PARTS = (at_a_glance, how_well, around_the_onset, how_hard_and_how_often, other_protocols, appendix)
    """In their order."""

    def _heading(self, text: str) -> None:
        self.document.heading(f"{self.group}: {text}", 3)

    def _table(self, table: pd.DataFrame, caption: str) -> None:
        if not table.empty:
            self.document.table(table, caption)

    def _figure(self, kind: str, figure: Figure | None, label: str | None = None) -> bool:
        """Add a figure if there is one, and say whether there is."""
        if figure is not None:
            name = "-".join(_slug(part) for part in (self.group, kind, label) if part)
            # Labels, and robots, may differ by their signs or capitals alone.
            name = self.document.free_name(name)
            self.document.figure(name, figure, f"{label}. {CAPTIONS[kind]}" if label else CAPTIONS[kind])
        return figure is not None


def missing_controls(results: Results, group: str) -> list[str]:
    """What controls a plastic label lacks, in words. :param results: of the comparison :param group: robot"""
    notes = []
    onset = results.of(group, protocol="onset")
    for label in results.labels_of(group):
        there = set(onset.loc[onset["label"] == label, "control"])
        lacking = [figures.CONTROLS[c][0] for c in PLASTICITY if c not in there]
        if there - {"intact"} and lacking:
            notes.append(f"**{label}** was not run with: {', '.join(lacking)}.")
    return notes


def _unstable(document: Document, results: Results) -> None:
    document.heading("Unstable cells")
    if results.unstable.empty:
        document.paragraph("The simulation held in all episodes.")
    else:
        keys = ["group", "label", "train_seed", "protocol", "scenario", "control"]
        table = results.unstable.groupby(keys, sort=False).size().rename("episodes").reset_index()
        document.table(table, "Episodes whose simulation broke. They are counted nowhere else.")


def _provenance(document: Document, results: Results) -> None:
    document.heading("Provenance")
    rows = []
    for path, summary in results.summaries.items():
        settings = summary.get("settings", {})
        rows.append(
            {
                "agent": settings.get("label"),
                "seed": settings.get("train_seed"),
                "environment": settings.get("env_id"),
                "model": str(settings.get("model_sha256") or "")[:12] or None,
                "commit": str(summary.get("commit") or "")[:12] or None,
                "results": path.name,
                "versions": ", ".join(f"{name} {version}" for name, version in summary.get("versions", {}).items()),
            }
        )
    table = pd.DataFrame(rows)
    alike = table["versions"].nunique() == 1
    document.table(table.drop(columns="versions") if alike else table, "Model: first digits of the file's SHA-256.")
    if alike:
        document.paragraph(f"Versions: {table['versions'].iloc[0]}.")
    commands = [summary.get("command") for summary in results.summaries.values()]  # none of what Python evaluated
    if any(commands):
        document.code("\n".join(command for command in commands if command))
    with document.details("Settings of every evaluation"):
        for path, summary in results.summaries.items():
            document.paragraph(f"`{path.name}`")
            settings = {name: value for name, value in summary.get("settings", {}).items() if name != "cells"}
            document.code(json.dumps(settings, indent=2, sort_keys=True))


def _slug(label: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in label).lower()


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")
