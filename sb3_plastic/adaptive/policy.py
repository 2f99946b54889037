"""AdaptivePolicy: the adaptive layer around any SB3 model."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize

from sb3_plastic.adaptive.agents import agent_of, as_actions, box, middle_and_half
from sb3_plastic.adaptive.calibration import calibrate
from sb3_plastic.adaptive.collect import Transitions, nominal_transitions, raw
from sb3_plastic.adaptive.files import AGENT, check_folder, read_layer, write_layer
from sb3_plastic.adaptive.fit import FitCurve, check_arguments, check_strengths, fit, work_of
from sb3_plastic.adaptive.forward_model import MEMBERS, NET_ARCH, ForwardModel
from sb3_plastic.adaptive.hindsight import check_length
from sb3_plastic.adaptive.hypotheses import DEFAULT, HYPOTHESES, OF_COMMANDS, checked_names
from sb3_plastic.adaptive.layer import AdaptiveLayer
from sb3_plastic.adaptive.probing import PROBING
from sb3_plastic.adaptive.settings import LOST_AT, LayerSettings
from sb3_plastic.adaptive.state import AdaptiveState
from sb3_plastic.adaptive.synapses import Synapses
from sb3_plastic.errors import UserError, check_choice, check_number
from sb3_plastic.export import ExportedPolicy, Normalization, export_policy, load_policy
from sb3_plastic.export.plain import to_plain
from sb3_plastic.progress import Progress
from sb3_plastic.safe import DamagedError
from sb3_plastic.undisturbed import undisturbed_torch
from sb3_plastic.wrappers import vectorised

Array = NDArray[Any]

HELD_OUT = 0.05
"""Share of the steps, the last ones, that calibrate the thresholds and are not trained on."""

SEED_APART = 1000
"""Between the seed of a fit and that of transitions which its forward model has not seen."""


class AdaptivePolicy:
    """
    A trained model with a layer of plastic synapses between it and the body. :meth:`fit` makes one.

    :param agent: what acts, on observations as the environment gives them; see :func:`agent_of`
    :param layer: the layer
    :param lifetime: keep estimates over episodes: a damaged robot stays damaged
    :param report: what :meth:`fit` found out, for whoever wants to know how good the forward model is
    :param features_at: the forward model reads features of the agent, too: their place in the agent's state
    """

    def __init__(
        self,
        agent: Any,
        layer: AdaptiveLayer,
        lifetime: bool = False,
        report: dict[str, Any] | None = None,
        features_at: int | None = None,
    ) -> None:
        self.agent, self.layer = agent, layer
        self.lifetime, self.report = lifetime, dict(report or {})
        self.observation_space = box("observation", agent.observation_space)
        self.action_space = box("action", agent.action_space)
        self.features_at, self._n_observations = features_at, len(layer.mean)
        if features_at is not None:
            (self._n_observations,) = self.observation_space.shape
        expected = (self._n_observations, layer.model.n_motors)
        got = self.observation_space.shape + self.action_space.shape
        if got != expected:
            raise UserError(f"The forward model has {expected} observations and motors, the agent {got}.")
        self._middle, self._half = middle_and_half(self.action_space)
        self.is_frozen = False

    @classmethod
    def fit(
        cls,
        model: Any,
        env: VecEnv | gym.Env[Any, Any],
        n_steps: int = 400_000,
        forward_model: str = "mlp",
        seed: int = 0,
        hypotheses: Sequence[str] = DEFAULT,
        always: str | None = None,
        net_arch: Sequence[int] = NET_ARCH,
        members: int = MEMBERS,
        epochs: int = 20,
        lifetime: bool = False,
        learn_rule: bool = False,
        probing: float = PROBING,
        lost_at: float = LOST_AT,
        progress_bar: bool = False,
        tensorboard_log: str | None = None,
    ) -> AdaptivePolicy:
        """
        Learn the nominal robot, and what surprise is normal for it. The networks learn side by side, each in a thread;
        with :func:`sb3_plastic.snn.scan.set_num_threads` at 1, one after the other.

        :param model: trained; any SB3 or sb3-contrib model with Box observations and actions
        :param env: the *nominal* environment of its training. 16 to 64 at once are fastest. A VecNormalize around it is
            taken into the policy, and is not updated
        :param n_steps: steps of all environments together; 400k serve the MuJoCo robots, 20k a pendulum
        :param forward_model: ``mlp`` or ``spiking``
        :param seed: of environments, excitation and training
        :param hypotheses: what may have changed, names in ``HYPOTHESES``
        :param always: a hypothesis that acts throughout, whatever the evidence: to compare with, not to walk with
        :param net_arch: units of each layer of the forward model
        :param members: networks whose mean it is
        :param epochs: passes over the transitions
        :param lifetime: keep estimates over episodes
        :param learn_rule: learn rates, noises and caution of the synapses by gradient, on changes in hindsight, beside
            their calibration; a minute
        :param probing: how commands vary while cables are in doubt, in standard deviations of their effect; 0: not
        :param lost_at: errors, in standard deviations, from which on a silent reading is taken for a lost one; 0: never
        :param progress_bar: show progress (needs tqdm)
        :param tensorboard_log: folder for TensorBoard: the forward model's loss, and what it leaves unexplained
        :return: the policy that adapts
        :raises UserError: on spaces that are no Box, an unknown name, or a robot that cannot be predicted
        """
        check_arguments(forward_model, net_arch, seed, members=members, n_steps=n_steps, epochs=epochs)
        check_strengths(probing=probing, lost_at=lost_at)
        hypotheses = checked_names(hypotheses)
        if always is not None:
            check_choice("hypothesis that always acts", always, ("nominal", *hypotheses))
        venv = vectorised(env)
        agent = agent_of(model, unwrap_vec_normalize(venv))
        observed, commanded = box("observation", model.observation_space), box("action", model.action_space)
        (n_observations,), (n_motors,) = observed.shape, commanded.shape
        if (venv.observation_space.shape, venv.action_space.shape) != (observed.shape, commanded.shape):
            raise UserError(
                f"The model has {n_observations} observations and {n_motors} motors, the environment "
                f"{venv.observation_space} and {venv.action_space}: fit it in that of its training."
            )
        if learn_rule:  # or it is refused after minutes
            check_length((n := -(-n_steps // venv.num_envs)) - cut_of(n))
        seed = int(seed)  # of numpy's numbers torch takes none
        generator = torch.Generator().manual_seed(seed)
        with undisturbed_torch(), Progress(progress_bar) as progress, FitCurve(tensorboard_log, progress) as curve:
            transitions = nominal_transitions(agent, raw(venv), n_steps, seed, progress)
            cut = cut_of(len(transitions.o))
            training, held_out = (Transitions(*(x[i] for x in transitions)) for i in (slice(cut), slice(cut, None)))
            torch.default_generator.manual_seed(seed)  # that of the CPU alone: others are not restored
            network = ForwardModel(n_observations, n_motors, forward_model, tuple(net_arch), members)
            curve.begin(work_of(epochs, training.starts.size, members))
            shares = fit(network, training, held_out, epochs, generator, curve.tick)
            curve.end(shares)
            layer = AdaptiveLayer(network, LayerSettings(hypotheses, always=always, probing=probing, lost_at=lost_at))
            settings = calibrate(layer, held_out, transitions.o[transitions.starts], learn_rule)
        report = {
            "n_steps": int(transitions.starts.size),
            "seed": seed,
            "unexplained": {str(int(i)): round(float(s), 5) for i, s in zip(network.components, shares, strict=True)},
        }
        return cls(agent, AdaptiveLayer(network, settings), lifetime, report)

    def with_settings(
        self,
        settings: LayerSettings,
        env: VecEnv,
        n_steps: int = 20_000,
        seed: int | None = None,
        learn_rule: bool = False,
    ) -> AdaptivePolicy:
        """
        The same forward model under other settings: other hypotheses, for instance. Thresholds are calibrated on new
        nominal transitions.

        :param settings: plain data; its thresholds are replaced, those of a learned rule, too, whose rest stays
        :param env: the nominal environment; of a layer inside a policy, with the VecNormalize of its training
        :param n_steps: steps of all environments together
        :param seed: of environments and excitation; not that of :meth:`fit`, whose transitions the model knows. None:
            that plus 1000
        :param learn_rule: as for :meth:`fit`
        :raises UserError: on a number out of range, too few steps, no VecNormalize, or a model that reads features
        """
        if self.features_at is not None:
            raise UserError("The forward model reads the actor's spikes: train the policy again for other settings.")
        check_number("n_steps", n_steps, at_least=1, integer=True)
        seed = self.report.get("seed", 0) + SEED_APART if seed is None else seed
        check_number("seed", seed, at_least=0, integer=True)
        seed = int(seed)  # of numpy's numbers environments take none
        zero, venv = self.layer.settings.sensor_zero, raw(vectorised(env))
        if zero:  # inside a policy, the layer observes what is normalised
            if not isinstance(env, VecNormalize):
                raise UserError("This layer observes what VecNormalize shows: give environments in that of training.")
            venv = Normalization.of(env).around(venv)
        with Progress(False) as progress:
            transitions = nominal_transitions(self.agent, venv, n_steps, seed, progress)
        settings = replace(settings, sensor_zero=zero)
        calibrated = calibrate(AdaptiveLayer(self.layer.model, settings), transitions, learn_rule=learn_rule)
        layer = AdaptiveLayer(self.layer.model, calibrated)
        return AdaptivePolicy(self.agent, layer, self.lifetime, self.report).prepared(self.is_frozen)

    # Acting

    def initial_state(self, n_envs: int) -> AdaptiveState:
        """The layer's state before the first observation of an episode. :param n_envs: B"""
        return self.layer.initial_state(n_envs)

    def predict(
        self,
        observation: Array | dict[str, Array],
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Array, tuple[Array, ...]]:
        """
        As SB3's: actions for observations, and the state to pass in next time.

        :param observation: *raw* ones, of one environment [O] or of several [B, O]
        :param state: what the last call returned, None to start afresh
        :param episode_start: where an episode starts, [B]; there the state is reset first
        :param deterministic: take the model's most likely actions
        :return: actions, and the state: the layer's arrays, then the agent's own
        :raises UserError: on observations of the wrong shape, or a state of other environments
        """
        if isinstance(observation, dict | tuple):  # which SB3's type of a policy allows
            raise UserError(
                f"Observations are arrays, got a {type(observation).__name__}. Of what reset() returns pass the first."
            )
        o = np.array(observation, np.float64)  # a copy, which the state keeps: environments reuse theirs
        single = o.ndim == 1
        o = o[None] if single else o
        n = self._n_observations
        if o.ndim != 2 or o.shape[1] != n:
            raise UserError(f"Observations are [{n}] or [n_envs, {n}], got {np.shape(observation)}.")
        if self.features_at is not None:  # not known before the agent has acted, and not needed
            o = np.concatenate([o, np.tile(self.layer.mean[n:], (len(o), 1))], 1)
        layer, agent_state = self.split_state(state, len(o))
        starts = np.zeros(len(o), bool) if episode_start is None else np.asarray(episode_start, bool).reshape(-1)
        if len(starts) != len(o):
            raise UserError(f"episode_start has {len(starts)} entries, but there are {len(o)} environments.")
        layer = self.layer.reset(layer, starts, self.lifetime)
        layer, o, seen = self.layer.fill(layer, o, off=self.is_frozen)
        layer = self.layer.kept(layer) if self.is_frozen else self.layer.observe(layer, o, seen)
        sensed = self.layer.sense(layer, o)[:, :n]
        actions, agent_state = self.agent.predict(
            sensed, state=agent_state, episode_start=starts, deterministic=deterministic
        )
        if self.features_at is not None and agent_state is not None:
            o = np.concatenate([o[:, :n], agent_state[self.features_at]], 1)
        intended = (np.asarray(actions, np.float64) - self._middle) / self._half
        command, layer = self.layer.command(layer, o, seen, intended)
        changed = layer.acting > 0  # where nominal acts, the action is the model's own, bit for bit
        commands = as_actions(command, self.action_space)
        out = np.where(changed[:, None], commands, actions).astype(commands.dtype, copy=False)
        return (out[0] if single else out), (*layer.arrays(), *(agent_state or ()))

    def split_state(
        self, state: tuple[Array, ...] | None, n_envs: int | None = None
    ) -> tuple[AdaptiveState, tuple[Array, ...] | None]:
        """
        The layer's part of a state, and the agent's.

        :param state: what :meth:`predict` returned; None: that before the first step
        :param n_envs: B; None: as many as the state has, which then cannot be None
        :raises UserError: if it is a state of other environments, or of another model, or none where one is asked for
        """
        if state is None and n_envs is not None:
            return self.layer.initial_state(n_envs), None
        if not state:
            raise UserError(f"A state is what predict returned, got {state!r}: before the first step there is none.")
        n = len(self.layer.shapes)
        return self.layer.state_of(state[:n], n_envs), tuple(state[n:]) or None

    # Controls: the same policy with its adaptation taken away. What `evaluate` asks of a policy that is plastic.

    def plastic_layers(self) -> list[str]:
        """The hypotheses beside nominal. Those without synapses act, too: a control takes them away."""
        return [hypothesis.name for hypothesis in self.layer.hypotheses[1:]]

    def prepared(self, frozen: bool = False, keep_fast_weights: bool | None = None) -> AdaptivePolicy:
        """
        The same policy with its layer under a control.

        :param frozen: nothing is learned, and silent sensors are believed; from the start of an episode on (with
            ``lifetime``: from a fresh state on), this is the layer switched off. A frozen policy stays frozen, also in
            a file
        :param keep_fast_weights: whether estimates survive the start of an episode; None: as the policy is
        """
        controlled = copy(self)
        controlled.is_frozen = self.is_frozen or frozen
        controlled.lifetime = self.lifetime if keep_fast_weights is None else keep_fast_weights
        return controlled

    def zero_fast_weights(self, state: tuple[Array, ...], rows: Array) -> tuple[Array, ...]:
        """The same state, with all estimates forgotten in some rows (bool [B])."""
        layer, agent_state = self.split_state(state, len(rows))
        return (*self.layer.forget(layer, rows).arrays(), *(agent_state or ()))

    def fast_weight_norms(self, state: tuple[Array, ...]) -> Array:
        """How far the estimates of each hypothesis are from nominal (root mean square), [B, L]; 0 without synapses."""
        layer = self.split_state(state)[0]
        norms = np.zeros((len(state[0]), len(self.layer.hypotheses) - 1))
        for k, (h, s) in enumerate(zip(self.layer.hypotheses[1:], layer.synapses[1:], strict=True)):
            if len(h.start()):
                norms[:, k] = np.sqrt(np.square(h.believed(s)[0] - h.start()).mean(1))
        return norms

    def with_hypotheses(self, *names: str, always: str | None = None) -> AdaptivePolicy:
        """
        The same policy with other hypotheses, on the same forward model: to compare estimators without another fit.
        Those that :meth:`fit` has not calibrated get a surprise threshold in the middle of the others'.

        :param names: in ``HYPOTHESES``; nominal is always among them
        :param always: one of them that acts throughout, whatever the evidence
        :raises UserError: on an unknown name, or one that a forward model of the actor's spikes cannot serve
        """
        names = checked_names(names, HYPOTHESES if self.features_at is None else ("nominal", *OF_COMMANDS))
        settings = self.layer.settings
        known = settings.surprise_threshold
        middle = float(np.median(list(known.values())))
        thresholds = {name: known.get(name, middle) for name in ("nominal", *names)}
        changed = replace(settings, hypotheses=names, surprise_threshold=known | thresholds, always=always)
        other = copy(self)
        other.layer = AdaptiveLayer(self.layer.model, changed)
        return other

    def adaptive_policy(self) -> AdaptivePolicy:
        """This: see :func:`~sb3_plastic.adaptive.agents.layer_around`."""
        return self

    def estimates(self, state: tuple[Array, ...]) -> dict[str, Synapses]:
        """What each hypothesis believes, by name. :param state: what :meth:`predict` returned"""
        known = zip(self.layer.hypotheses, self.split_state(state)[0].synapses, strict=True)
        return {h.name: synapses._replace(mean=h.believed(synapses)[0]) for h, synapses in known}

    def acting(self, state: tuple[Array, ...]) -> list[str]:
        """The hypothesis that acts in each environment. :param state: what :meth:`predict` returned"""
        return [self.layer.names[k] for k in self.split_state(state)[0].acting]

    # Files

    def save(self, folder: str | Path) -> None:
        """
        Write the policy into a folder of plain files, which run no code: see :mod:`sb3_plastic.adaptive.files`.

        :param folder: made if it does not exist
        :raises UserError: if the agent is no policy of a model, or holds something that is no plain data, or the folder
            holds something else
        """
        if not isinstance(self.agent, ExportedPolicy):
            raise UserError(
                f"The agent of this layer is {type(self.agent).__name__}, which cannot be written. A policy that "
                "adapts by itself (policy_kwargs=dict(adaptive=...)) holds its layer: save or export that one."
            )
        network = self.layer.model
        config: dict[str, Any] = {
            "forward_model": {
                "n_motors": network.n_motors,
                "body": network.kind,
                "net_arch": list(network.net_arch),
                "members": len(network.members),
            },
            "settings": asdict(self.layer.settings),
            "lifetime": self.lifetime,
            "frozen": self.is_frozen,
            "report": self.report,
        }
        config = to_plain(config, "the layer")  # or it is refused, before anything is written
        check_folder(Path(folder))
        export_policy(self.agent.policy, Path(folder) / AGENT, self.agent.normalization, self.agent.training)
        write_layer(Path(folder), config, network.state_dict())

    @classmethod
    def load(cls, folder: str | Path) -> AdaptivePolicy:
        """
        Read what :meth:`save` wrote. Nothing in it is run.

        :param folder: of the policy
        :raises UserError: if the folder is not ours
        :raises DamagedError: if a file is missing or damaged
        """
        config, weights = read_layer(Path(folder))
        agent = load_policy(Path(folder) / AGENT)
        try:
            made, stored = config["forward_model"], config["settings"]
            shape = made["n_motors"], made["body"], tuple(made["net_arch"]), made["members"]
            with torch.random.fork_rng(devices=[]):  # the weights that are drawn only to be replaced
                network = ForwardModel(len(weights["mean"]), *shape)
            network.keep(weights["components"])
            network.load_state_dict(weights)
            settings = LayerSettings.from_plain(stored)
            layer = AdaptiveLayer(network.requires_grad_(False), settings)
            return cls(agent, layer, config["lifetime"], config["report"]).prepared(config.get("frozen", False))
        except UserError as error:  # of a hypothesis of one's own, for instance, that is not entered
            raise UserError(f"{folder}: {error}") from error
        except (KeyError, TypeError, RuntimeError, AttributeError, IndexError, ValueError) as error:
            raise DamagedError(str(folder), f"configuration and tensors do not fit ({error})") from error


def cut_of(n_steps: int) -> int:
    """How many steps of each environment are learned from; the others are held out. :param n_steps: all"""
    return max(int(n_steps * (1 - HELD_OUT)), 1)
