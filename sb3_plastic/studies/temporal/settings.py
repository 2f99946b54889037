"""What the study of temporal tasks runs, as data: tasks, networks, noise, and how each is trained.

Settings were chosen on validation seeds (100 and above, see ``search.py``), never on reported ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sb3_plastic.snn.rules import MODULATIONS, RULES
from sb3_plastic.tasks import TASKS, Task

N_TEST = 1024
"""Trials per test."""

NOISE = ((0.0, 0.0), (0.2, 0.025), (0.4, 0.05), (0.5, 0.1))
"""Levels of the test: spikes dropped, and spurious ones per input and tick."""

STRONG = 2
"""The level at which the aim is stated: 40 % dropped, 5 % spurious."""

SIZES: dict[str, dict[str, Any]] = {
    "association": {},
    "accumulation": dict(n_group=20),
    "completion": {},
    "reversal": dict(n_stimulus=60, n_active=20, show=8),
}
"""Where tasks differ from their defaults."""

UPDATES = {"association": 300, "accumulation": 400, "completion": 1000, "reversal": 1000}
"""Updates that every network gets."""

RECIPES: dict[str, dict[str, Any]] = {
    "association": {},
    "accumulation": {},
    "completion": dict(drop=0.4, spurious=0.05),
    "reversal": dict(learning_rate=0.02, batch=48, guided=0.25),
}
"""Where training differs from the defaults of `training.Recipe`, for all networks alike."""

N_NEURONS = {"association": 32, "accumulation": 32, "completion": 128, "reversal": 48}
N_PLASTIC_RECURRENT = {"association": 32, "accumulation": 32, "completion": 64, "reversal": 32}
"""Neurons of a plastic network; recurrent ones have fewer where they would outgrow the controls by far."""

LEARNED = ("lam_pre", "lam_post", "rho", "kappa", "kappa_e")
"""Rates that plastic networks learn."""

SPREAD: dict[str, Any] = dict(beta=0.85, learn=("beta",), rate_spread=2.0)
"""Membranes that are learned, from .43 to .98 at the start."""

PLASTIC: dict[str, dict[str, Any]] = {
    "association": dict(lam_pre=0.5, lam_post=0.5, rho=0.005),
    "accumulation": SPREAD | dict(lam_pre=0.8, lam_post=0.8, rho=0.005, learn=("beta", *LEARNED)),
    "completion": dict(lam_pre=0.5, lam_post=0.5, rho=0.005),
    "reversal": SPREAD | dict(lam_pre=0.8, lam_post=0.6, rho=0.02, learn=("beta", *LEARNED)),
}
"""Time constants at the start."""

PLASTIC_SHARED: dict[str, Any] = dict(gain=1.0, alpha_init=0.3, eta_init=0.4, beta=0.8, learn=LEARNED)

# What the search chose for the controls. All are wider, so that they have at least as many parameters as feed-forward
# plastic networks.
STATIC: dict[str, dict[str, Any]] = {
    "association": dict(beta=0.98),
    "accumulation": SPREAD,
    "completion": dict(beta=0.98),
    "reversal": dict(beta=0.95),
}
"""Of static spiking networks, recurrent or not."""

ALIF: dict[str, Any] = dict(time_constants=(20.0, 200.0), adaptation_gain=10.0)
"""Of adaptive neurons."""

N_STATIC = {"association": 104, "accumulation": 104, "completion": 352, "reversal": 152}
N_RECURRENT = {"association": 64, "accumulation": 64, "completion": 144, "reversal": 84}
N_GRU = {"association": 48, "accumulation": 48, "completion": 72, "reversal": 48}


@dataclass(frozen=True)
class Network:
    """
    A kind of network.

    :param body: a name in ``BODIES``
    :param rule: of a spiking body
    :param modulation: likewise
    :param recurrent: likewise
    """

    body: str = "snn"
    rule: str = "none"
    modulation: str = "none"
    recurrent: bool = False

    def arguments(self, task: str) -> dict[str, Any]:
        """
        Arguments of :class:`~sb3_plastic.studies.temporal.networks.Answerer` for a task.

        :param task: a name in ``TASKS``
        """
        if self.body == "gru":
            return dict(body="gru", n_neurons=N_GRU[task])
        if self.body == "alif":
            return dict(body="alif", n_neurons=N_RECURRENT[task], **ALIF)
        if self.rule == "none":
            n = N_RECURRENT if self.recurrent else N_STATIC
            arguments = dict(body="snn", n_neurons=n[task], rule="none", modulation="none", gain=1.0)
            return {**arguments, "recurrent": self.recurrent, **STATIC[task]}
        kind = dict(rule=self.rule, modulation=self.modulation, recurrent=self.recurrent)
        n = N_PLASTIC_RECURRENT if self.recurrent else N_NEURONS
        return dict(body="snn", n_neurons=n[task]) | PLASTIC_SHARED | PLASTIC[task] | kind


def plastic_name(rule: str, modulation: str, recurrent: bool) -> str:
    """``hebb``, ``hebb + simple``, ``hebb + simple, recurrent``."""
    return rule + (f" + {modulation}" if modulation != "none" else "") + (", recurrent" if recurrent else "")


PLASTIC_NETWORKS = {
    plastic_name(rule, modulation, recurrent): Network("snn", rule, modulation, recurrent)
    for recurrent in (False, True)
    for modulation in MODULATIONS
    for rule in RULES
    if rule != "none"
}

NETWORKS: dict[str, Network] = {
    **PLASTIC_NETWORKS,
    "static": Network(),
    "static, recurrent": Network(recurrent=True),
    "ALIF, recurrent": Network("alif"),
    "GRU": Network("gru"),
}
"""Networks by name."""

CONTROLS = ("static", "static, recurrent", "ALIF, recurrent", "GRU")
LONGER = ("static", "static, recurrent")
"""Controls that also get ten times the updates."""

LONGER_SEEDS = {"association": 3, "accumulation": 3, "completion": 1, "reversal": 1}
"""How many seeds they get, fewer where that takes long."""

HEADLINE = {
    "association": ("hebb", "bcm + simple"),
    "accumulation": ("hebb", "bcm + simple"),
    "completion": ("hebb", "oja + simple, recurrent"),
    "reversal": ("hebb", "hebb + retroactive"),
}
"""Plastic networks of the headline table, which get all seeds."""

ANALYSED = {"association": "hebb + simple", "reversal": "hebb + retroactive"}
"""Networks that are analysed: lesions, ablations, traces."""

ABLATIONS: dict[str, dict[str, Any]] = {
    "w frozen": dict(frozen=("w",)),
    "alpha frozen": dict(frozen=("alpha",)),
    "eta frozen": dict(frozen=("raw_eta",)),
    "modulator frozen": dict(frozen=("a", "u", "c", "d")),
    "h detached": dict(detach_fast_weights=True),
}
"""What training leaves out: fields of :class:`~sb3_plastic.studies.temporal.training.Recipe`."""

ABLATED = {"association": tuple(ABLATIONS), "reversal": ("eta frozen", "modulator frozen")}
"""Ablations of the analysed networks; of the reversal, whose cells take ten times as long, what the association does
not need."""


def make_task(name: str, **changes: Any) -> Task:
    """
    :param name: a name in ``TASKS``
    :param changes: parameters other than the study's
    """
    return TASKS[name](**{**SIZES[name], **changes})
