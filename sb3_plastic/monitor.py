"""What to watch in TensorBoard: the statistics of a plastic spiking network while it learns."""

from __future__ import annotations

import torch

from sb3_plastic.buffers import ChunkedRolloutBuffer
from sb3_plastic.policies import PlasticPolicy
from sb3_plastic.snn.network import PlasticSNN
from sb3_plastic.snn.scan.reference import modulator
from sb3_plastic.snn.state import SNNState


def snn_statistics(policy: PlasticPolicy, buffer: ChunkedRolloutBuffer, n_sequences: int = 16) -> dict[str, float]:
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
    :param buffer: a complete rollout, of which minibatches have been drawn
    :param n_sequences: chunks to run; the cost is that of one forward pass over so many
    :return: statistics by the name under which they are logged
    """
    chunk = buffer.sequences(torch.linspace(0, buffer.n_sequences - 1, n_sequences).long())
    with torch.no_grad(), policy.evaluating():
        features = policy.extract_features(chunk.observations)
        features = features[0] if isinstance(features, tuple) else features
        state = SNNState.from_tensors(policy.split_state(chunk.state)[0])
        return _statistics(policy.snn, features.unflatten(0, chunk.episode_starts.shape), chunk.episode_starts, state)


def _statistics(
    snn: PlasticSNN, features: torch.Tensor, episode_starts: torch.Tensor, state: SNNState
) -> dict[str, float]:
    def rms(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.square().mean().sqrt()

    trains, state = snn.spike_trains(features, episode_starts, state)
    statistics: dict[str, torch.Tensor] = {}
    for i, (layer, spikes, layer_state) in enumerate(zip(snn.layers, trains, state.layers, strict=True)):
        p = layer.effective_parameters()
        values = {
            "spike_rate": spikes.mean(),
            "silent": (spikes.sum((0, 1, 2)) == 0).float().mean(),
            "w_norm": rms(p.w),
        }
        if layer.config.rule != "none":
            values |= {
                "h_norm": rms(layer_state.h),
                "h_effect": rms(p.alpha * layer_state.h),
                "h_saturated": (layer_state.h.abs() >= layer.config.h_max).float().mean(),
                "alpha_std": p.alpha.std(),
                "eta_mean": p.eta.mean(),
                "eta_std": p.eta.std(),
            }
            external = layer.external_modulator(features)
            if layer.config.modulation != "none" or external is not None:
                y = layer_state.y_trace
                m = modulator(y, p) if layer.config.modulation != "none" else torch.ones_like(y)
                m = m if external is None else m * external[-1]
                values |= {"modulator_mean": m.mean(), "modulator_std": m.std()}
        statistics |= {f"snn/layer{i}_{name}": value for name, value in values.items()}
    return {name: value.item() for name, value in statistics.items()}
