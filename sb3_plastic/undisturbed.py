"""Torch as small networks want it, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def undisturbed_torch() -> Iterator[None]:
    """
    Inside, one thread: small networks are faster so, and results do not depend on how many there are. Afterwards all is
    as it was, the random numbers of a training that is going on too.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices=gpus):
            yield
    finally:
        torch.set_num_threads(threads)
