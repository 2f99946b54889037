"""What to watch in TensorBoard: the statistics of a plastic spiking network while it learns."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from sb3_plastic.adaptive.collect import Transitions
from sb3_plastic.adaptive.options import ACTOR
from sb3_plastic.buffers import ChunkedRolloutBuffer, Sequences
from sb3_plastic.observations import Obs, stack_obs
from sb3_plastic.policies import PlasticPolicy
from sb3_plastic.snn.network import LayerSignals
from sb3_plastic.snn.state import SNNState, tensors_from_arrays
from sb3_plastic.stepper import evaluating
from sb3_plastic.teacher import divergence

CHUNKS = 16
"""Of a rollout, that are looked at. The cost is that of one forward pass over so many."""


def snn_statistics(policy: PlasticPolicy, buffer: ChunkedRolloutBuffer) -> dict[str, float]:
    """
    Run the network over some chunks of the last rollout, and describe what it does.

    Per layer i, under ``snn/layer{i}_``:

    - ``spike_rate``: spikes per neuron and tick, in [0, 1]; useful layers are between .05 and .5
    - ``silent``: fraction of neurons that did not fire at all
    - ``h_norm``: root mean square of the fast weights; ``h_effect``: of ``alpha h``, and ``w_norm`` of the fixed
      weights, to be compared
    - ``h_saturated``: fraction of fast weights at their bound; a third or more says that eta is too large
    - ``modulator_mean``, ``modulator_std``: of the modulator, over neurons and chunks
    - ``alpha_std``, ``eta_mean``, ``eta_std``: of the learned parameters of plasticity

    :param policy: policy
    :param buffer: a complete rollout
    :return: statistics by the name under which they are logged
    """
    return signal_statistics(layer_signals(policy, _some(buffer)))


def signal_statistics(layers: list[LayerSignals]) -> dict[str, float]:
    """
    The statistics of :func:`snn_statistics`.

    :param layers: what each layer of a network did
    :return: statistics by the name under which they are logged
    """
    return {
        f"snn/layer{i}_{name}": value.item()
        for i, layer in enumerate(layers)
        for name, value in _of_layer(layer).items()
    }


def layer_signals(policy: PlasticPolicy, chunk: Sequences) -> list[LayerSignals]:
    """
    Run the actor over sequences, such as chunks of the last rollout, with its present parameters.

    :param policy: policy
    :param chunk: C sequences
    :return: what each layer did; the sequences are its rows
    """
    with torch.no_grad(), evaluating(policy):
        features = policy.extract_features(chunk.observations)
        features = features[0] if isinstance(features, tuple) else features
        features = features.unflatten(0, chunk.episode_starts.shape)
        state = SNNState.from_tensors(policy.split_state(chunk.state)[0])
        return policy.snn.prepared().signals(features, chunk.episode_starts, state)


def episode_sequences(
    policy: PlasticPolicy, observations: Iterable[Obs], states: Iterable[tuple[np.ndarray, ...]]
) -> Sequences:
    """
    An episode that a policy has played from its start, each step a sequence of its own.

    :param policy: policy
    :param observations: before each step, as ``predict`` takes them, [1, ...] each
    :param states: after each step, as ``predict`` returns them
    """
    seen: list[Obs] = [policy.obs_to_tensor(observation)[0] for observation in observations]
    start = policy.initial_state(1, random=False)
    # An adaptive layer's arrays come first; the last state is followed by no step.
    steps = [start, *(tensors_from_arrays(state[-len(start) :], start, 1) for state in states)][: len(seen)]
    joined = stack_obs(seen, torch.cat)
    starts = torch.zeros(1, len(seen), dtype=torch.bool, device=policy.device)
    starts[0, 0] = True
    return Sequences(joined, starts, tuple(torch.cat(tensors) for tensors in zip(*steps, strict=True)))


def nominal_transitions(policy: PlasticPolicy, buffer: ChunkedRolloutBuffer) -> Transitions:
    """
    The last rollout, for the forward model of an adaptive layer; with the actor's filtered spikes if it reads them.

    :param policy: with a layer
    :param buffer: a complete rollout
    """
    features = None
    if policy.beside is not None and policy.beside.options.forward_model == ACTOR:
        chunk = buffer.sequences(torch.arange(buffer.n_sequences))
        with torch.no_grad(), evaluating(policy):
            latents = policy.prepared().latents(chunk.observations, chunk.episode_starts, chunk.state)[0]
        by_chunk = latents.unflatten(0, (buffer.chunk_len, -1, buffer.n_envs)).transpose(0, 1)  # [n_chunks, L, B, N]
        gain = float(policy.snn.readout.gain)  # type: ignore[attr-defined]
        features = by_chunk.flatten(0, 1).cpu().numpy() / gain
    return buffer.transitions(policy.action_space, policy.squash_output, features)


def run_name(algorithm: BaseAlgorithm, policy: PlasticPolicy) -> str:
    """
    The name of a run in TensorBoard: algorithm, rule, modulation and seed, as ``PlasticPPO_oja_simple_seed1``.

    :param algorithm: the algorithm
    :param policy: its policy
    """
    config = policy.snn.config
    values = [type(algorithm).__name__, config.rule, config.modulation, f"seed{algorithm.seed}"]
    parts = ["-".join(map(str, value)) if isinstance(value, list | tuple) else str(value) for value in values]
    return "_".join(parts)


def teacher_kl(policy: PlasticPolicy, buffer: ChunkedRolloutBuffer) -> float:
    """
    KL from a teacher's to the student's distribution of actions, over some chunks of the last rollout.

    :param policy: the student
    :param buffer: a complete rollout with a teacher's actions
    :return: mean, in nats
    """
    chunk = _some(buffer)
    assert chunk.teacher_actions is not None
    with torch.no_grad(), evaluating(policy):
        latent_pi, _, _ = policy.prepared().latents(chunk.observations, chunk.episode_starts, chunk.state)
        distribution = policy._get_action_dist_from_latent(latent_pi)
        return divergence(distribution, chunk.teacher_actions, policy.action_space).mean().item()


def _some(buffer: ChunkedRolloutBuffer) -> Sequences:
    return buffer.sequences(torch.linspace(0, buffer.n_sequences - 1, CHUNKS).round().long().unique())


def _of_layer(layer: LayerSignals) -> dict[str, Tensor]:
    def rms(tensor: Tensor) -> Tensor:
        return tensor.square().mean().sqrt()

    def spread(tensor: Tensor) -> Tensor:
        return tensor.std(correction=min(1, tensor.numel() - 1))  # 0 of a single number, as of equal ones

    p, h, m = layer.parameters, layer.state.h, layer.modulator
    statistics = {
        "spike_rate": layer.spikes.mean(),
        "silent": (layer.spikes.sum((0, 1, 2)) == 0).float().mean(),
        "w_norm": rms(p.w),
    }
    if layer.config.rule != "none":
        statistics |= {
            "h_norm": rms(h),
            "h_effect": rms(p.alpha * h),
            "h_saturated": (h.abs() >= layer.config.h_max).float().mean(),
            "alpha_std": spread(p.alpha),
            "eta_mean": p.eta.mean(),
            "eta_std": spread(p.eta),
        }
        if m is not None:
            statistics |= {"modulator_mean": m.mean(), "modulator_std": spread(m)}
    return statistics
