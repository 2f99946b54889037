"""Neurons: pure functions from the state and current of one tick to the next state.

A new neuron is one function with the signature of :func:`lif` and a line in ``NEURONS``, for example one whose membrane
is set back to zero by a spike::

    def lif_hard_reset(v, z, current, beta, threshold, fire):
        v = beta * v * (1 - z) + current
        return v, fire(v - threshold)

    NEURONS["lif_hard_reset"] = lif_hard_reset
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Fire = Callable[[Tensor], Tensor]
Neuron = Callable[[Tensor, Tensor, Tensor, Tensor, float, Fire], tuple[Tensor, Tensor]]


def lif(v: Tensor, z: Tensor, current: Tensor, beta: Tensor, threshold: float, fire: Fire) -> tuple[Tensor, Tensor]:
    """
    Leaky integrate-and-fire neuron, discrete in time, with a soft reset (subtraction of the threshold)::

        v[k] = beta v[k-1] - threshold z[k-1] + I[k]
        z[k] = H(v[k] - threshold)

    :param v: membrane potentials, [B, N]
    :param z: spikes of the last tick, [B, N]; detached by the caller if the reset is not to be differentiated
    :param current: input currents ``I``, [B, N]
    :param beta: decay of the membrane per tick, in [0, 1], [N]
    :param threshold: firing threshold, above 0
    :param fire: the spike function, ``u -> H(u)`` with a surrogate derivative
    :return: the new potentials and spikes, each [B, N]
    """
    v = beta * v - threshold * z + current
    return v, fire(v - threshold)


NEURONS: dict[str, Neuron] = {"lif": lif}
"""Neurons by name."""
