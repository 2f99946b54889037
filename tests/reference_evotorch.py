"""Prints the numbers that test_strategies.py compares with: EvoTorch's functional PGPE, told our individuals.

In an environment of its own, with this package and ``pip install --no-deps evotorch==0.6.1``::

    python tests/reference_evotorch.py
"""

import numpy as np
import torch
from evotorch.algorithms.functional import pgpe, pgpe_tell

from sb3_plastic.es.strategies import STRATEGIES

PAIRS = [0, 3, 1, 4, 2, 5]
"""Our order of the individuals is all plus, then all minus; EvoTorch's is pair by pair."""

OPTIMIZERS = {
    "adam": dict(optimizer="adam"),
    "sgd": dict(optimizer="sgd"),
    "clipup": dict(optimizer="clipup", optimizer_config=dict(momentum=0.9, max_speed=0.1)),  # in units, not in rates
}

for optimizer, config in OPTIMIZERS.items():
    for shaping, ranking in (("centred_ranks", "centered"), ("raw", "raw")):
        start, top = torch.tensor([0.3, -0.2, 0.1]), torch.tensor([1.0, -2.0, 0.5])
        kwargs = dict(sigma_learning_rate=0.1, fitness_shaping=shaping, optimizer=optimizer)
        ours = STRATEGIES["pgpe"](start, 6, 0.2, **kwargs)
        theirs = pgpe(
            center_init=start,
            center_learning_rate=0.05,
            stdev_learning_rate=0.1,
            objective_sense="max",
            stdev_init=0.2,
            ranking_method=ranking,
            stdev_max_change=0.2,
            **config,
        )
        for generation in range(3):
            individuals = ours.ask(np.random.default_rng([0, generation])).vectors()
            fitness = -((individuals - top) ** 2).sum(1)
            theirs = pgpe_tell(theirs, individuals[PAIRS], fitness[PAIRS])
            ours.tell(fitness.numpy(), 0.05)
        print(optimizer, shaping, *(x.numpy().round(6).tolist() for x in (theirs.optimizer_state.center, theirs.stdev)))
