"""The sizes of a layer, read off its tensors and checked: in compiled code a wrong shape is a wild pointer."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch

from sb3_plastic.snn.rules import Rule
from sb3_plastic.snn.scan.types import LayerConfig, LayerParameters
from sb3_plastic.snn.state import LayerState

NAMES = ("x", "external", *LayerState._fields, *LayerParameters._fields, "episode_start")


class Layout(NamedTuple):
    """Sizes, 0 for what the layer does not have."""

    T: int
    K_x: int  # K, or 1 for an input that stays for the whole step
    B: int
    M_in: int
    E: int  # of the external modulator: N, 1 or 0
    M: int
    N: int
    M_plastic: int
    N_plastic: int
    N_sliding: int
    M_retroactive: int
    N_retroactive: int
    N_modulated: int
    rows: tuple[int, ...]  # of each parameter: B, or 1 if all rows share it

    def state_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of the seven tensors of a state."""
        B, N = self.B, self.N
        M_p, N_p, M_r, N_r = self.M_plastic, self.N_plastic, self.M_retroactive, self.N_retroactive
        return (B, N), (B, N), (B, M_p), (B, N_p), (B, self.N_sliding), (B, M_p, N_p), (B, M_r, N_r)

    def parameter_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of the fourteen parameters, without rows."""
        N, M_p, N_p, N_r, N_m = self.N, self.M_plastic, self.N_plastic, self.N_retroactive, self.N_modulated
        matrix = (M_p, N_p)
        plastic = (matrix, matrix, (M_p,), (N_p,), (N_p,), (self.N_sliding,), (N_r,))
        return (self.M, N), (N,), (N,), *plastic, (N_m,), (N_m,), (min(1, N_m),), (N_m,)


@lru_cache(maxsize=1024)
def layout(
    config: LayerConfig, rule: Rule | None, shapes: tuple[torch.Size, ...], dtypes: tuple[torch.dtype, ...]
) -> Layout:
    """
    :param config: what kind of layer it is
    :param rule: its rule
    :param shapes: of the tensors, in the order of ``NAMES``
    :param dtypes: likewise
    :return: the sizes
    :raises ValueError: on shapes that do not fit together
    :raises TypeError: on different types
    """
    T, K_x, B, M_in = shapes[0]
    N, E = shapes[2][-1], shapes[1][-1]
    M = M_in + N * config.recurrent
    plastic = rule is not None
    modulated, retroactive = plastic and config.modulation != "none", plastic and config.modulation == "retroactive"
    sliding = rule is not None and rule.sliding_threshold
    sizes = Layout(
        T, K_x, B, M_in, E, M, N, M * plastic, N * plastic, N * sliding, M * retroactive, N * retroactive,
        N * modulated, (),
    )  # fmt: skip
    parameters = sizes.parameter_shapes()
    # A parameter that the layer does not use may be anything.
    used = [shape if 0 in expected else expected for shape, expected in zip(shapes[9:-1], parameters, strict=True)]
    expected = [shapes[0], (T, B, E), *sizes.state_shapes(), *used, (T, B)]
    rows = []
    for name, shape, single, dtype in zip(NAMES, shapes, expected, dtypes, strict=True):
        with_rows = (B, *single) if name in LayerParameters._fields else single
        if shape not in (single, with_rows):
            choices = " or ".join(str(tuple(choice)) for choice in dict.fromkeys((tuple(single), with_rows)))
            raise ValueError(f"{name} has the shape {tuple(shape)}: expected {choices}.")
        needed = torch.bool if name == "episode_start" else dtypes[0]
        if dtype != needed and 0 not in single:
            raise TypeError(f"{name} is {dtype}: expected {needed}, the fused kernel takes one type for all.")
        rows.append(B if shape == with_rows != single else 1)
    if E not in (0, 1, N):
        raise ValueError(f"external has the shape {tuple(shapes[1])}: expected {(T, B, N)} or {(T, B, 1)}.")
    return sizes._replace(rows=tuple(rows[9:-1]))
