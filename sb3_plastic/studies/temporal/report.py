"""The report of the study of temporal tasks: records, tables and figures, as Markdown and as one HTML file."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sb3_plastic.report.document import Document, plot_style
from sb3_plastic.studies.results import origin, required_results
from sb3_plastic.studies.table import Result
from sb3_plastic.studies.temporal import figures
from sb3_plastic.studies.temporal.analysis import LESIONS
from sb3_plastic.studies.temporal.conclusion import conclusion
from sb3_plastic.studies.temporal.records import at_level, compared, differences_by_seed, interval, records, select
from sb3_plastic.studies.temporal.settings import (
    ABLATIONS,
    ANALYSED,
    PLASTIC_NETWORKS,
    STRONG,
    UPDATES,
    make_task,
    plastic_name,
)
from sb3_plastic.tasks import CueAccumulation

SHOWN = {"noise-free": 0, "strong noise": STRONG}


def write_report(out: Path) -> list[Path]:
    """
    Write ``report.md`` with its figures, and ``report.html``, from the results that are there.

    :param out: the folder of the study
    :return: what was written
    :raises UserError: if there are no results
    """
    cells = list(required_results(out, "task", "network").values())
    frame = records(cells)
    document = Document("Temporal tasks: plastic and static spiking networks under noise", small=True)
    with plot_style():
        for section in (
            _conclusion,
            _summary,
            _headline,
            _curves,
            _delays,
            _modulation,
            _parts,
            _inside,
            _grid,
            _costs,
        ):
            section(document, frame, cells)
    return document.write(out)


def _conclusion(document: Document, frame: pd.DataFrame, cells: list[Result]) -> None:
    sentence, rows = conclusion(frame, figures.tasks_of(frame))
    if sentence:
        document.heading("Conclusion")
        document.paragraph(f"**{sentence}**")
        document.table(rows, "Accuracy as a part of the reference decoder's, means over seeds.")


def _summary(document: Document, frame: pd.DataFrame, cells: list[Result]) -> None:
    document.heading("How it was measured")
    document.paragraph(
        "Accuracies are means over seeds with a 95 % bootstrap interval over seeds. Noise is given as the share of "
        "spikes dropped and the probability per input and tick of a spurious one. **reference** is a decoder that "
        "reads the same noisy spikes with statistics; it says what is attainable. Updates are equal for all unless "
        "the name says 10x; controls have at least as many parameters as the feed-forward plastic networks, and the "
        "GRU was not searched. The tasks are defined "
        "here: no figure is a replication of anyone's."
    )
    seeds = ", ".join(str(seed) for seed in sorted(frame.seed.unique()))
    document.code(f"command  sb3-plastic study temporal --out OUT\nseeds    {seeds}\n{origin(cells)}")


def _headline(document: Document, frame: pd.DataFrame, cells: list[Result]) -> None:
    document.heading("Accuracy under noise")
    for task in figures.tasks_of(frame):
        setting = make_task(task)
        reference = select(frame, task, "reference")
        rows: list[dict[str, str]] = []
        for name, chosen in compared(frame, task):
            row = {"network": name}
            row |= {f"noise {label}": interval(at_level(chosen, i).accuracy) for i, label in enumerate(figures.LEVELS)}
            for label, level in SHOWN.items():
                a, b = at_level(chosen, level).accuracy.mean(), at_level(reference, level).accuracy.mean()
                row[f"of reference, {label}"] = f"{a / b:.1%}"
            row["parameters"] = "" if name == "reference" else str(int(chosen.n_parameters.iloc[0]))
            row["seeds"] = str(chosen.seed.nunique())
            rows.append(row)
        caption = (
            f"**{task}**: chance {setting.chance:.3f}, memory-free ceiling {setting.memory_free_ceiling:.3f}, "
            + ("bit by bit majority over both patterns .75, " if task == "completion" else "")
            + f"{UPDATES[task]} updates. Noise: spikes dropped, spurious spikes."
        )
        document.table(rows, caption=caption)
    document.figure(
        "noise",
        figures.sweep(frame, figures.tasks_of(frame)),
        "Accuracy against noise (spikes dropped, spurious spikes). Bands: 95 % intervals over seeds.",
    )


def _curves(document: Document, frame: pd.DataFrame, cells: list[Result]) -> None:
    document.heading("Learning")
    document.figure(
        "learning",
        figures.learning(cells, figures.tasks_of(frame)),
        "Accuracy on the batches of training, whose noise rises from none to 50 %, 10 % (completion: 40 %, 5 %) over "
        "the first half. In the reversal a teacher's answers are replaced by the network's own over the first quarter. "
        "Means over seeds.",
    )


def _delays(document: Document, frame: pd.DataFrame, cells: list[Result]) -> None:
    if "accumulation" not in figures.tasks_of(frame):
        return
    document.heading("Longer delays")
    task = make_task("accumulation")
    assert isinstance(task, CueAccumulation)
    trained = task.delay
    delays = sorted(frame.delay.dropna().unique())
    rows = []
    for name, chosen in compared(frame, "accumulation"):
        row = {"network": name}
        row[f"{trained} ticks (trained)"] = interval(at_level(chosen, 0).accuracy)
        row |= {f"{delay:.0f} ticks": interval(chosen[chosen.delay == delay].accuracy) for delay in delays}
        rows.append(row)
    document.table(rows, caption="Cue accumulation without noise, at delays not seen in training.")


def _modulation(document: Document, frame: pd.DataFrame, cells: list[Result]) -> None:
    rows = []
    for task in figures.tasks_of(frame):
        for recurrent in (False, True):
            for rule in ("hebb", "oja", "bcm"):
                plain = select(frame, task, plastic_name(rule, "none", recurrent))
                for modulation in ("simple", "retroactive"):
                    gated = select(frame, task, plastic_name(rule, modulation, recurrent))
                    margins = {
                        label: differences_by_seed(at_level(gated, level), at_level(plain, level))
                        for label, level in SHOWN.items()
                    }
                    if len(margins["noise-free"]) >= 3:
                        row = {"task": task, "network": plastic_name(rule, modulation, recurrent)}
                        row |= {label: interval(margin) for label, margin in margins.items()}
                        rows.append(row | {"seeds": str(len(margins["noise-free"]))})
    if rows:
        document.heading("What modulation adds")
        document.table(
            rows, caption="Accuracy minus that of the same network without modulation, paired by seed (three or more)."
        )


def _parts(document: Document, frame: pd.DataFrame, cells: list[Result]) -> None:
    rows = []
    for task, network in ANALYSED.items():
        whole = select(frame, task, network)
        kinds = [("nothing", "", "")]
        kinds += [(f"in training: {ablation}", ablation, "") for ablation in ABLATIONS]
        kinds += [(f"at test: {lesion} cut", "", lesion) for lesion in LESIONS]
        for label, ablation, lesion in kinds:
            chosen = select(frame, task, network, 1, ablation, lesion)
            if chosen.empty:
                continue
            row = {"task": task, "left out": label}
            for name, level in SHOWN.items():
                row[name] = interval(at_level(chosen, level).accuracy)
                lost = differences_by_seed(at_level(chosen, level), at_level(whole, level))
                row[f"change, {name}"] = "" if label == "nothing" else interval(lost)
            rows.append(row)
    if rows:
        document.heading("What each part is worth")
        named = ", ".join(f"{network} ({task})" for task, network in ANALYSED.items())
        document.table(
            rows,
            caption=f"{named}. In training: the tensor stays as it was drawn, or no gradient passes through h. "
            "At test: alpha 0 (plasticity), eta its mean, the modulator 1.",
        )


def _inside(document: Document, frame: pd.DataFrame, cells: list[Result]) -> None:
    drawn = {task: figures.traces(cells, task) for task in ANALYSED}
    if not any(drawn.values()):
        return
    document.heading("Inside a trial")
    for task, figure in drawn.items():
        if figure is not None:
            gate = (
                "over a round, its feedback in orange, by whether the answer was rewarded"
                if task == "reversal"
                else "over the trial"
            )
            document.figure(
                f"trace_{task}",
                figure,
                f"{task}, {ANALYSED[task]}, one line per seed, noise-free: size of the fast and of the fixed weights "
                f"over a trial, and the modulator {gate}. Grey: questions.",
            )


def _grid(document: Document, frame: pd.DataFrame, cells: list[Result]) -> None:
    document.heading("All rules and modulations")
    for label, level in SHOWN.items():
        rows = []
        for name in PLASTIC_NETWORKS:
            chosen = {task: at_level(select(frame, task, name), level) for task in figures.tasks_of(frame)}
            if any(len(one) for one in chosen.values()):
                cell = {
                    task: f"{one.accuracy.mean():.3f} ({len(one)})" if len(one) else "–"  # noqa: RUF001
                    for task, one in chosen.items()
                }
                rows.append({"network": name, **cell})
        document.table(rows, caption=f"Mean accuracy, {label} (number of seeds).")


def _costs(document: Document, frame: pd.DataFrame, cells: list[Result]) -> None:
    wall, cpu = (sum(cell[name] for cell in cells) / 3600 for name in ("seconds", "cpu_seconds"))
    document.heading("Cost")
    document.paragraph(
        f"{len(cells)} cells took {wall:.2f} hours of wall time, summed over processes, and {cpu:.2f} hours of "
        f"computing time: {cpu / 2:.2f} hours on two free cores."
    )
