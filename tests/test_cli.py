"""The command itself: its help, its errors, and what it prepares."""

import os
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import torch
from command_line import answer
from zoo_commands import ENV, ROOT, run, zoo

from sb3_plastic import PlasticPPO, cli, files
from sb3_plastic.answers import is_users
from sb3_plastic.errors import UserError
from sb3_plastic.extensions import VARIABLE
from sb3_plastic.snn.rules import RULES


@pytest.mark.parametrize(
    ("command", "argument"),
    [
        *((name, "--env-kwargs") for name in ("train", "enjoy", "record", "tune")),
        *(
            ("plot", "figure"),
            ("plot train", "--episode-window"),
            ("plot all", "--no-million"),
            ("plot file", "--boxplot"),
            ("perturbations render", "--model"),
        ),
        ("enjoy --model m.zip", "--stochastic"),
        *(
            ("evaluate", "--normalization"),
            ("report", "--baseline"),
            ("perturbations", "render"),
            ("study", "temporal"),
        ),
        *(("export", "--out"), ("inspect", "model")),
    ],
)
def test_help_says_what_a_command_does_with_examples_and_arguments(command, argument):
    output = answer([*command.split(), "--help"])
    command = command.split(" --")[0]
    assert f"usage: sb3-plastic {command}" in output
    assert argument in output
    assert re.search(rf"^ *sb3-plastic {command} \S", output, re.MULTILINE)  # examples
    assert "usage: Gather" not in output


@pytest.mark.parametrize(
    ("option", "commands"),
    {
        "--model": ["adapt", "distill", "evaluate", "export", "package", "convert", "inspect"],
        "--out": ["adapt", "distill", "evaluate", "export", "package", "convert", "record", "report", "study learning"],
        "--normalization": ["adapt", "distill", "evaluate", "export", "package", "convert", "record"],
        "--episode-steps": ["adapt", "distill", "evaluate"],
        "--no-progress": [
            "adapt",
            "distill",
            "evaluate",
            "package",
            "report",
            "record --perturb x",
            "perturbations render",
        ],
        "--n-jobs": ["tune", "study learning"],
    }.items(),
)
def test_what_commands_share_has_one_name_in_all_of_them(option, commands):
    assert [command for command in commands if f" {option}" not in answer([*command.split(), "--help"])] == []


def test_command_names_its_commands_and_version(tmp_path):
    import sb3_plastic
    from sb3_plastic.cli import COMMANDS

    output = answer(["--help"])
    assert {"train", "enjoy", "record", "plot", "tune"} <= {*COMMANDS}
    assert all(f"  {name} " in output for name in COMMANDS)
    assert zoo("--version", cwd=tmp_path) == f"sb3_plastic {sb3_plastic.__version__}\n"
    module = [sys.executable, "-m", "sb3_plastic"]
    assert run([*module, "--version"], tmp_path) == f"sb3_plastic {sb3_plastic.__version__}\n"
    assert "invalid choice: 'trian'" in answer(["trian"], code=2)


@pytest.mark.parametrize(
    "words", [["--help"], ["trian"], ["perturbations", "list"], ["report", "--help"], ["evaluate", "--help"]]
)
def test_a_command_that_needs_no_torch_does_not_wait_for_it(words, tmp_path):
    code = f"""
import atexit, sys
from sb3_plastic.cli import main
atexit.register(lambda: print("loaded:", {{"torch", "stable_baselines3"}} & {{*sys.modules}}))
main({words})
"""
    output = run([sys.executable, "-c", code], tmp_path, code=2 * (words == ["trian"]))
    assert output.endswith("loaded: set()\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--env", "HalfCheeta-v5"], "you maybe meant HalfCheetah-v5?"),
        (["train", "--env", "CartPole-v1", "-params", "policy_kwargs:dict(rule=none)"], "a string needs quotes"),
        (["train", "--env", "CartPole-v1", "-params", "n_steps=64"], "NAME:VALUE"),
        (["train", "--env", "CartPole-v1", "-params", "learning_rat:0.1"], "Did you mean 'learning_rate'?"),
        (["train", "--env", "CartPole-v1", "--gym-packages", "my_robot"], "from the folders of PYTHONPATH"),
        (["train", "--env", "CartPole-v1", "-params", "env_wrapper:'my_robot.Wrapper'"], "module named 'my_robot'"),
        (["train", "--env", "CartPole-v1", "-params", "env_wrapper:'Wrapper'"], "(as module.Class)"),
        (["train", "--env", "CartPole-v1", "-params", "callback:'json.Callback'"], "has no attribute 'Callback'"),
        (["train", "--env", "CartPole-v1", "-i", "missing.zip"], "must be a valid path to a .zip file"),
        (["train", "--env", "CartPole-v1", "-conf", "missing.yml"], "No such file or directory: missing.yml"),
        (["enjoy", "--env", ENV, "--no-render"], "There are no models in logs: train one with `sb3-plastic train`"),
        (["enjoy", "--env", ENV], "There is no display: add --no-render"),
        (["plot", "train", "-e", ENV], "There are no models in logs"),
    ],
)
def test_errors_teach(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for display in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(display, raising=False)
    output = answer(arguments, code=2)
    assert message in output
    assert f"sb3-plastic {arguments[0]}: error: " in output
    assert "Traceback" not in output


@pytest.mark.parametrize("before", [True, False])
def test_a_command_imports_the_module_that_adds_what_a_model_names(before, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.syspath_prepend(tmp_path)
    name = f"rules_{before}"
    Path(f"{name}.py").write_text(f"from sb3_plastic.snn.rules import RULES\nRULES['{name}'] = RULES['oja']\n")
    monkeypatch.setitem(RULES, name, RULES["oja"])
    network = dict(net_arch=[4], rule=name)
    PlasticPPO("PlasticPolicy", "CartPole-v1", n_steps=32, policy_kwargs=network).save("m.zip")
    monkeypatch.delitem(RULES, name)

    export, module = ["export", "m.zip", "--to", "exported"], ["--import", name]
    assert "name the module that adds it: --import MODULE" in answer(export, code=2)
    answer([*module, *export] if before else [*export, *module])
    assert Path("exported/config.json").is_file()
    assert "No module named 'nothing'" in answer(["--import", "nothing", "inspect", "m.zip"], code=2)


def test_a_run_that_rl_zoo_does_not_find_again_is_named_by_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Path("my logs") / "plastic_ppo" / f"{ENV}_1_{uuid.uuid4()}"  # of `train --uuid`
    run.mkdir(parents=True)
    (run / f"{ENV}.zip").touch()
    output = answer(["enjoy", "--env", ENV, "-f", "my logs", "--no-render"], code=2)
    assert f"Models in my logs:\n  --model '{run}'" in output


def test_a_name_that_the_package_itself_lacks_is_no_mistake_of_the_user():
    code = compile("from sb3_plastic.files import nothing", files.__file__, "exec")
    with pytest.raises(ImportError) as caught:
        exec(code)
    assert not is_users(caught.value)


def test_a_wrong_argument_of_the_policy_is_answered(tmp_path):
    policy = ["-params", "policy_kwargs:dict(rule='ojo')"]
    output = zoo("train", "--env", "CartPole-v1", *policy, cwd=tmp_path, code=2)
    assert "'oja'" in output
    assert "Traceback" not in output
    with pytest.raises(UserError, match="got 'yes'"):
        PlasticPPO("PlasticPolicy", "CartPole-v1", policy_kwargs=dict(adaptive="yes"))


def test_a_command_whose_output_nobody_reads_ends_without_a_word(tmp_path):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "sb3_plastic.cli", "perturbations", "list"]
    result = subprocess.run(command, cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (result.returncode, result.stderr) == (128 + signal.SIGPIPE, "")


def test_missing_rl_zoo_names_the_extra(tmp_path):
    code = "import sys; sys.modules['rl_zoo3'] = None; from sb3_plastic.cli import main; sys.exit(main(['train']))"
    output = run([sys.executable, "-c", code], tmp_path, code=2)
    assert 'pip install "sb3_plastic[zoo]"' in output
    assert "Traceback" not in output


@pytest.mark.parametrize(("environ", "expected"), [({}, 1), ({"OMP_NUM_THREADS": "2"}, 2)])
def test_one_torch_thread_unless_told_otherwise(environ, expected, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        cli.prepare()
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)


# The quickstart


@pytest.mark.slow
def test_quickstart_is_quick_the_second_time(tmp_path):
    command = [sys.executable, ROOT / "scripts" / "quickstart.py", "--steps", "2048"]
    first = run(command, tmp_path)
    assert first.count("$ sb3-plastic train") == 2
    second = run(command, tmp_path)
    assert "$ sb3-plastic train" not in second
    rows = re.findall(r"(plastic|static) +(?:│ +-?\d+ \(\d+\) ){3}", second)
    assert rows == ["plastic", "static"]
    assert second in first  # the same table again


def test_an_interrupted_command_ends_as_the_shell_expects(monkeypatch):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr("sb3_plastic.report.cli.main", interrupted)
    assert cli.main(["report", "x"]) == 128 + signal.SIGINT


def test_each_of_several_figures_has_a_file_of_its_own(tmp_path):
    from matplotlib import pyplot as plt

    for height in (1, 2):
        plt.figure(figsize=(1, height), dpi=50).gca().plot([0, 1])
    cli.save_figures(tmp_path / "curve.png")
    assert [plt.imread(tmp_path / name).shape[:2] for name in ("curve.png", "curve-2.png")] == [(50, 50), (100, 50)]
    assert plt.get_fignums() == []


def test_a_suffix_in_capitals_is_one(monkeypatch):
    for name in ("call", "save_figures"):
        monkeypatch.setattr(cli, name, lambda *arguments: None)
    assert "--save takes a file" not in answer(["plot", "file", "-i", "x", "--save", "X.PNG"])


def test_what_rl_zoo_takes_for_itself_is_no_wrong_hyperparameter():
    from sb3_plastic.zoo import check_names

    schedule = ["n_timesteps", "n_envs", "callback", "noise_type", "noise_std"]
    environment = ["normalize", "frame_stack", "env_wrapper", "vec_env_wrapper", "env_kwargs", "monitor_kwargs"]
    check_names("plastic_ppo", dict.fromkeys([*schedule, *environment]))


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("n_ticks", "'n_ticks' is an argument of the policy of plastic_ppo: policy_kwargs:dict(n_ticks=...)"),
        ("net_arch", "'net_arch' is an argument of the policy of plastic_ppo"),
        ("n_epoch", "Unknown hyperparameter of plastic_ppo 'n_epoch'. Did you mean 'n_epochs'"),
    ],
)
def test_a_wrong_hyperparameter_is_answered_with_where_it_belongs(name, answer):
    from sb3_plastic.zoo import check_names

    with pytest.raises(UserError, match=re.escape(answer)):
        check_names("plastic_ppo", {name: 1})
