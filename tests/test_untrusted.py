"""Models that attack whoever opens them: every place of a model's files that could run code, against every command."""

import base64
import contextlib
import json
import os
import pickle
import pkgutil
import shutil
import sys
import time
import zipfile
from io import BytesIO
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch
import yaml
from evaluation_helpers import write_results

from sb3_plastic.cli import main

RUN = Path(__file__).parent.parent / "docs" / "results" / "learning" / "agents" / "plastic_ppo" / "HalfCheetah-v5_1"
NAME = "HalfCheetah-v5"


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def rewrite(run, change):
    """Replace files of the model by what ``change`` returns: name -> content."""
    path = run / f"{NAME}.zip"
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files |= change(files)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def in_data(entry):
    def arm(run, marker):
        content = cloudpickle.dumps(Attack(marker))

        def change(files):
            data = json.loads(files["data"])
            old = data.get(entry)
            described = {key: v for key, v in old.items() if key != ":serialized:"} if isinstance(old, dict) else {}
            data[entry] = {**described, ":type:": "x", ":serialized:": base64.b64encode(content).decode()}
            return {"data": json.dumps(data)}

        rewrite(run, change)
        return lambda: cloudpickle.loads(content)

    return arm


def in_tensors(name):
    def arm(run, marker):
        buffer = BytesIO()
        torch.save({"log_std": Attack(marker)}, buffer)
        rewrite(run, lambda files: {name: buffer.getvalue()})
        return lambda: torch.load(BytesIO(buffer.getvalue()), weights_only=False)

    return arm


def in_statistics(run, marker):
    content = pickle.dumps(Attack(marker))
    (run / NAME / "vecnormalize.pkl").write_bytes(content)
    return lambda: pickle.loads(content)


def in_yaml(name):
    def arm(run, marker):
        text = f"env: {NAME}\nn_envs: !!python/object/apply:os.mkdir ['{marker}']\n"
        (run / NAME / name).write_text(text)
        return lambda: yaml.unsafe_load(text)

    return arm


def in_string(name):
    def arm(run, marker):
        code = f"__import__('os').mkdir({str(marker)!r})"
        (run / NAME / "config.yml").write_text(yaml.safe_dump({name: code}))
        return lambda: eval(code)

    return arm


def in_wrapper(name):
    def arm(run, marker):
        (run / NAME / "config.yml").write_text(yaml.safe_dump({name: {"pydoc.pipepager": {"cmd": f"mkdir {marker}"}}}))
        return lambda: pkgutil.resolve_name("pydoc.pipepager")("", cmd=f"mkdir {marker}")

    return arm


def in_environment(run, marker):
    """``module:Env-v0`` has gymnasium import the module: here one that lies beside the model."""
    (run / "attacking_module.py").write_text(f"import os\nos.mkdir({str(marker)!r})\n")
    (run / NAME / "args.yml").write_text("env: attacking_module:HalfCheetah-v5\n")
    sys.path.insert(0, str(run))

    def proof():
        try:
            __import__("attacking_module")
        finally:
            sys.path.remove(str(run))
            sys.modules.pop("attacking_module", None)

    return proof


PAYLOADS = {
    "policy class": in_data("policy_class"),
    "observation space": in_data("observation_space"),
    "arguments of the policy": in_data("policy_kwargs"),
    "learning rate": in_data("learning_rate"),
    "clip range": in_data("clip_range"),
    "last observation": in_data("_last_obs"),
    "an unknown entry": in_data("extra"),
    "policy.pth": in_tensors("policy.pth"),
    "pytorch_variables.pth": in_tensors("pytorch_variables.pth"),
    "vecnormalize.pkl": in_statistics,
    "args.yml": in_yaml("args.yml"),
    "config.yml": in_yaml("config.yml"),
    "normalize": in_string("normalize"),
    "env_kwargs": in_string("env_kwargs"),
    "env_wrapper": in_wrapper("env_wrapper"),
    "vec_env_wrapper": in_wrapper("vec_env_wrapper"),
    "environment": in_environment,
}
"""Places in a model's files -> how to arm them. Each returns how a trusting reader would set the attack off."""

HARMLESS = {"learning rate", "clip range", "last observation", "normalize"}
"""What our commands never look at, so that the model itself can be used."""

VALUES = {"args.yml", "config.yml", "env_kwargs"}
"""What trust would not help: no more than data is read there."""

SMALL = [
    "--tier",
    "smoke",
    "--episodes",
    "1",
    "--steps",
    "5",
    "--protocols",
    "static",
    "--controls",
    "intact",
    "--no-progress",
]
COMMANDS = {
    "evaluate": lambda run, out: ["evaluate", "--model", run, "--out", out, *SMALL],
    "report": lambda run, out: ["report", run, "--out", out],
    "inspect": lambda run, out: ["inspect", run],
    "export": lambda run, out: ["export", run, "--to", out],
    "adapt": lambda run, out: ["adapt", "--model", run, "--out", out, "--no-progress"],
}


@pytest.fixture
def armed(tmp_path, request):
    """A run of RL Zoo with an attack in it, the folder that the attack makes, and how to set it off."""
    run, marker = tmp_path / "run", tmp_path / "attacked"
    shutil.copytree(RUN, run)
    proof = PAYLOADS[request.param](run, marker)
    yield run, marker, proof
    if str(run) in sys.path:
        sys.path.remove(str(run))
    sys.modules.pop("attacking_module", None)


def call(arguments):
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize("armed", PAYLOADS, indirect=True)
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_runs_what_a_file_holds(armed, command, tmp_path, capsys, request):
    run, marker, proof = armed
    if command == "adapt" and request.node.callspec.params["armed"] in HARMLESS:
        pytest.skip("it would fit a layer, which takes minutes")
    code = call(COMMANDS[command](run, tmp_path / "out"))
    assert not marker.exists()
    printed = capsys.readouterr()
    payload = request.node.callspec.params["armed"]
    if command == "inspect":
        assert code == 0
        assert ("ASKS TO RUN CODE" in printed.out) == (payload not in HARMLESS - {"normalize"} | UNSEEN)
    elif command == "report" or payload not in HARMLESS:
        assert code == 2
        if command != "report":
            assert ("Write its value there" if payload in VALUES else "--trust") in printed.err
    else:
        assert code == 0
    proof()
    assert marker.exists()  # the attack is one: whoever trusts it is attacked


UNSEEN = {"pytorch_variables.pth"}
"""What `inspect` does not open."""


TRUSTED = [
    *(("evaluate", payload) for payload in ("policy class", "an unknown entry", "vecnormalize.pkl", "env_wrapper")),
    *(("export", payload) for payload in ("policy class", "an unknown entry", "vecnormalize.pkl")),
]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("command", "armed"), TRUSTED, indirect=["armed"])
def test_with_trust_it_runs(command, armed, tmp_path, capsys):
    run, marker, _ = armed
    with contextlib.suppress(Exception):  # whatever comes of a model of which a part was replaced
        call([*COMMANDS[command](run, tmp_path / "out"), "--trust"])
    for _ in range(6000):  # the wrapper's attack is a process of its own, which nobody waits for
        if marker.exists():
            break
        time.sleep(0.01)
    assert marker.exists()


def test_traces_with_pickled_objects_are_not_loaded(tmp_path, capsys):
    folder = write_results(tmp_path / "results")
    trace = next((folder / "traces").glob("*.npz"))
    with np.load(trace) as file:
        arrays = dict(file)
    marker = tmp_path / "attacked"
    arrays["values"] = np.array([Attack(marker)], dtype=object)
    np.savez(trace, **arrays)
    with contextlib.suppress(ValueError):
        call(["report", folder, "--out", tmp_path / "report"])
    assert not marker.exists()
    with np.load(trace, allow_pickle=True) as file:
        file["values"]
    assert marker.exists()


OTHERS = {
    "enjoy": lambda run, out: ["enjoy", "--model", run, "--no-render", "--episodes", "1"],
    "convert": lambda run, out: ["convert", run, "--format", "onnx", "--to", out / "m.onnx", "--check", "1"],
    "package": lambda run, out: ["package", run, "--to", out, "--episodes", "1", "--no-video"],
    "record": lambda run, out: ["record", "--model", run, "--output", out / "m.png", "--steps", "1"],
    "distill": lambda run, out: ["distill", "--model", run, "--out", out, "--no-progress"],
}


@pytest.mark.parametrize("armed", ["policy class", "vecnormalize.pkl", "env_wrapper", "environment"], indirect=True)
@pytest.mark.parametrize("command", OTHERS)
def test_no_other_command_runs_what_a_file_holds(armed, command, tmp_path, capsys, request):
    run, marker, proof = armed
    assert call(OTHERS[command](run, tmp_path / "out")) == 2
    assert not marker.exists()
    payload = request.node.callspec.params["armed"]
    assert ("Write its value there" if payload in VALUES else "--trust") in capsys.readouterr().err
    proof()
    assert marker.exists()


@pytest.mark.parametrize("armed", ["policy class", "learning rate", "an unknown entry"], indirect=True)
def test_the_study_of_severity_runs_nothing(armed):
    run, marker, _ = armed
    command = ["study", "severity", "--robot", "HalfCheetah", "--models", run / f"{NAME}.zip"]
    with contextlib.suppress(Exception):
        call([*command, "--episodes", "1", "--steps", "2"])
    assert not marker.exists()
