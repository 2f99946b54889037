"""What PlasticityCallback writes, read back from real event files."""

import io

import numpy as np
import pytest
import torch
from envs import small_ppo
from PIL import Image
from sb3_contrib.common.wrappers import TimeFeatureWrapper
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecNormalize

from sb3_plastic import PlasticityCallback, PreviousActionReward
from sb3_plastic.callbacks import activity_figure, chart_layout, settings_of
from sb3_plastic.errors import UserError
from sb3_plastic.evaluation import film
from sb3_plastic.monitor import layer_signals

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
HParamsPluginData = pytest.importorskip("tensorboard.plugins.hparams.plugin_data_pb2").HParamsPluginData


def trained_with(folder, callback, **kwargs):
    model = small_ppo(policy_kwargs=dict(rule="oja", modulation="simple"), seed=3, **kwargs)
    model.set_logger(configure(str(folder), ["tensorboard"]))
    model.learn(3 * 96, callback=callback)
    return model


def read(folder):
    events = event_accumulator.EventAccumulator(str(folder), size_guidance={"histograms": 0})  # keep all
    events.Reload()
    return events


def test_histograms_and_a_figure_come_every_so_many_rollouts_here_of_the_training_itself(tmp_path):
    trained_with(tmp_path, PlasticityCallback(every=2, n_steps=16))
    events = read(tmp_path)
    for name in ("w", "alpha", "eta", "h", "rates"):
        for layer in (0, 1):
            steps = [event.step for event in events.Histograms(f"snn/layer{layer}/{name}")]
            assert steps == [2 * 96]  # of three rollouts, the second
    assert events.Histograms("snn/layer0/h")[0].histogram_value.num > 0
    [image] = events.Images("snn/rollout")  # of an environment without a name there can be no evaluation
    assert image.width > 500


def test_nothing_is_drawn_where_nobody_would_see_it(monkeypatch):
    def drawn(*args):
        raise AssertionError

    monkeypatch.setattr("sb3_plastic.callbacks.activity_figure", drawn)
    small_ppo(policy_kwargs=dict(rule="oja")).learn(2 * 96, callback=PlasticityCallback(every=1))


def test_it_says_that_nothing_will_be_seen_if_it_may_speak(capsys):
    small_ppo(policy_kwargs=dict(rule="oja")).learn(96, callback=PlasticityCallback(verbose=1))
    assert "writes to TensorBoard, and there is none" in capsys.readouterr().out


@pytest.mark.parametrize("wrapper", [PreviousActionReward, TimeFeatureWrapper])
def test_the_figure_is_of_an_evaluation_episode_if_its_environment_can_be_made(tmp_path, wrapper):
    def pictures(folder, **kwargs):
        env = make_vec_env("CartPole-v1", n_envs=2, seed=0, wrapper_class=wrapper)
        model = small_ppo(env, "MultiInputPolicy")
        model.set_logger(configure(str(folder), ["tensorboard"]))
        model.learn(2 * 64, callback=PlasticityCallback(every=2, n_steps=16, **kwargs))
        return read(folder).Tags()["images"]

    tells = wrapper is PreviousActionReward
    assert pictures(tmp_path / "a") == ["snn/evaluation" if tells else "snn/rollout"]
    assert pictures(tmp_path / "b", wrappers=[f"{wrapper.__module__}.{wrapper.__name__}"]) == ["snn/evaluation"]


def test_a_callback_that_cannot_evaluate_says_so_if_it_may_speak(tmp_path, capsys):
    trained_with(tmp_path, PlasticityCallback(verbose=1))
    assert "draws the last training steps, no evaluation episode: The training's" in capsys.readouterr().out


def test_the_hparams_page_has_the_settings_and_the_custom_scalars_page_a_group_per_layer(tmp_path):
    trained_with(tmp_path, PlasticityCallback(histograms=False, figure=False))
    metadata = read(tmp_path).summary_metadata
    started = metadata["_hparams_/session_start_info"].plugin_data.content
    for word in (b"oja", b"simple", b"PlasticPPO", b"chunk_len"):
        assert word in started
    layout = read(tmp_path).Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    assert b"layer 1" in layout
    assert b"snn/layer1_h_saturated" in layout


def test_the_hparams_page_begins_with_what_tells_runs_apart_and_ends_with_the_metrics(tmp_path):
    trained_with(tmp_path, PlasticityCallback(histograms=False, figure=False, layout=False))
    content = read(tmp_path).summary_metadata["_hparams_/experiment"].plugin_data.content
    experiment = HParamsPluginData.FromString(content).experiment
    assert " ".join(info.name for info in experiment.hparam_infos) == (
        "algorithm rule modulation seed net_arch n_ticks recurrent rho learning_rate n_envs n_steps chunk_len "
        "batch_size n_epochs gamma gae_lambda ent_coef max_grad_norm"
    )
    marked = [info.name for info in experiment.hparam_infos if info.differs]  # TensorBoard shows these first
    assert marked == ["algorithm", "rule", "modulation", "seed"]
    assert [info.name.tag for info in experiment.metric_infos] == [
        *("rollout/ep_rew_mean", "rollout/ep_len_mean", "eval/mean_reward", "train/approx_kl", "time/fps")
    ]
    scalars = read(tmp_path).Tags()["scalars"]
    assert {"rollout/ep_rew_mean", "time/fps"} <= {*scalars}  # whose last values the page shows


@pytest.mark.parametrize("chunk_states", ["stored", "refresh"])
def test_training_is_the_same_with_it_and_without(tmp_path, chunk_states):
    watched = trained_with(tmp_path / "a", PlasticityCallback(every=1, n_steps=16), chunk_states=chunk_states)
    plain = trained_with(tmp_path / "b", None, chunk_states=chunk_states)
    for (name, a), b in zip(watched.policy.named_parameters(), plain.policy.parameters(), strict=True):
        assert a.equal(b), name


def test_a_film_of_the_episode_is_written_if_asked_for_and_changes_nothing(tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(film, "_picture", lambda env, picture=film._picture: taken.append(env) or picture(env))

    def trained(folder, figure, video):
        env = VecNormalize(make_vec_env("HalfCheetah-v5", n_envs=2, seed=0))
        model = small_ppo(env, policy_kwargs=dict(rule="oja"))
        model.set_logger(configure(str(folder), ["tensorboard"]))
        return model.learn(
            3 * 64, callback=PlasticityCallback(every=2, histograms=False, figure=figure, hparams=False, video=video)
        )

    filmed, plain = trained(tmp_path / "a", True, video=90), trained(tmp_path / "b", False, video=0)
    [shown] = read(tmp_path / "a").Images("snn/episode")  # of three rollouts, the second
    assert shown.step == 2 * 64
    with Image.open(io.BytesIO(shown.encoded_image_string)) as gif:
        assert (gif.format, gif.size, gif.n_frames) == ("GIF", (shown.width, shown.height), 30)  # of each third step
    assert len(taken) == 1 + 30  # one to see whether it can be filmed; none of the steps that the figure alone shows
    assert {*read(tmp_path / "a").Tags()["images"]} == {"snn/episode", "snn/evaluation"}
    assert not read(tmp_path / "b").Tags()["images"]
    for (name, a), b in zip(filmed.policy.named_parameters(), plain.policy.parameters(), strict=True):
        assert a.equal(b), name


def test_what_cannot_be_filmed_is_told_before_the_training(tmp_path):
    with pytest.raises(UserError, match="not registered"):
        trained_with(tmp_path, PlasticityCallback(video=10))
    env = make_vec_env("HalfCheetah-v5", wrapper_class=TimeFeatureWrapper)
    model = small_ppo(env, "MultiInputPolicy", tensorboard_log=str(tmp_path))
    with pytest.raises(UserError, match=r"wrappers=\['sb3_contrib.*TimeFeatureWrapper'\], or \[\] for none"):
        model.learn(64, callback=PlasticityCallback(video=10))


def test_another_algorithm_is_refused():
    with pytest.raises(UserError, match="plastic_ppo"):
        PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8).learn(8, callback=PlasticityCallback())


def test_the_name_of_a_run_tells_rule_modulation_and_seed(tmp_path):
    model = small_ppo(
        policy_kwargs=dict(rule=["none", "bcm"], modulation="simple"), seed=5, tensorboard_log=str(tmp_path)
    )
    model.learn(1)
    assert [path.name for path in tmp_path.iterdir()] == ["PlasticPPO_none-bcm_simple_seed5_1"]


def drawn(n_steps):
    """What the figure of the training's last steps shows: chunks, rewards, and the axes."""
    model = small_ppo(policy_kwargs=dict(rule="oja", modulation="simple"))
    model.learn(96)
    callback = PlasticityCallback(n_steps=n_steps, histograms=False)
    callback.init_callback(model)
    callback._show_rollout()
    figure = model.logger.name_to_value["snn/rollout"].figure
    return model, {axes.get_title() or axes.get_ylabel() or axes.get_xlabel(): axes for axes in figure.axes}


@pytest.mark.parametrize(("asked", "chunks"), [(16, [3]), (17, [0, 3]), (100, [0, 3])])
def test_the_figure_is_of_the_last_steps_of_the_first_environment(asked, chunks):
    model, axes = drawn(asked)  # two chunks of 16 steps in each of three environments: its own are 0 and 3
    layers = layer_signals(model.policy, model.rollout_buffer.sequences(torch.tensor(chunks)))
    shown = {line.get_label(): line for line in axes["environment step of the figure"].get_lines()}
    n_steps = 16 * len(chunks)
    np.testing.assert_array_equal(shown["reward"].get_ydata(), model.rollout_buffer.rewards[-n_steps:, 0])
    for i, layer in enumerate(layers):
        modulator = shown[f"modulator, layer {i}"]
        np.testing.assert_array_equal(modulator.get_xdata(), [16, 32][: len(chunks)])
        np.testing.assert_allclose(modulator.get_ydata(), layer.modulator.mean(1), rtol=1e-6)
        (raster,) = axes[f"layer {i}, neuron"].get_lines()
        steps, neurons = raster.get_data()
        counts = np.histogram2d(steps, neurons, [np.arange(n_steps + 1), np.arange(-0.5, layer.spikes.shape[3])])[0]
        wanted = layer.spikes.sum(1).transpose(0, 1).flatten(0, 1)  # [C * L, N]
        np.testing.assert_array_equal(counts, wanted)


def test_modulators_that_are_equal_do_not_hide_each_other():
    model, _ = drawn(32)
    layers = layer_signals(model.policy, model.rollout_buffer.sequences(torch.tensor([0, 3])))
    equal = [layer._replace(modulator=layers[0].modulator) for layer in (layers[0], layers[0])]
    figure = activity_figure(equal, np.zeros(32), 16)
    first, second = (line for axes in figure.axes for line in axes.get_lines() if "modulator" in line.get_label())
    assert first.get_linewidth() > second.get_linewidth()  # which is drawn on it
    assert first.get_markersize() > second.get_markersize()


def test_the_figure_shows_the_fast_weights_as_they_are_at_the_end():
    model, axes = drawn(32)
    layers = layer_signals(model.policy, model.rollout_buffer.sequences(torch.tensor([0, 3])))
    (image,) = axes["fast weights at the end"].get_images()  # the last layer's: all have this title
    np.testing.assert_array_equal(image.get_array(), layers[-1].state.h[1])


def test_the_learning_rate_of_the_settings_is_that_of_the_start():
    assert settings_of(small_ppo(learning_rate=lambda remaining: 1e-3 * remaining))["learning_rate"] == 1e-3


def test_the_adaptive_layer_has_charts_where_there_is_one():
    assert [*chart_layout(2)] == ["layer 0", "layer 1"]
    assert [*chart_layout(1, adaptive=True)] == ["layer 0", "adaptive layer"]
