"""A step of a whole network in one compiled call; its kernels are those that training uses, bit for bit."""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

from sb3_plastic.snn.scan.compile import jit
from sb3_plastic.snn.scan.kernels import forward
from sb3_plastic.snn.scan.kernels_static import static_forward


@jit()
def network_at(K, tables, kinds, numbers):
    """
    Layers one after the other, each with a table, kinds and numbers of its own, as in
    :func:`sb3_plastic.snn.scan.kernels.forward`; a static one has no rule, whose address is 0.
    """
    for i in range(len(kinds)):
        B = tables[i, 0, 3]
        if kinds[i, 0] == 0:
            static_forward(0, B, K, tables[i], kinds[i], numbers[i])
        else:
            forward(0, B, K, tables[i], kinds[i], numbers[i])
