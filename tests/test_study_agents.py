"""The studies of trained agents: who is judged, what a speed is, and that a study runs from agent to figure."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from envs import RandomEnv, WholeEnds
from evaluation_helpers import episode, make_trace
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv
from toy_robots import policy

from sb3_plastic import PlasticPPO
from sb3_plastic.adaptive import AdaptivePolicy
from sb3_plastic.adaptive.layer import AdaptiveLayer
from sb3_plastic.errors import UserError
from sb3_plastic.evaluation import evaluate_adaptation
from sb3_plastic.evaluation.environment import TrainedIn
from sb3_plastic.evaluation.low_pass import LowPass
from sb3_plastic.evaluation.measures import TAIL
from sb3_plastic.evaluation.records import Cell
from sb3_plastic.evaluation.scores import chosen
from sb3_plastic.export import export_policy
from sb3_plastic.perturbations import env_id, register_envs
from sb3_plastic.studies.agents import ARMS, Agent, read_agents
from sb3_plastic.studies.cli import main
from sb3_plastic.studies.layers import Fit, check_fitted, layer_of
from sb3_plastic.studies.results import keep, read_results
from sb3_plastic.studies.trial_figures import onset_figure, robustness_figure
from sb3_plastic.studies.trial_report import beside_the_others
from sb3_plastic.studies.trial_scores import by_seed, difference, frame_of, over_seeds
from sb3_plastic.studies.trials import CLOSE, CLOSE_BIN, SHOWN, Trial, _Watcher, curves_of, scenarios_of, scores_of

RESULTS = Path(__file__).parents[1] / "docs" / "results"

PUBLISHED = Path(__file__).parents[1] / "docs" / "results"
ANOTHER = PUBLISHED / "learning/agents/exported/HalfCheetah-v5-seed0"
LAYER = PUBLISHED / "adaptive" / "HalfCheetah-v5"

BOX = spaces.Box(-1, 1, (2,), np.float32)
WIRES = "nda-v2/novel/wires_signed/onset"


def agent(folder, seed=0):
    register_envs()
    model = PPO("MlpPolicy", env_id("HalfCheetah", latent=True), n_steps=64, seed=seed, device="cpu")
    zoo = folder / "HalfCheetah"
    zoo.mkdir(parents=True)
    (zoo / "args.yml").write_text(f"env: {env_id('HalfCheetah', latent=True)}")
    model.save(folder / "HalfCheetah.zip")
    return folder


@pytest.mark.parametrize(
    ("model", "steps", "message"),
    [
        (ANOTHER, 400_000, "around another agent"),
        (LAYER / "agent", 300_000, "around this agent, fitted on 400032 steps"),
        (LAYER / "agent", 400_000, "with the hypotheses nominal, motors, motors_and_bias, motors_and_disturbance"),
    ],
)
def test_a_layer_that_another_run_left_is_refused(model, steps, message, tmp_path):
    fit = Fit("HalfCheetah", "plastic", 0, 0, steps)
    (tmp_path / "HalfCheetah-plastic-seed0-layer0").symlink_to(LAYER)
    with pytest.raises(UserError, match=message):
        check_fitted(fit, [Agent("plastic", "HalfCheetah", 0, model, {})], tmp_path)


def result(arm, layer_seed=None, nominal=1000.0, kept=0.5, agent_seed=0, **more):
    where = dict(split="novel", scenario=WIRES, control="intact", protocol="onset")
    scores = [
        dict(split="nominal", scenario="nda-v2/nominal", control="intact", protocol="static")
        | dict(relative=1.0, forward_reward=nominal, survived=1.0, episodes=4),
        where | dict(kept=kept, relative=0.7, forward_reward=600.0, survived=1.0, episodes=4),
    ]
    named = dict(robot="HalfCheetah", agent="plastic", agent_seed=agent_seed, layer_seed=layer_seed, arm=arm)
    return {**named, "suite": "nda-v2", "scores": scores, "curves": {WIRES: np.ones((3, 24)).tolist()}, **more}


def test_the_figure_counts_the_trials_that_the_tables_count():
    """Not a first try with few episodes, or a layer of few steps, in the same folder."""

    def tried(arm, speed, episodes=16, steps=400_000, **more):
        about = dict(episodes=episodes, steps=steps, curves={WIRES: np.full((3, 24), speed).tolist()})
        return result(arm, **(about | more))

    trials = [tried("adaptive", 0.0, 32, 2000, layer_seed=0), tried("adaptive", 0.0, 1, layer_seed=0)]
    trials += [tried("adaptive", 5.0, layer_seed=0), tried("adaptive", 7.0, layer_seed=1)]
    trials += [tried("frozen", 3.0, steps=2000), tried("frozen", 0.0, 1)]  # whose steps are those of other arms
    lines = {line.get_label(): line.get_ydata()[0] for line in onset_figure(trials).axes[0].get_lines()}
    assert (lines["adaptive"], lines["frozen"]) == (6.0, 3.0)


def test_an_agent_without_curves_has_no_figure_of_those_who_stand_beside_it():
    beside = result("MLP, trained on reversed motors")
    assert onset_figure([{**result("frozen"), "curves": {}}, beside]) is None
    assert onset_figure([result("frozen"), beside]) is not None


def test_an_agent_is_a_label_and_its_folders(tmp_path):
    folders = [agent(tmp_path / str(seed), seed) for seed in (0, 1)]
    found = read_agents([f"MLP={folders[0]},{folders[1]}"])
    assert [(a.label, a.robot, a.seed, a.layers) for a in found] == [
        ("MLP", "HalfCheetah", seed, {}) for seed in (0, 1)
    ]
    with pytest.raises(UserError, match="name two labels"):
        read_agents([f"MLP={folders[0]},{agent(tmp_path / 'again')}"])
    with pytest.raises(UserError, match="LABEL=FOLDER"):
        read_agents([str(folders[0])])
    with pytest.raises(UserError, match="'told' is the name of an arm"):
        read_agents([f"told={folders[0]}"])


def test_a_layer_goes_with_the_agent_that_it_was_fitted_to():
    exported = RESULTS / "learning/agents/exported/HalfCheetah-v5-seed0"
    layer = RESULTS / "adaptive/HalfCheetah-v5"  # around another agent of seed 0
    (found,) = read_agents([f"a={layer / 'agent'},{layer}"])
    assert [*found.layers.values()] == [layer]
    with pytest.raises(UserError, match="are both 'a' of seed 0: name two labels"):
        read_agents([f"a={exported},{layer}"])
    with pytest.raises(UserError, match="are both layers of seed 0 around 'a' of seed 0: name two labels"):
        read_agents([f"a={layer},{layer}"])


def test_an_arm_changes_of_a_layer_what_it_names_alone(tmp_path, monkeypatch):
    policy = AdaptivePolicy.load(LAYER)
    settings = dataclasses.replace(policy.layer.settings, probing=0.25, lead=3.0, always="wires")
    policy.layer = AdaptiveLayer(policy.layer.model, settings)
    policy.save(tmp_path / "layer")
    monkeypatch.setattr(AdaptivePolicy, "with_settings", lambda self, settings, env: settings)
    found = layer_of(tmp_path / "layer", ARMS["motors"], TrainedIn("Pendulum-v1"))
    assert found == dataclasses.replace(settings, hypotheses=("motors",), always=None)


def test_an_arm_in_which_nothing_would_be_judged_is_refused_before_a_layer_is_fitted(tmp_path):
    arguments = ["--agents", f"a={agent(tmp_path / 'a')}", "--out", str(tmp_path / "out"), "--suites", "faults"]
    with pytest.raises(UserError, match="Nothing is judged in the arm adaptive"):
        main(["adaptation", *arguments, "--arms", "frozen", "adaptive"])


def with_a_layer_inside(folder, epochs, steps):
    register_envs()
    env = make_vec_env(env_id("HalfCheetah", latent=True), 2, seed=0)
    layer = dict(net_arch=[16], hypotheses=["sensor_bias"], epochs=epochs, batch_size=64)
    options = dict(net_arch=[8], adaptive=layer)
    model = PlasticPPO("PlasticPolicy", env, n_steps=256, batch_size=256, n_epochs=1, seed=3, policy_kwargs=options)
    model.learn(steps)
    (folder / "HalfCheetah").mkdir(parents=True)
    (folder / "HalfCheetah" / "args.yml").write_text(f"env: {env_id('HalfCheetah', latent=True)}")
    model.save(folder / "HalfCheetah.zip")
    return folder


def test_a_layer_inside_the_policy_is_judged_as_it_was_trained(tmp_path, capsys):
    run = with_a_layer_inside(tmp_path / "run", epochs=40, steps=2048)
    scenarios = ["nominal", "novel/sensors_far_off/onset"]
    arguments = ["--agents", f"inside={run}", "--out", str(tmp_path / "out"), "--episodes", "1"]
    main(["adaptation", *arguments, "--scenarios", *scenarios])  # fits no layer, and has no rivals
    results = {result["arm"]: result for result in read_results(tmp_path / "out").values()}
    seeds = {arm: result["layer_seed"] for arm, result in results.items()}
    assert seeds == {"frozen": None, "adaptive": 3, "told": None}
    assert "| frozen | adaptive | adaptive - frozen | told |" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"inside has its layer inside, around which no other.*\(lms\)"):
        main(["adaptation", *arguments, "--arms", "lms"])
    settings = dict(suite="nda-v2", controls=("intact", "layer_off"), protocols=("onset",), seed=20_000, episodes=1)
    records = evaluate_adaptation(run, scenarios=scenarios[1:], **settings).records
    shown = records[records["split"] == "novel"].set_index("control")["forward_reward"]
    assert shown["intact"] != pytest.approx(shown["layer_off"], abs=0.01)
    for arm, control in (("adaptive", "intact"), ("frozen", "layer_off")):
        (row,) = (row for row in results[arm]["scores"] if (row["split"], row["control"]) == ("novel", "intact"))
        assert row["forward_reward"] == pytest.approx(shown[control], abs=1e-3)
    about = {"env_id": env_id("HalfCheetah", latent=True)}
    export_policy(PlasticPPO.load(run / "HalfCheetah.zip").policy, tmp_path / "exported", training=about)
    with pytest.raises(UserError, match="name the run that it was exported from"):
        read_agents([f"inside={tmp_path / 'exported'}"])


@pytest.mark.filterwarnings("ignore:The forward model predicts no component")
def test_a_policy_without_the_layer_that_it_was_trained_with_is_refused(tmp_path):
    run = with_a_layer_inside(tmp_path / "run", epochs=1, steps=512)
    arguments = ["--agents", f"inside={run}", "--out", str(tmp_path / "out"), "--episodes", "1", "--arms", "frozen"]
    with pytest.raises(UserError, match="but has no layer"):
        main(["adaptation", *arguments, "--scenarios", "nominal"])


def test_a_layer_that_was_fitted_to_something_else_is_refused(tmp_path):
    one, other = (agent(tmp_path / name) for name in ("one", "other"))
    model = PPO.load(other / "HalfCheetah.zip")
    model.policy.load_from_vector(2 * model.policy.parameters_to_vector())
    model.save(other / "HalfCheetah.zip")
    arguments = ["--logs", str(tmp_path / "logs"), "--seeds", "0", "--arms", "adaptive", "--episodes", "1"]

    def judge(folder, steps, out):
        asked = ["--agents", f"a={folder}", "--steps", steps, "--out", str(tmp_path / out), "--scenarios", "nominal"]
        main(["adaptation", *asked, *arguments])

    judge(one, "2400", "out")
    assert any("layer0_of_2400" in result["cell"] for result in read_results(tmp_path / "out").values())
    judge(one, "2400", "out")  # again
    for folder, steps in ((one, "4800"), (other, "2400")):
        with pytest.raises(UserError, match=f"than a of seed 0 with --steps {steps} asks for"):
            judge(folder, steps, "refused")
    (layer,) = (tmp_path / "logs").glob("*-layer0")
    judge(layer, "2400", "out")  # the same, named
    policy = AdaptivePolicy.load(layer)
    policy.layer.model.mean.add_(1)
    policy.save(tmp_path / "another")
    with pytest.raises(UserError, match="a of seed 0 is in the results already with another layer of seed 0 than "):
        judge(tmp_path / "another", "2400", "out")


def test_a_tier_is_run_on_any_robot():
    cell = Trial("Hopper", "a", 0, None, "frozen", "nda-v2", "quick", 2, 0)
    names = {scenario.name for scenario in scenarios_of(cell)}
    assert set(SHOWN) < names
    assert all(name.endswith(("/nominal", "/onset")) for name in names)


def test_chosen_scenarios_name_a_cell_and_leave_the_names_of_others_alone():
    cell = Trial("Hopper", "a", 0, None, "frozen", "nda-v2", "quick", 2, 0)
    assert cell.name == "Hopper-a-seed0-frozen-nda_v2-quick-2_from_0"
    some, others = (
        dataclasses.replace(cell, scenarios=("nominal", name)) for name in ("novel/wires*", "novel/wires/*")
    )
    assert {scenario.name for scenario in scenarios_of(some)} > {WIRES, "nda-v2/nominal"}
    assert len({cell.name, some.name, others.name}) == 3
    assert dataclasses.replace(some, scenarios=some.scenarios[::-1]).name == some.name


def test_a_study_judges_the_scenarios_that_it_is_told(tmp_path, capsys):
    arguments = ["--agents", f"MLP={agent(tmp_path / 'agent')}", "--out", str(tmp_path / "out"), "--episodes", "1"]
    arguments += ["--arms", "frozen"]
    with pytest.raises(
        UserError, match=r"scenario of nda-v1, noise-v1, faults for HalfCheetah: 'novel/wings'.*motor_off"
    ):
        main(["robustness", *arguments, "--scenarios", "nominal", "novel/wings"])
    with pytest.raises(UserError, match="name `nominal` in --scenarios"):
        main(["robustness", *arguments, "--scenarios", "novel/motor_off"])
    assert not (tmp_path / "out").exists()
    main(["robustness", *arguments, "--scenarios", "nominal", "novel/motor_*/onset"])
    results = read_results(tmp_path / "out")
    told = {result["suite"]: [row["scenario"] for row in result["scores"]] for result in results.values()}
    assert told == {"nda-v1": ["nda-v1/nominal", "nda-v1/novel/motor_off/onset"], "noise-v1": ["noise-v1/nominal"]}
    chosen = {result["suite"]: result["scenarios"] for result in results.values()}
    assert chosen == {"nda-v1": ["nominal", "novel/motor_*/onset"], "noise-v1": ["nominal"]}
    assert "| novel/motor_off |" in capsys.readouterr().out
    main(["robustness", *arguments, "--scenarios", "nominal", "novel/motor_*/onset"])  # all is there
    other = agent(tmp_path / "other")
    arguments[1] = f"MLP={other}"
    main(["robustness", *arguments, "--scenarios", "nominal", "novel/motor_*/onset"])  # the same, saved again
    model = PPO.load(other / "HalfCheetah.zip")
    model.policy.load_from_vector(2 * model.policy.parameters_to_vector())
    model.save(other / "HalfCheetah.zip")
    with pytest.raises(UserError, match=r"in the results already, another model than .*other"):
        main(["robustness", *arguments, "--scenarios", "nominal", "novel/slope/onset"])


def test_a_speed_is_relative_to_the_agent_alone_on_the_unperturbed_robot():
    # The layer costs a tenth where nothing happens, and keeps .8 of that.
    frame = frame_of([result("frozen", nominal=1000, kept=0.5), result("lms", 0, nominal=900, kept=0.8)])
    speeds = chosen(frame, arm="lms").set_index("family")["speed"]
    assert speeds["nominal"] == pytest.approx(0.9)
    assert speeds["novel/wires_signed"] == pytest.approx(0.72)


def test_the_largest_trial_of_a_condition_counts_alone():
    def trial(kept, steps, episodes):
        row = result("adaptive", layer_seed=0, kept=kept, steps=steps)
        return row | {"scores": [score | {"episodes": episodes} for score in row["scores"]]}

    trials = [result("frozen"), trial(0.9, 400_000, 16), trial(0.2, 400_000, 1), trial(0.1, 2400, 64)]
    elsewhere = trial(0.3, 2400, 4) | {"suite": "nda-v1"}  # of which there is no larger one
    frame = frame_of([*trials, elsewhere])
    assert chosen(frame, arm="adaptive", split="novel")["speed"].tolist() == [0.9, 0.3]
    assert len(frame) == 6
    former = {name: value for name, value in trials[1].items() if name != "steps"}  # of before steps were noted
    assert chosen(frame_of([trials[0], former, trials[3]]), arm="adaptive", split="novel")["speed"].tolist() == [0.9]


def test_agents_that_were_judged_in_other_scenarios_than_others_are_told():
    both, one = result("frozen"), result("frozen", agent_seed=1)
    one = one | {"scores": one["scores"][:1]}
    frame_of([both, one | {"agent": "another"}])
    with pytest.warns(UserWarning, match="plastic, frozen, nda-v2: some seeds were judged in 1 scenarios, others in 2"):
        frame_of([both, one])


def test_arms_are_compared_seed_by_seed_with_the_agent_that_the_layer_is_around():
    results = [result("frozen", kept=0.2, agent_seed=seed) for seed in (0, 1)]
    results += [
        result("adaptive", layer, kept=0.6 + 0.1 * layer, agent_seed=seed) for seed in (0, 1) for layer in (0, 1)
    ]
    frame = chosen(frame_of(results), family="novel/wires_signed")
    adaptive, frozen = chosen(frame, arm="adaptive"), chosen(frame, arm="frozen")
    assert by_seed(adaptive, "speed").shape == (2, 1)  # two layers around one agent are no two agents
    assert over_seeds(adaptive, "speed").value == pytest.approx(0.65)
    found = difference(adaptive, frozen)
    assert found.value == pytest.approx(0.45)
    assert found.low == pytest.approx(0.45)
    assert found.high == pytest.approx(0.45)
    assert np.isnan(difference(adaptive, chosen(frame_of(results), family="nominal", arm="frozen")).value)


def test_an_agent_without_a_layer_stands_beside_those_that_have_one():
    other = result("frozen", nominal=1500.0, kept=0.4, agent_seed=7) | {"agent": "trained on it"}
    shown = beside_the_others([result("frozen"), result("adaptive", 0, kept=0.9), other])
    assert [(r["agent"], r["arm"]) for r in shown] == [
        ("plastic", "frozen"),
        ("plastic", "adaptive"),
        ("plastic", "trained on it"),
    ]
    rows = chosen(frame_of(shown), arm="trained on it", split="novel")
    assert rows["speed"].tolist() == pytest.approx([0.4 * 1500 / 1000])
    assert beside_the_others([other]) == [other]
    told = result("told") | {"agent": "trained on it"}
    assert beside_the_others([result("adaptive", 0), other, told])[1:] == [other, told]
    elsewhere = other | {"suite": "nda-v1"}  # under a suite for which no layer was judged
    assert beside_the_others([result("adaptive", 0), elsewhere])[1:] == [elsewhere]


@pytest.mark.parametrize(("study", "drawn"), [("adaptation", "HalfCheetah-plastic"), ("robustness", "HalfCheetah")])
def test_tables_and_figures_are_remade_from_the_results(study, drawn, tmp_path, capsys):
    share = np.ones((2, 70)).tolist()
    watched = {name: dict(acting=share, estimates=share, values="") for name in SHOWN}
    for name, cell in {
        "a": result("frozen", kept=0.25),
        "b": result("adaptive", 0, kept=0.875),
        "c": dict(robot="HalfCheetah", agent="plastic", names=["nominal", "wires"], watched=watched),
    }.items():
        keep(tmp_path, json.loads(json.dumps({"cell": name, **cell})))
    main([study, "--out", str(tmp_path), "--report-only"])
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("| novel/wires_signed"))
    assert [cell.strip() for cell in row.split("|")][2:4] == ["0.25", "0.88"]
    assert (tmp_path / f"{drawn}.png").is_file()


def test_agents_with_a_layer_stand_side_by_side_without_it_and_with_it(tmp_path, capsys):
    for name, robot, kept in (("plastic", "HalfCheetah", 0.875), ("MLP", "HalfCheetah", 0.75), ("plastic", "Ant", 1.0)):
        for arm, layer, speed in (("frozen", None, 0.25), ("adaptive", 0, kept)):
            cell = result(arm, layer, kept=speed) | {"cell": f"{robot}{name}{arm}", "agent": name, "robot": robot}
            keep(tmp_path, json.loads(json.dumps(cell)))
    alone = result("frozen", kept=0.5) | {"cell": "other", "agent": "no layer"}
    keep(tmp_path, json.loads(json.dumps(alone)))
    main(["adaptation", "--out", str(tmp_path), "--report-only"])
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    title = lines[3]
    assert title[0] == "HalfCheetah, nda-v2, frozen / adaptive"
    (row,) = (cells for cells in lines if cells[:1] == ["novel/wires_signed"] and len(cells) == len(title) == 3)
    assert dict(zip(title[1:], row[1:], strict=True)) == {"MLP": "0.25 / 0.75", "plastic": "0.25 / 0.88"}


def test_what_a_plastic_agent_has_more_than_another_has_an_interval_over_the_seeds_of_both(tmp_path, capsys):
    trained = [("plastic", "controls", seed, kept) for seed, kept in enumerate((0.875, 0.75, 1.0))]
    trained += [("MLP", "frozen", seed, kept) for seed, kept in enumerate((0.375, 0.25, 0.5))]
    for name, arm, seed, kept in trained:
        cell = result(arm, kept=kept, agent_seed=seed) | {"cell": f"{name}{seed}", "agent": name}
        keep(tmp_path, json.loads(json.dumps(cell)))
    main(["robustness", "--out", str(tmp_path), "--report-only"])
    lines = [[cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.splitlines()]
    (title,) = (cells for cells in lines if "plastic - MLP" in cells)
    (row,) = (cells for cells in lines if "novel/wires_signed" in cells)
    shown = dict(zip(title, row, strict=True))
    assert shown["plastic"].startswith("0.88 [")
    assert shown["MLP"].startswith("0.38 [")
    assert shown["plastic - MLP"] == "0.50 [0.33, 0.67]"


def test_agents_that_nobody_put_under_controls_are_compared_in_pairs(tmp_path, capsys):
    for name, kept in (("MLP", 0.25), ("plastic", 0.75), ("static", 0.5)):
        keep(tmp_path, json.loads(json.dumps(result("frozen", kept=kept) | {"cell": name, "agent": name})))
    main(["robustness", "--out", str(tmp_path), "--report-only"])
    lines = capsys.readouterr().out.splitlines()
    pairs = "plastic - MLP | static - MLP | static - plastic"
    assert any(line.endswith(f"| MLP | plastic | static | {pairs} |") for line in lines)
    assert any(line.endswith("| 0.25 | 0.75 | 0.50 | 0.50 | 0.25 | -0.25 |") for line in lines)


def test_what_a_layer_gives_an_agent_has_an_interval_over_the_pairs_of_its_seeds(tmp_path, capsys):
    trained = [("plastic", "controls", None, (0.25, 0.5)), ("plastic", "adaptive", 0, (0.5, 1.0))]
    trained += [("MLP", "frozen", None, (0.375, 0.375))]
    for name, arm, layer, speeds in trained:
        for seed, kept in enumerate(speeds):
            cell = result(arm, layer, kept=kept, agent_seed=seed) | {"cell": f"{name}{arm}{seed}", "agent": name}
            keep(tmp_path, json.loads(json.dumps(cell)))
    main(["robustness", "--out", str(tmp_path), "--report-only"])
    lines = [[cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.splitlines()]
    (title,) = (cells for cells in lines if "plastic, adaptive - frozen" in cells)
    assert "MLP, adaptive - frozen" not in title
    (row,) = (cells for cells in lines if "novel/wires_signed" in cells)
    assert dict(zip(title, row, strict=True))["plastic, adaptive - frozen"] == "0.38 [0.25, 0.50]"


def test_agents_of_the_command_in_the_documents_are_compared_in_one_arm(tmp_path, capsys):
    for seed, kept in ((0, 0.9), (1, 0.8)):
        own = {"agent_seed": seed, "suite": "nda-v1"}
        plastic = result("controls", kept=kept, **own)
        off = [score | {"control": "off"} for score in plastic["scores"]]
        plastic["scores"] = plastic["scores"] + off
        mlp = result("controls", kept=kept - 0.3, **own) | {"agent": "MLP"}
        keep(tmp_path, plastic | {"cell": f"plastic{seed}"})
        keep(tmp_path, mlp | {"cell": f"mlp{seed}"})
    main(["robustness", "--out", str(tmp_path), "--report-only"])
    assert "| MLP | plastic | plastic, off | plastic - MLP |" in capsys.readouterr().out


def test_arms_of_a_later_version_are_named(tmp_path):
    keep(tmp_path, result("foresight") | {"cell": "a"})
    with pytest.raises(UserError, match="arms that this version does not have: foresight"):
        main(["adaptation", "--out", str(tmp_path), "--report-only"])


def test_a_study_without_a_judged_agent_or_a_perturbation_says_so(tmp_path, capsys):
    keep(tmp_path, {"cell": "fit", "robot": "HalfCheetah", "unexplained": [0.1, 0.2]})
    with pytest.raises(UserError, match="No agent has been judged yet"):
        main(["adaptation", "--out", str(tmp_path), "--report-only"])
    nominal = result("controls")
    keep(tmp_path, nominal | {"cell": "nominal", "scores": nominal["scores"][:1]})
    main(["robustness", "--out", str(tmp_path), "--report-only"])
    assert not list(tmp_path.glob("*.png"))


def test_a_layer_without_the_hypothesis_of_the_figure_can_be_watched():
    watcher = _Watcher(policy(("motors",)), "plugs")
    watcher.act(np.zeros((3, 3)), np.ones(3, bool), np.zeros(3, bool))
    assert watcher.means[0].shape == (3, 0)


def test_a_low_pass_filter_sends_half_of_a_jump_and_starts_anew_with_the_episode():
    sent = []

    class Noted(RandomEnv):
        def step(self, action):
            sent.append(float(action[0]))
            return super().step(action)

    env = LowPass(DummyVecEnv([lambda: Noted(BOX, BOX, 3)]))
    env.reset()
    for _ in range(4):
        env.step(np.ones((1, 2), np.float32))
    assert sent == [0.5, 0.75, 0.875, 0.5]


def test_a_low_pass_filter_starts_anew_where_an_episode_ends_told_by_0_and_1_too():
    env = LowPass(WholeEnds([lambda n=n: RandomEnv(BOX, BOX, n) for n in (3, 2)]))
    env.reset()
    for _ in range(2):
        env.step(np.ones((2, 2), np.float32))
    np.testing.assert_array_equal(env._sent, [[0.75] * 2, [0] * 2])


def test_a_low_pass_filter_needs_actions_that_can_be_smoothed():
    with pytest.raises(UserError, match="smooths actions of a Box"):
        LowPass(DummyVecEnv([lambda: RandomEnv(BOX, spaces.Discrete(2))]))


@pytest.mark.slow
def test_the_study_of_adaptation_fits_judges_and_draws(tmp_path, capsys):
    folder, arms = agent(tmp_path / "agent"), ["frozen", "adaptive", "told", "motors"]
    arguments = ["--agents", f"MLP={folder}", "--logs", str(tmp_path / "logs"), "--out", str(tmp_path / "out")]
    arguments += ["--arms", *arms, "--tier", "smoke", "--episodes", "1", "--steps", "4800"]
    main(["adaptation", *arguments, "--seeds", "0"])
    results = read_results(tmp_path / "out")
    assert {result.get("arm") for result in results.values()} == {None, *arms}
    printed = capsys.readouterr().out
    assert "| frozen | adaptive | adaptive - frozen | told | motors |" in printed
    assert "| novel/wires_signed |" in printed
    assert (tmp_path / "out" / "HalfCheetah-MLP.png").is_file()


def test_what_is_carried_over_a_life_is_told_from_what_is_learned_anew(tmp_path, capsys):
    model = tmp_path / "plastic.zip"
    register_envs()
    name = env_id("HalfCheetah", latent=True)
    PlasticPPO("PlasticPolicy", name, n_steps=64, batch_size=64, policy_kwargs=dict(net_arch=[8])).save(model)
    zoo = tmp_path / "HalfCheetah"
    zoo.mkdir()
    (zoo / "args.yml").write_text(f"env: {name}")
    arguments = ["--agents", f"plastic={model}", "--out", str(tmp_path / "out"), "--arms", "frozen"]
    arguments += ["--episodes", "1", "--suites", "nda-v2", "--episode-steps", "20"]
    reversed_motors = ["--scenarios", "nominal", "novel/reversed"]
    with pytest.raises(UserError, match=r"unperturbed robot, which the protocol static runs: name it in --protocols"):
        main(["adaptation", *arguments, *reversed_motors, "--protocols", "lifetime"])
    with pytest.raises(UserError, match="The protocol lifetime runs none of the scenarios nda-v2/nominal"):
        main(["adaptation", *arguments, "--protocols", "static", "lifetime"])
    assert not (tmp_path / "out").exists()
    main(["adaptation", *arguments, *reversed_motors, "--protocols", "static", "lifetime"])
    (scores,) = (result["scores"] for result in read_results(tmp_path / "out").values())
    life = [(row["control"], row["in_life"]) for row in scores if row["protocol"] == "lifetime"]
    assert life == [(control, n) for control in ("carried", "reset") for n in range(1, 6)]
    assert {row["protocol"] for row in scores if "in_life" not in row} == {"static"}
    printed = capsys.readouterr().out
    assert "nda-v2, lifetime: agents 1" in printed


def test_the_later_episodes_of_a_life_are_compared_seed_by_seed(tmp_path, capsys):
    def lived(arm, layer, speeds):
        row = dict(split="novel", scenario="nda-v2/novel/reversed", protocol="lifetime", survived=1.0, episodes=4)
        rows = [
            row | dict(control=control, in_life=n, relative=speed, forward_reward=1000 * speed)
            for control, of_control in speeds.items()
            for n, speed in enumerate(of_control, 1)
        ]
        cell = result(arm, layer, agent_seed=3)
        keep(tmp_path, cell | {"cell": arm, "scores": [cell["scores"][0], *rows]})

    lived("frozen", None, {"reset": [0.25, 0.25, 0.25]})
    lived("adaptive", 0, {"carried": [0.5, 0.875, 1.0], "reset": [0.5, 0.5, 0.625]})
    main(["adaptation", "--out", str(tmp_path), "--report-only"])
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    (title,) = (cells for cells in lines if "adaptive, carried, first" in cells)
    (row,) = (cells for cells in lines if cells[:1] == ["novel/reversed"])
    assert dict(zip(title[1:], row[1:], strict=True)) == {
        "adaptive, carried, first": "0.50",
        "adaptive, carried, later": "0.94",
        "adaptive, reset, first": "0.50",
        "adaptive, reset, later": "0.56",
        "frozen, reset, first": "0.25",
        "frozen, reset, later": "0.25",
        "adaptive, later, carried - reset": "0.38",
    }


def test_who_is_not_back_when_it_ends_has_not_recovered():
    def rows(protocol, took, removal=-1):
        more = dict(protocol=protocol, onset=300, removal=removal, survived=1)
        return [episode("a", 1.0, i, steps_to_recovery=t, **more) for i, t in enumerate(took)]

    everything = rows("onset", [100, 200, 700]) + rows("removal", [100, 400], 700) + rows("switch", [100, 200])
    scores = {score["protocol"]: score for score in scores_of(pd.DataFrame(everything))}
    assert scores["onset"]["recovered"] == pytest.approx(2 / 3, abs=1e-4)
    assert scores["onset"]["steps_to_recovery"] == 200  # the median
    assert scores["removal"]["recovered"] == 0.5
    assert "recovered" not in scores["switch"]


def test_an_arm_is_compared_with_the_agents_that_it_has():
    results = [result("frozen", kept=0.1 * seed, agent_seed=seed) for seed in (1, 2, 3)]
    results += [result("adaptive", 0, kept=0.1 * seed + 0.4, agent_seed=seed) for seed in (2, 3)]
    frame = chosen(frame_of(results), family="novel/wires_signed")
    found = difference(chosen(frame, arm="adaptive"), chosen(frame, arm="frozen"))
    assert (found.value, found.low, found.high) == pytest.approx((0.4, 0.4, 0.4))


def test_speeds_of_several_families_are_an_interquartile_mean():
    frame = pd.DataFrame(
        dict(agent_seed=0, family=list("abcd"), speed=[0.0, 1.0, 3.0, 100.0], net=[0.0, 1.0, 3.0, 100.0])
    )
    assert over_seeds(frame, "speed").value == 2
    assert over_seeds(frame, "net").value == 26


def test_a_bar_of_the_figure_is_the_interval_over_seeds():
    frame = frame_of([result("frozen", kept=kept, agent_seed=seed) for seed, kept in enumerate((0.0, 0.0, 0.9))])
    ((start, end),) = robustness_figure(frame).axes[0].collections[0].get_segments()
    assert (start[0], end[0]) == pytest.approx((0, 0.9))  # the mean is 0.3


def test_the_rows_of_a_figure_are_whole_and_agents_stand_apart_in_them():
    scores = [dict(family=name, kept=0.5, suite="nda-v2", protocol="onset", split="novel") for name in "abcd"]
    frame = pd.concat(
        pd.DataFrame(scores).assign(agent=agent, arm="frozen", agent_seed=0, control="intact", speed=0.5)
        for agent in ("plastic", "MLP")
    )
    figure = robustness_figure(frame)
    (axes,) = figure.axes
    plastic, mlp = (container.lines[0].get_ydata() for container in axes.containers)
    assert (mlp - plastic > 0.3).all()
    assert sorted(axes.get_ylim()) == [-0.5, 3.5]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["plastic", "MLP"]


def watched(names, shares):
    acting = [[share] * ((TAIL + CLOSE) // CLOSE_BIN) for share in shares]
    return {"names": names, "watched": {WIRES: {"acting": acting, "estimates": []}}}


def hypotheses(names, shares):
    """The colour of each hypothesis in the legend of the figure."""
    figure = onset_figure([result("frozen"), result("adaptive", 0, **watched(names, shares))])
    handles, labels = figure.axes[1].get_legend_handles_labels()
    looks = [(handle.get_facecolor().tolist(), handle.get_hatch()) for handle in handles]
    return dict(zip(labels, looks, strict=True))


def test_a_hypothesis_that_acts_in_one_robot_of_sixteen_is_named_in_the_figure():
    assert list(hypotheses(["nominal", "plugs", "wires"], [15 / 16, 0, 1 / 16])) == ["nominal", "wires"]


def test_a_hypothesis_has_its_colour_whichever_others_the_layer_has():
    few = hypotheses(["nominal", "plugs", "late_1"], [0.2, 0.4, 0.4])
    assert few == hypotheses(["nominal", "motors_and_disturbance", "plugs", "late_1"], [0.2, 0.0, 0.4, 0.4])


def test_a_hypothesis_of_ones_own_is_drawn_too():
    assert "mine" in hypotheses(["nominal", "mine"], [0.5, 0.5])


def test_the_curve_of_a_scenario_is_of_the_intact_agent_around_the_onset():
    before = np.array([[1.0], [2.0], [3.0], [6.0]])
    forward = np.concatenate([np.repeat(before, 300, 1), np.repeat(before + 1, 700, 1)], 1)
    intact, off = (Cell("onset", WIRES, control, "novel", "wires") for control in ("intact", "off"))
    switched = dataclasses.replace(intact, protocol="switch")
    curves = curves_of({intact: make_trace(forward, 300)} | {c: make_trace(0 * forward, 300) for c in (off, switched)})
    mean, low, high = curves.pop(WIRES)
    assert not curves
    broken = np.array([False, False, False, True])
    with_broken = make_trace(np.where(broken[:, None], 0, forward), 300, unstable=broken)
    assert curves_of({intact: with_broken})[WIRES][0] == [2.0] * 4 + [3.0] * 20
    assert curves_of({intact: make_trace(forward, 300, unstable=~np.zeros(4, bool))}) == {}
    assert mean == [3.0] * 4 + [4.0] * 20  # 100 steps before, and 500 after, in bins of 25
    assert (low[0], high[0]) == (1.75, 3.75)
