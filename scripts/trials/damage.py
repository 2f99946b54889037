"""Files of every kind with a bit flipped, a part missing, twice or empty: found out, or without effect."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from typing import Any

import torch

from sb3_plastic import load_policy
from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.loading import load_model
from sb3_plastic.evaluation.reading import load_trace
from sb3_plastic.report import read_results
from trials.damaging import DAMAGES, damaged
from trials.jobs import CHEETAH, Job
from trials.journal import Details, Journal
from trials.processes import complete


def digest(tensors: Any) -> str:
    """Of a policy's numbers. :param tensors: by name"""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(name.encode() + tensor.detach().numpy().tobytes())
    return found.hexdigest()


def model(folder: Path) -> str:
    """What is read of a zip. :param folder: with it"""
    return digest(load_model(folder / "HalfCheetah-v5.zip")[0].policy.state_dict())


def export(folder: Path) -> str:
    """What is read of an export. :param folder: the export"""
    policy = load_policy(folder)
    return digest(policy.policy.state_dict()) + repr(policy.normalization)


def trace(folder: Path) -> str:
    """What is read of the traces. :param folder: results of an evaluation"""
    return repr([tuple(map(repr, load_trace(path))) for path in sorted(folder.glob("traces/*.npz"))])


def results(folder: Path) -> str:
    """What a report reads of an evaluation. :param folder: of its results"""
    found = read_results([folder])
    shown = [{part: one.get(part) for part in ("settings", "versions", "commit")} for one in found.summaries.values()]
    return found.records.drop(columns="folder").to_csv() + repr(shown)


def damages(journal: Journal, jobs: dict[str, Job], work: Path, seed: int, wanted: int) -> None:
    """
    Damage files, and read them.

    :param journal: for the trials
    :param jobs: of the campaign, two of which make the files
    :param work: scratch
    :param seed: of the damages
    :param wanted: damaged files of each kind
    """
    torch.set_grad_enabled(False)
    made = {name: work / f"{name}_to_damage" for name in ("export", "evaluate")}
    for name, folder in made.items():
        complete(jobs[name].command(folder), work / f"{name}.log")  # goes on, if it was stopped
    kinds: dict[str, tuple[Path, str, Callable[[Path], str]]] = {
        "model zip": (CHEETAH, "HalfCheetah-v5.zip", model),
        "export, config.json": (made["export"], "config.json", export),
        "export, policy.safetensors": (made["export"], "policy.safetensors", export),
        "trace": (made["evaluate"], "traces/static__nda-v1-id__intact.npz", trace),
        "records.csv": (made["evaluate"], "records.csv", results),
        "summary.json": (made["evaluate"], "summary.json", results),
    }
    for kind, (source, name, read) in kinds.items():
        expected = read(source)

        def trial(
            index: int,
            kind: str = kind,
            source: Path = source,
            name: str = name,
            read: Callable[[Path], str] = read,
            expected: str = expected,
        ) -> tuple[bool, int, Details]:
            copy = work / "damaged"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(source, copy)
            random = Random(f"{seed} {kind} {index}")
            how, where, size = random.choice(DAMAGES), random.random(), random.randrange(1, 64)
            content = damaged((source / name).read_bytes(), how, where, size)
            (copy / name).write_bytes(content)
            if content == (source / name).read_bytes():
                return True, 0, {}
            try:
                with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                    same = read(copy) == expected
            except UserError as error:
                return True, 1, {"found out": str(error).replace(str(work), "")[:200]}
            except Exception as error:
                return False, 1, {"wrong": repr(error)[:500]}
            return same, 1, {"found out": None, "wrong": "" if same else "read as something else"}

        journal.run(f"damaged {kind}", wanted, trial)
