"""Videos: the robot stays in the frame, damage is red, agents are seen side by side; and MuJoCo is quiet."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import gymnasium as gym
import mujoco
import numpy as np
import perturbation_helpers
import pytest
from envs import RandomEnv
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv
from PIL import Image
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy

from sb3_plastic import cli
from sb3_plastic.adaptive import AdaptivePolicy
from sb3_plastic.adaptive.forward_model import ForwardModel
from sb3_plastic.adaptive.layer import AdaptiveLayer
from sb3_plastic.adaptive.settings import LayerSettings
from sb3_plastic.artefacts import enjoying
from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.controls import Player
from sb3_plastic.evaluation.environment import TrainedIn, find_training
from sb3_plastic.evaluation.film import RED, STRIP, Shot, compose, find_onset, shoot
from sb3_plastic.evaluation.film_cli import find_model, perturbations_of
from sb3_plastic.evaluation.film_layer import HEIGHT, NEGATIVE, TITLE, Belief, plot_width, shown_hypothesis
from sb3_plastic.evaluation.layer_signals import signals_around_onset
from sb3_plastic.evaluation.loading import load_model
from sb3_plastic.evaluation.settings import FilmSettings, ModelSettings
from sb3_plastic.export import load_policy
from sb3_plastic.perturbations import ROBOTS, env_id
from sb3_plastic.perturbations.render import damaged_geoms, picture, save

DOCS = Path(__file__).parents[1] / "docs"
AGENTS = DOCS / "results" / "learning" / "agents"
CHEETAH = env_id("HalfCheetah")


pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_robot_is_in_every_frame_however_far_it_has_run(robot) -> None:
    env = gym.make(env_id(robot), render_mode="rgb_array", width=64, height=48).unwrapped
    env.reset(seed=0)
    model = env.model
    with mujoco.Renderer(model, 48, 64) as renderer:
        renderer.enable_segmentation_rendering()
        for x in (0, 1, 30, 200):
            env.data.qpos[0] = x
            env.step(env.action_space.sample())
            assert picture(env).shape == (48, 64, 3)
            renderer.update_scene(env.data, env.mujoco_renderer.camera_id)
            ids, types = np.moveaxis(renderer.render(), -1, 0)
            bodies = model.geom_bodyid[ids[types == mujoco.mjtObj.mjOBJ_GEOM]]
            assert (bodies > 0).sum() > 20, f"{robot} is not seen at {x} m"
            rows, columns = np.nonzero(np.isin(ids, np.flatnonzero(model.geom_bodyid > 0)))
            assert rows.min() > 0, f"{robot} is cut off above"
            assert 0 < columns.min() <= columns.max() < 63, f"{robot} is cut off aside"
    env.close()


def test_a_picture_leaves_the_model_as_it_was() -> None:
    env = gym.make(
        CHEETAH, render_mode="rgb_array", width=32, height=32, scenario="nda-v2/novel/wires_signed"
    ).unwrapped
    env.reset(seed=0)
    before = perturbation_helpers.model_bytes(env.model)
    picture(env)
    assert perturbation_helpers.model_bytes(env.model) == before
    env.close()


def test_motors_that_differ_from_nominal_are_the_damaged_ones() -> None:
    env = gym.make(CHEETAH, perturbations=[{"kind": "action_gain", "value": [1, 1, -1, 1, 1, 0.5]}]).unwrapped
    env.reset(seed=0)
    geoms = damaged_geoms(env.perturber.active[0], env.robot)
    assert {env.model.body(env.model.geom_bodyid[geom]).name for geom in geoms} == {"bfoot", "ffoot"}


def test_record_shows_an_agent_intact_and_frozen_around_the_onset(capsys) -> None:
    Path("mine.yaml").write_text("- {kind: wires, schedule: {form: onset, at: 6}}\n")
    argv = ["record", "--perturb", "mine.yaml", "--env", "HalfCheetah-v5", "-f", str(AGENTS), "--output", "mine.gif"]
    assert cli.main([*argv, "--steps", "8", "--before", "4", "--width", "64", "--height", "64"]) == 0
    assert "steps 2 to 10, intact, frozen" in capsys.readouterr().out
    frames = [np.asarray(frame.convert("RGB")) for frame in _frames("mine.gif")]
    assert [frame.shape for frame in frames] == [(64 + STRIP, 128, 3)] * 8
    left = np.array([frame[:64, :64] for frame in frames])
    red = (left[..., 0].astype(int) > 2 * left[..., 1].astype(int) + 40).sum((1, 2))
    assert (red[:4] < red[4:].min() / 3).all()  # damaged legs and the line of text, from the onset on


def _frames(path: str) -> list:
    with Image.open(path) as gif:
        frames = []
        for i in range(gif.n_frames):
            gif.seek(i)
            frames.append(gif.copy())
        return frames


@pytest.fixture(scope="module")
def adaptive(tmp_path_factory) -> Path:
    """A cheetah with a layer whose forward model knows nothing, so that it is surprised at once."""
    folder = tmp_path_factory.mktemp("adaptive")
    cli.main(["export", str(AGENTS / "plastic_ppo" / "HalfCheetah-v5_1"), "--to", str(folder / "plain")])
    agent = load_policy(folder / "plain")
    settings = LayerSettings(("wires", "motors"), calm=0.0)
    AdaptivePolicy(agent, AdaptiveLayer(ForwardModel(17, 6, net_arch=(8,)).requires_grad_(False), settings)).save(
        folder / "a"
    )
    return folder / "a"


def test_an_adaptive_policy_is_seen_beside_its_frozen_twin_with_its_estimates_below(capsys, adaptive) -> None:
    Path("mine.yaml").write_text("- {kind: wires, schedule: {form: onset, at: 6}}\n")
    argv = ["record", "--perturb", "mine.yaml", "--model", str(adaptive), "--output", "mine.gif", "--every", "2"]
    assert cli.main([*argv, "--steps", "12", "--before", "4", "--width", "80", "--height", "64"]) == 0
    assert "steps 2 to 14, adaptive, frozen" in capsys.readouterr().out
    frames = [np.asarray(frame.convert("RGB")).astype(int) for frame in _frames("mine.gif")]
    assert [frame.shape for frame in frames] == [(64 + STRIP + HEIGHT, 160, 3)] * 6
    for frame in frames:
        for picture_of in (frame[8:64, :80], frame[8:64, 80:]):
            r, g, b = np.moveaxis(picture_of, -1, 0)
            assert ((r > g + 10) & (g > b + 5)).sum() > 60, "the robot, which is brown or red, is not seen"
    panels = np.array([frame[64 + STRIP :] for frame in frames])
    drawn = (panels.min(-1) < 200).sum((1, 2))
    assert drawn[0] > 50
    assert drawn[-1] > drawn[0], "the estimates' lines grow with time"


def test_videos_are_written_as_mp4_too(adaptive) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    argv = ["record", "--model", str(adaptive), "--output", "mine.mp4", "--steps", "6"]
    assert cli.main([*argv, "--width", "81", "--height", "64"]) == 0
    assert imageio_ffmpeg.count_frames_and_secs("mine.mp4")[0] == 6
    reader = imageio_ffmpeg.read_frames("mine.mp4")
    assert next(reader)["size"] == (82, 64 + STRIP + HEIGHT)
    assert np.frombuffer(next(reader), np.uint8).std() > 10
    reader.close()


def test_any_environment_can_be_filmed_unperturbed(tmp_path, capsys, monkeypatch) -> None:
    Path("run/InvertedPendulum-v5").mkdir(parents=True)
    PPO("MlpPolicy", "InvertedPendulum-v5").save("run/InvertedPendulum-v5.zip")
    Path("run/InvertedPendulum-v5/args.yml").write_text("{env: InvertedPendulum-v5, env_kwargs: {frame_skip: 5}}")
    argv = ["record", "--model", "run", "--output", "p.gif", "--steps", "3"]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert cli.main(argv) == 0
    assert "film: 100%" in capsys.readouterr().err
    assert _frames("p.gif")[0].size == (480, 480 + STRIP)
    assert [frame.info["duration"] for frame in _frames("p.gif")] == [100] * 3, "a step is of five times .02 s"
    assert cli.main([*argv, "--perturb", "nda-v2/novel/late_1/onset"]) == 2
    assert "InvertedPendulum-v5 cannot be perturbed" in capsys.readouterr().err


def test_a_perturbation_of_any_environment_can_be_filmed(capsys) -> None:
    PPO("MlpPolicy", "InvertedPendulum-v5").save("m.zip")
    Path("mine.yaml").write_text("- {kind: action_bias, value: 1, schedule: {form: onset, at: 1}}")
    argv = ["record", "--model", "m.zip", "--env", "InvertedPendulum-v5", "--perturb", "mine.yaml", "--output", "p.gif"]
    argv += ["--steps", "3", "--before", "1"]
    assert cli.main(argv) == 2
    assert "InvertedPendulum-v5 cannot be perturbed" in capsys.readouterr().err
    assert cli.main([*argv, "--wrapper", "sb3_plastic.perturbations.wrapper.PerturbSignals"]) == 0
    assert "steps 0 to 3" in capsys.readouterr().out
    before, *after = (np.asarray(frame.convert("RGB")).astype(int) for frame in _frames("p.gif"))
    assert [(np.abs(frame - RED).sum(-1) < 60).any() for frame in (before, *after)] == [False, True, True]


class Own(ActorCriticPolicy):
    """A class that tells no algorithm."""


@pytest.mark.parametrize(
    "command",
    [
        "record --output p.png --steps 1",
        "perturbations render mine.yaml --output p.png --steps 1",
        "enjoy --no-render --episodes 1",
        "evaluate --out r --scenarios nominal --protocols static --episodes 1 --steps 5",
    ],
)
def test_a_model_whose_file_tells_no_algorithm_is_used_if_that_is_named_and_trusted(command, capsys) -> None:
    PPO(Own, gym.make(CHEETAH), n_steps=8, batch_size=8).save("p.zip")
    Path("mine.yaml").write_text("- {kind: mass, value: 2}\n")
    argv = [*command.split(), "--model", "p.zip", "--env", CHEETAH]
    assert cli.main([*argv, "--algo", "ppo"]) == 2
    assert "--trust" in capsys.readouterr().err
    argv.append("--trust")
    assert cli.main(argv) == 2
    assert "name the algorithm that trained it: --algo" in capsys.readouterr().err
    assert cli.main([*argv, "--algo", "ppo"]) == 0


def test_a_film_may_begin_at_the_onset_and_show_every_other_step_at_the_same_speed(capsys) -> None:
    PPO("MlpPolicy", gym.make(CHEETAH), n_steps=8, batch_size=8).save("p.zip")
    Path("mine.yaml").write_text("- {kind: mass, value: 2, schedule: {form: onset, at: {uniform: [6, 99]}}}\n")
    argv = ["record", "--model", "p.zip", "--env", "HalfCheetah-v5", "--perturb", "mine.yaml", "--output", "p.gif"]
    size = ["--width", "64", "--height", "64", "--seed", "3"]
    assert cli.main([*argv, *size, "--before", "0", "--steps", "4", "--every", "2"]) == 0
    late = perturbations_of("mine.yaml", "HalfCheetah")[0]
    onset = find_onset(TrainedIn(CHEETAH), [late], seed=3)
    assert f"steps {onset} to {onset + 4}, p\n" in capsys.readouterr().out
    assert [frame.info["duration"] for frame in _frames("p.gif")] == [100, 100]  # of the cheetah's 20 steps in a second
    late = replace(late, schedule=replace(late.schedule, at=2000))
    assert find_onset(TrainedIn(CHEETAH), [late], seed=0) == 0, "one that never comes: the film begins with the episode"


def test_models_of_one_name_are_seen_beside_each_other(capsys) -> None:
    model = PPO("MlpPolicy", "InvertedPendulum-v5")
    for folder in ("a", "b"):
        Path(folder).mkdir()
        model.save(f"{folder}/p.zip")
    argv = ["record", "--model", "a/p.zip", "b/p.zip", "--env", "InvertedPendulum-v5", "--output", "p.png"]
    assert cli.main([*argv, "--steps", "1"]) == 0
    assert "steps 0 to 1, p, b/p.zip\n" in capsys.readouterr().out
    with Image.open("p.png") as shown:
        assert shown.size == (960, 480 + STRIP)


def test_a_number_in_the_name_of_a_folder_is_no_suffix(monkeypatch) -> None:
    model, seen = PPO("MlpPolicy", "InvertedPendulum-v5"), []
    for name in ("hebb-0.1", "hebb-0.5"):
        Path(name).mkdir()
        model.save(f"{name}/p.zip")
    monkeypatch.setattr("sb3_plastic.evaluation.film.shoot_all", lambda arms, *_, **__: seen.extend(arms) or 1 / 0)
    argv = ["record", "--model", "hebb-0.1", "hebb-0.5", "--env", "InvertedPendulum-v5", "--output", "p.png"]
    with pytest.raises(ZeroDivisionError):
        cli.main(argv)
    assert seen == ["hebb-0.1", "hebb-0.5"]


def test_a_model_of_rough_ground_is_filmed_on_it_and_on_level_ground() -> None:
    trained = TrainedIn(CHEETAH, {"scenario": "nda-v1/novel/terrain"})
    model = PPO("MlpPolicy", gym.make(CHEETAH), n_steps=8, batch_size=8, policy_kwargs={"net_arch": [2]})
    assert len(shoot(Player(model), trained, (), FilmSettings(steps=3, every=0))) == 3


def test_a_model_of_images_is_filmed_as_it_was_trained(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(gym.registry, "Pictures-v0", gym.envs.registration.EnvSpec("Pictures-v0", Pictures))
    model = PPO("CnnPolicy", "Pictures-v0", n_steps=8, batch_size=8)  # SB3 turns the channels first
    shots = shoot(Player(model), TrainedIn("Pictures-v0"), (), FilmSettings(steps=2))
    assert [shot.frame.shape for shot in shots] == [(36, 36, 3)] * 2


class Pictures(RandomEnv):
    """Observes images, channels last, and is drawn as such."""

    metadata: ClassVar = {"render_modes": ["rgb_array"]}

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(spaces.Box(0, 255, (36, 36, 3), np.uint8), spaces.Discrete(2))
        self.render_mode = render_mode

    def render(self) -> np.ndarray:
        return self.observation_space.sample()


def test_the_hypothesis_that_acts_most_is_shown() -> None:
    estimates = dict.fromkeys(("motors", "wires"), (np.ones(2), np.zeros(2)))
    acting = ["nominal", "nominal", "wires", "motors", "wires", "late_1"]
    assert shown_hypothesis([Belief(name, estimates) for name in acting]) == "wires"
    assert shown_hypothesis([Belief("nominal", estimates)]) == "motors"


def test_what_an_agent_that_fell_believed_ends_where_its_speed_does() -> None:
    beliefs = [Belief("motors", {"motors": (np.full(2, 0.5), np.full(2, 0.1))}) for _ in range(5)]
    fallen = [shot(1.0, t - 2)._replace(belief=belief) for t, belief in enumerate(beliefs)]
    (*_, last) = compose({"a": fallen, "b": [shot(1.0, t - 2) for t in range(20)]}, first=0)
    ribbon = last[40 + STRIP + TITLE + 2, : plot_width(120)]
    coloured = np.flatnonzero((ribbon != 255).any(-1))
    assert coloured.max() == pytest.approx(len(ribbon) * 5 / 20, abs=2)
    onset = np.flatnonzero((last[-20, : plot_width(120)] == NEGATIVE).all(-1))
    speed = np.flatnonzero((last[40 + STRIP // 2, : plot_width(120)] == RED).all(-1))
    assert onset.mean() == pytest.approx(speed.mean(), abs=1), "one moment, one place"


def test_enjoy_plays_an_adaptive_policy(capsys, adaptive) -> None:
    assert cli.main(["enjoy", "--model", str(adaptive), "--episodes", "1", "--no-render"]) == 0
    assert "Mean return of 1 episodes" in capsys.readouterr().out


def test_an_adaptive_policy_takes_no_other_normalisation(capsys, adaptive) -> None:
    Path("v.pkl").touch()
    assert cli.main(["evaluate", "--model", str(adaptive), "--vecnorm", "v.pkl", "--out", "results"]) == 2
    assert "normalises by itself" in capsys.readouterr().err


def test_a_robot_that_stays_damaged_is_played_with_what_is_known_of_it(monkeypatch, adaptive) -> None:
    policy, states = AdaptivePolicy.load(adaptive), []
    policy.lifetime, predict = True, policy.predict

    def watched(observation, state, *args, **kwargs):
        states.append(state)
        return predict(observation, state, *args, **kwargs)

    monkeypatch.setattr(policy, "predict", watched)
    monkeypatch.setattr(enjoying, "load_model", lambda *args, **kwargs: (policy, None))
    assert len(enjoying.play(adaptive, ModelSettings(), episodes=2)) == 2
    assert [state is None for state in states].count(True) == 1


def test_the_agent_that_ships_finds_out_how_its_motors_are_plugged_in() -> None:
    folder = DOCS / "results" / "adaptive" / "HalfCheetah-v5"
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 2_000_000
    perturbations = perturbations_of("nda-v2/novel/wires_permuted/onset", "HalfCheetah")
    soon = [replace(p, schedule=replace(p.schedule, at=40)) for p in perturbations]
    model, _ = load_model(folder)
    shots = shoot(Player(model), find_training(folder), soon, FilmSettings(steps=1, width=16, height=16), first=119)
    assert [shots[39].belief.acting, shots[-1].belief.acting] == ["nominal", "plugs"]
    assert shots[-1].speed > 3
    signals = signals_around_onset(model, find_training(folder), soon, after=40)
    assert signals["before/acting/nominal"] == 1
    assert signals["after/acting/plugs"] > 0.5
    assert signals["after/surprise"] > 3 * signals["before/surprise"]
    assert signals["after/estimate/plugs"] > 10 * signals["before/estimate/plugs"]


def test_the_film_at_the_head_of_the_readme_is_small_and_shows_both_robots() -> None:
    file = DOCS / "media" / "replugged.gif"
    assert file.stat().st_size < 2_000_000
    frames = [np.asarray(frame.convert("RGB")).astype(int) for frame in _frames(str(file))]
    assert len(frames) == 80
    for frame in frames:
        for robot in (frame[16:180, :320], frame[16:180, 320:]):
            assert (robot[..., 0] > robot[..., 2] + 40).sum() > 200


def test_a_gif_shows_what_was_drawn() -> None:
    frames = [np.full((8, 8, 3), shade, np.uint8) for shade in (0, 100, 200)]
    save(frames, 10, Path("g.gif"))
    shades = [np.asarray(frame.convert("RGB")).mean() for frame in _frames("g.gif")]
    assert shades == pytest.approx([0, 100, 200], abs=5)


@pytest.mark.parametrize(("fps", "shortest"), [(125, 20), (67, 20), (50, 20), (30, 30), (10, 100)])
def test_a_gif_lasts_as_long_as_what_it_shows_and_no_frame_is_too_short_for_a_browser(fps, shortest) -> None:
    second = 255 * np.eye(fps, 128, dtype=np.uint8).reshape(fps, 8, 16)  # each frame is another
    save([np.stack([frame] * 3, axis=-1) for frame in second], fps, Path("g.gif"))
    with Image.open("g.gif") as gif:
        durations = []
        for i in range(gif.n_frames):
            gif.seek(i)
            durations.append(gif.info["duration"])
        assert gif.info["loop"] == 0, "it is shown again and again"
    assert min(durations) == shortest
    assert sum(durations) == pytest.approx(1000, abs=25)


def test_render_takes_a_model() -> None:
    model = AGENTS / "plastic_ppo" / "HalfCheetah-v5_1" / "HalfCheetah-v5.zip"
    argv = ["perturbations", "render", "nda-v1/novel/slope", "--model", str(model), "--output", "slope.png"]
    assert cli.main([*argv, "--steps", "2", "--width", "48", "--height", "48"]) == 0
    with Image.open("slope.png") as picture_of:
        assert picture_of.size == (96, 48 + STRIP)


def test_the_help_of_render_speaks_of_its_own_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["perturbations", "render", "nda-v1/novel/slope", "--model", "m.zip", "--help"])
    printed = capsys.readouterr().out
    assert "sb3-plastic perturbations render nda-v2" in printed
    assert "sb3-plastic record" not in printed
    assert "--perturb " not in printed


def shot(speed: float, since: int, shade: int = 0) -> Shot:
    return Shot(np.full((40, 60, 3), shade, np.uint8), speed, since, float("nan"))


def test_who_falls_stays_where_it_fell_beside_the_other() -> None:
    walks = [shot(1.0, t - 2, 50) for t in range(6)]
    frames = compose({"a": walks, "b": walks[:3]}, first=1, title="slope")
    assert len(frames) == 5
    assert {frame.shape for frame in frames} == {(40 + STRIP, 120, 3)}
    assert (frames[-1][20:30, 70:] == 50).any()
    pictured = [s if t % 2 else s._replace(frame=None) for t, s in enumerate(walks)]
    (*_, last) = compose({"a": pictured, "b": pictured[:3]}, first=1, every=2)
    assert (last[20:30, 70:] == 50).any(), "its last picture, where none was taken of its last step"
    with pytest.raises(UserError, match="fell before step 4"):
        compose({"b": walks[:3]}, first=4)


def test_a_robot_that_hardly_moves_back_stands_still() -> None:
    """Not at -0.0 m/s."""
    frame = np.zeros((70, 100, 3), np.uint8)
    back, still = (
        compose({"a": [Shot(frame, speed, -1, float("nan")), Shot(frame, 1.0, -1, float("nan"))]}, 0)[0]
        for speed in (-0.01, 0.0)
    )
    np.testing.assert_array_equal(back[:6], still[:6])


def test_the_onset_is_that_of_the_environment() -> None:
    perturbations = perturbations_of("nda-v2/novel/reversed/onset", "HalfCheetah")
    onset = find_onset(TrainedIn(CHEETAH), perturbations, seed=3)
    env = gym.make(CHEETAH, perturbations=perturbations)
    env.reset(seed=3)
    since = [env.step(np.zeros(6))[4]["steps_since_onset"] for _ in range(onset + 1)]
    assert since == [-1] * onset + [0]


def test_a_model_is_found_where_rl_zoo_puts_it(capsys) -> None:
    assert find_model(AGENTS, "plastic_ppo", "Ant-v5").name == "Ant-v5.zip"
    with pytest.raises(UserError, match=r"(?s)no model of ppo for Ant-v5.*HalfCheetah-v5\.zip"):
        find_model(AGENTS, "ppo", "Ant-v5")
    for run in ("Ant-v5_2", "Ant-v5_10", "Ant-v5_10_old", "Ant-v5_best"):  # the last two are no runs of RL Zoo's
        Path("ppo", run).mkdir(parents=True)
        Path("ppo", run, "Ant-v5.zip").touch()
    assert find_model(Path(), "ppo", "Ant-v5").parent.name == "Ant-v5_10"
    assert find_model(Path(), "ppo", "Ant-v5", 2).parent.name == "Ant-v5_2"
    assert cli.main(["record", "--perturb", "x.yaml", "--env", "Ant-v5", "-f", str(AGENTS), "--exp-id", "3"]) == 2
    assert "There is no model of plastic_ppo for Ant-v5" in capsys.readouterr().err


def test_the_best_model_of_a_run_is_found_if_it_is_asked_for(capsys) -> None:
    run = Path("plastic_ppo/Ant-v5_1")
    run.mkdir(parents=True)
    (run / "Ant-v5.zip").touch()
    arguments = ["record", "--perturb", "nda-v1/novel/motor_off/onset", "--load-best"]
    assert cli.main([*arguments, "--env", "Ant-v5", "-f", "."]) == 2
    assert "plastic_ppo/Ant-v5_1 has no best_model.zip" in capsys.readouterr().err
    (run / "best_model.zip").write_bytes(b"half")
    assert find_model(Path(), "plastic_ppo", "Ant-v5", best=True) == run / "best_model.zip"
    assert cli.main([*arguments, "--env", "Ant-v5", "-f", "."]) == 2
    assert "best_model.zip" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main([*arguments, "--model", "best_model.zip"])
    assert "they go with --env ID" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--env", "HalfCheetah-v5"], ["--env-kwargs", "camera_name:'track'"]),
        (["--env", "CartPole-v1"], []),
        (["--env", "Ant-v5", "--env-kwargs", "camera_id:1"], []),
        ([], []),
    ],
)
def test_stock_robots_are_recorded_by_the_camera_that_follows_them(arguments, expected) -> None:
    assert cli.camera_of(arguments) == expected


def test_robots_are_made_without_a_word_and_without_a_log_file(tmp_path) -> None:
    code = (
        "import gymnasium as gym, sb3_plastic\n"
        "gym.make('sb3_plastic/PerturbedHalfCheetah-v0').reset(seed=0)\n"
        "gym.make('HalfCheetah-v5').reset(seed=0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_a_film_of_cartpole_without_pygame_names_what_to_install(capsys, monkeypatch):
    def without(*_):
        raise gym.error.DependencyNotInstalled("pygame is not installed, run `pip install pygame`")

    monkeypatch.setattr(CartPoleEnv, "render", without)
    PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu").save("cartpole")
    assert cli.main(["record", "--model", "cartpole.zip", "--env", "CartPole-v1"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("sb3-plastic record: error: pygame is not installed, run `pip install")
