"""
tanh of float32, compiled: numpy's took a third of a forward model's time.

The seventh convergent of Lambert's continued fraction (1768) at a quarter of the number, then twice ``tanh 2x = 2 t /
(1 + t^2)``, all as one quotient. Its error is at most 2e-7.
"""

from __future__ import annotations

import numpy as np

from sb3_plastic.adaptive.kernels import Array, compiled

FAR = np.float32(9.1)
"""Beyond it float32 has no number between tanh and 1."""

# Of Lambert's quotient: each is exact in float32.
N0, N1, N2 = np.float32(135135), np.float32(17325), np.float32(378)
D1, D2, D3 = np.float32(62370), np.float32(3150), np.float32(28)
QUARTER, TWO = np.float32(0.25), np.float32(2)


@compiled
def tanh_of(h: Array, bias: Array) -> Array:
    """
    ``tanh(h + bias)``, written over h; NaN stays NaN.

    :param h: [M, B, F]
    :param bias: [M, 1, F] or [M, B, F]
    :return: h
    """
    for m in range(h.shape[0]):
        for b in range(h.shape[1]):
            of_row = bias[m, b if bias.shape[1] > 1 else 0]
            for i in range(h.shape[2]):
                x = h[m, b, i] + of_row[i]
                if x > FAR:
                    x = FAR
                elif x < -FAR:
                    x = -FAR
                x *= QUARTER
                s = x * x
                n = x * (N0 + s * (N1 + s * (N2 + s)))
                d = N0 + s * (D1 + s * (D2 + s * D3))
                for _ in range(2):
                    n, d = TWO * n * d, n * n + d * d
                h[m, b, i] = n / d
    return h
