"""PlasticityCallback: histograms, a spike raster, fast weights, films and grouped charts in TensorBoard."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Figure, TensorBoardOutputFormat
from torch import Tensor

from sb3_plastic.errors import UserError, check_number
from sb3_plastic.monitor import episode_sequences, layer_signals
from sb3_plastic.ppo import PlasticPPO
from sb3_plastic.snn.network import LayerSignals

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

ONLY_TENSORBOARD = ("stdout", "log", "json", "csv")

METRICS = ("rollout/ep_rew_mean", "rollout/ep_len_mean", "eval/mean_reward", "train/approx_kl", "time/fps")
"""Scalars that the HParams page shows beside the settings: their last values."""

FIRST = ("algorithm", "rule", "modulation", "seed")
"""Settings that stand first on the HParams page: those that a run's name tells."""

CHARTS = {
    "spikes": ("spike_rate", "silent"),
    "weights": ("w_norm", "h_norm", "h_effect", "h_saturated"),
    "modulator": ("modulator_mean", "modulator_std"),
    "plasticity": ("alpha_std", "eta_mean", "eta_std"),
}
"""Charts of a layer on the Custom Scalars page, and the statistics in each."""

LAYER_CHARTS = {
    "prediction error": [r"adaptive/unexplained$", r"adaptive/unexplained_worst", r"adaptive/nis"],
    "surprise": [r"adaptive/(nominal|before|after)/surprise$"],
    "acting": [r"adaptive/(nominal|before|after)/acting/.*"],
    "responsibilities": [r"adaptive/(nominal|before|after)/responsibility/.*"],
    "estimates": [r"adaptive/(nominal|before|after)/(estimate|spread)/.*"],
}
"""Likewise of the adaptive layer; regular expressions, which TensorBoard holds to the beginning of a name."""


class PlasticityCallback(BaseCallback):
    """
    Show a plastic network in TensorBoard while PlasticPPO trains. In RL Zoo's YAML::

        callback:
          - sb3_plastic.callbacks.PlasticityCallback: {every: 30}

    Every so many rollouts:

    - ``snn/layer{i}/`` histograms of ``w``, ``alpha``, ``eta``, ``h`` and of the neurons' spike ``rates``
    - ``snn/evaluation``: a figure of an evaluation episode's first steps, with the most likely actions: spikes of each
      layer, the fast weights at the end, and the modulator beside the reward. Where no environment can be made for it,
      ``snn/rollout``: likewise of the first environment's last steps in the training, with rewards as PPO has them:
      at a time limit with the value of what would have followed
    - ``snn/episode``: a film of the same evaluation episode, if ``video`` asks for it

    Once, at the start: the settings for the HParams page, and charts grouped by layer for the Custom Scalars page.

    :param every: rollouts between two figures, at least 1
    :param histograms: write the histograms
    :param figure: draw the figure, which needs matplotlib
    :param hparams: write the settings
    :param layout: write the grouped charts
    :param n_steps: environment steps that the figure shows, at most; of a training, at most a rollout's
    :param video: environment steps of the film, at most; 0: no film
    :param wrappers: of the training's environments, as RL Zoo's ``env_wrapper``, for the evaluation episode; None:
        those of the training, if they tell their arguments
    :raises UserError: at the start of training of another algorithm, or of what cannot be filmed
    """

    def __init__(
        self,
        every: int = 30,
        histograms: bool = True,
        figure: bool = True,
        hparams: bool = True,
        layout: bool = True,
        n_steps: int = 128,
        video: int = 0,
        wrappers: Sequence[str | Mapping[str, Any]] | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        check_number("every", every, at_least=1, integer=True)
        check_number("n_steps", n_steps, at_least=1, integer=True)
        check_number("video", video, at_least=0, integer=True)
        self.every, self.n_steps = every, n_steps
        self.video, self.wrappers = video, wrappers
        self.histograms, self.figure, self.hparams, self.layout = histograms, figure, hparams, layout
        self._n_rollouts = 0
        self._plays = False

    def _algorithm(self) -> PlasticPPO:
        if not isinstance(self.model, PlasticPPO):
            raise UserError(
                f"PlasticityCallback shows networks that PlasticPPO trains, got {type(self.model).__name__}: "
                "remove the callback, or train with plastic_ppo."
            )
        return self.model

    def _on_training_start(self) -> None:
        model = self._algorithm()
        if self.verbose and not self._outputs():
            print("PlasticityCallback writes to TensorBoard, and there is none: give the model a `tensorboard_log`")
        if self.hparams:
            for output in self._outputs():
                write_settings(output, settings_of(model))
        if self.layout:
            for output in self._outputs():
                layout = chart_layout(len(model.policy.snn.layers), model.policy.beside is not None)
                output.writer.add_custom_scalars(layout)
        self._plays = bool((self.figure or self.video) and self._outputs()) and self._can_play()

    def _can_play(self) -> bool:
        """Whether there can be evaluation episodes; what cannot be filmed is told here, before the training."""
        from sb3_plastic.evaluation.training_episode import play_training

        try:
            play_training(self._algorithm(), 1, self.wrappers, self.video)
        except (UserError, ImportError) as error:
            if self.video:
                raise
            if self.verbose:
                print(f"PlasticityCallback draws the last training steps, no evaluation episode: {error}")
            return False
        return True

    def _outputs(self) -> list[TensorBoardOutputFormat]:
        return [output for output in self.logger.output_formats if isinstance(output, TensorBoardOutputFormat)]

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._n_rollouts += 1
        if self._n_rollouts % self.every or not self._outputs():
            return
        if self._plays:
            self._show_episode()
        if self.histograms or (self.figure and not self._plays):
            self._show_rollout()

    def _show_episode(self) -> None:
        from sb3_plastic.evaluation.training_episode import film_of, play_training

        model = self._algorithm()
        n_steps = max(self.n_steps if self.figure else 0, self.video)
        episode = play_training(model, n_steps, self.wrappers, self.video)
        film = film_of(episode, self.video) if self.video else None
        if film is not None:
            for output in self._outputs():
                write_film(output, "snn/episode", film, self.num_timesteps)
        if self.figure and episode.shots:
            n = self.n_steps
            steps = episode_sequences(model.policy, episode.observations[:n], episode.states[:n])
            rewards = np.array([shot.reward for shot in episode.shots[:n]])
            figure = activity_figure(layer_signals(model.policy, steps), rewards, 1)
            self.logger.record("snn/evaluation", Figure(figure, close=True), exclude=ONLY_TENSORBOARD)

    def _show_rollout(self) -> None:
        model = self._algorithm()
        buffer = model.rollout_buffer
        n_chunks = min(-(-self.n_steps // buffer.chunk_len), buffer.buffer_size // buffer.chunk_len)
        # Chunks are numbered chunk by chunk, environment by environment: the last ones of the first environment.
        last = torch.arange(buffer.buffer_size // buffer.chunk_len)[-n_chunks:] * buffer.n_envs
        layers = layer_signals(model.policy, buffer.sequences(last))
        if self.histograms:
            for i, layer in enumerate(layers):
                for name, values in histograms_of(layer).items():
                    self.logger.record(f"snn/layer{i}/{name}", values, exclude=ONLY_TENSORBOARD)
        if self.figure and not self._plays:
            rewards = buffer.rewards[-n_chunks * buffer.chunk_len :, 0]
            figure = activity_figure(layers, rewards, buffer.chunk_len)
            self.logger.record("snn/rollout", Figure(figure, close=True), exclude=ONLY_TENSORBOARD)


def write_film(output: TensorBoardOutputFormat, name: str, film: bytes, step: int) -> None:
    """
    Put a film on TensorBoard's Images page. SB3's ``Video`` does not: its writer asks for a moviepy below 2.

    :param output: SB3's
    :param name: of the film
    :param film: a GIF
    :param step: of the training
    """
    from tensorboard.compat.proto.summary_pb2 import Summary

    with Image.open(io.BytesIO(film)) as picture:
        width, height = picture.size
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=film)
    assert output.writer.file_writer is not None
    output.writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)


def write_settings(output: TensorBoardOutputFormat, settings: Mapping[str, bool | str | float]) -> None:
    """
    Put the settings of a training on the HParams page, the metrics behind them. SB3's ``HParam`` does not mark any, and
    TensorBoard sorts what is not marked by name.

    :param output: SB3's
    :param settings: in order
    """
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
    from torch.utils.tensorboard.summary import hparams

    experiment, *session = hparams(dict(settings), dict.fromkeys(METRICS, 0.0))
    plugin_data = experiment.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(plugin_data.content)
    for info in content.experiment.hparam_infos:
        info.differs = info.name in FIRST
    plugin_data.content = content.SerializeToString()
    assert output.writer.file_writer is not None
    for summary in (experiment, *session):
        output.writer.file_writer.add_summary(summary)


def settings_of(model: PlasticPPO) -> dict[str, bool | str | float]:
    """
    The settings of a training, as the HParams page takes them: numbers and text. In order: what a run's
    name tells, the network, the training.

    :param model: the algorithm
    """
    config = model.policy.snn.config
    found: dict[str, Any] = {
        "algorithm": type(model).__name__,
        "rule": config.rule,
        "modulation": config.modulation,
        "seed": model.seed,
        "net_arch": model.policy.net_arch,
        "n_ticks": config.n_ticks,
        "recurrent": config.recurrent,
        "rho": config.rho,
        "learning_rate": model.lr_schedule(1.0),
        "n_envs": model.n_envs,
        "n_steps": model.n_steps,
        "chunk_len": model.rollout_buffer.chunk_len,
        "batch_size": model.batch_size,
        "n_epochs": model.n_epochs,
        "gamma": model.gamma,
        "gae_lambda": model.gae_lambda,
        "ent_coef": model.ent_coef,
        "max_grad_norm": model.max_grad_norm,
    }
    return {name: value if isinstance(value, bool | int | float | str) else str(value) for name, value in found.items()}


def chart_layout(n_layers: int, adaptive: bool = False) -> dict[str, dict[str, list[Any]]]:
    """
    Charts for the Custom Scalars page, one group per layer.

    :param n_layers: layers of the network
    :param adaptive: whether there is an adaptive layer, too
    """
    last = {"adaptive layer": {chart: ["Multiline", names] for chart, names in LAYER_CHARTS.items()}}
    return {
        f"layer {i}": {
            chart: ["Multiline", [f"snn/layer{i}_{name}" for name in names]] for chart, names in CHARTS.items()
        }
        for i in range(n_layers)
    } | (last if adaptive else {})


def histograms_of(layer: LayerSignals) -> dict[str, Tensor]:
    """
    What to count of one layer, by name.

    :param layer: what the layer did
    :return: ``w`` [M, N], ``rates`` [N]; of a plastic layer ``alpha`` and ``eta`` [M, N] and ``h`` [C, M, N], too
    """
    p = layer.parameters
    found = {"w": p.w, "rates": layer.spikes.mean((0, 1, 2))}
    if layer.config.rule != "none":
        found |= {"alpha": p.alpha, "eta": p.eta, "h": layer.state.h}
    return {name: values.detach().cpu() for name, values in found.items()}


def activity_figure(layers: list[LayerSignals], rewards: np.ndarray, chunk_len: int) -> Canvas:
    """
    Spikes over time, fast weights at the end, modulator and reward.

    :param layers: what each layer did in C chunks of L steps of one environment, as if they were C environments
    :param rewards: of these steps, [C * L]
    :param chunk_len: steps of a chunk, L
    :return: a figure of matplotlib
    """
    from matplotlib.figure import Figure as Canvas

    n = len(layers)
    figure = Canvas(figsize=(10, 2.2 * n + 2), layout="constrained")
    grid = figure.add_gridspec(n + 1, 2, width_ratios=(3, 1))
    for i, layer in enumerate(layers):
        K = layer.spikes.shape[1]
        trains = layer.spikes.permute(2, 0, 1, 3).flatten(0, 2).cpu().numpy()  # [C * L * K, N]
        ticks, neurons = np.nonzero(trains)
        raster = figure.add_subplot(grid[i, 0])
        raster.plot(ticks / K, neurons, "|", color="black", markersize=2.5, markeredgewidth=0.8)
        raster.set(xlim=(0, len(rewards)), ylim=(-0.5, trains.shape[1] - 0.5), ylabel=f"layer {i}, neuron")
        if layer.state.h.numel():
            h = layer.state.h[-1].cpu().numpy()  # [M, N]
            heat = figure.add_subplot(grid[i, 1])
            bound = layer.config.h_max
            image = heat.imshow(h, aspect="auto", cmap="RdBu", vmin=-bound, vmax=bound, interpolation="nearest")
            heat.set(title="fast weights at the end", xlabel="neuron", ylabel="input")
            figure.colorbar(image, ax=heat)
    below = figure.add_subplot(grid[n, 0])
    below.plot(np.arange(len(rewards)), rewards, color="gray", linewidth=1, label="reward")
    at = np.arange(1, len(rewards) // chunk_len + 1) * chunk_len
    for i, layer in enumerate(layers):
        if layer.modulator is not None:
            mean, k = layer.modulator.mean(-1).cpu().numpy(), n - 1 - i  # the last are thin: equal ones are seen
            size, width, label = 3 + 3 * k, 1 + 2 * k, f"modulator, layer {i}"
            below.plot(at, mean, "o-", markersize=size, linewidth=width, label=label)
    below.set(xlabel="environment step of the figure", xlim=(0, len(rewards)))
    beside = figure.add_subplot(grid[n, 1])
    beside.axis("off")
    beside.legend(*below.get_legend_handles_labels(), loc="upper left", fontsize="small")
    return figure
