"""What the search of the learning study compares: as many candidates for each agent, but for what an MLP has not."""

from __future__ import annotations

SEARCHED = ("oja + simple", "static SNN", "MLP")
"""Agents with a search of their own; RL Zoo tuned its PPO already."""

GAINS = {"alpha_init": 0.2, "plasticity_lr_scale": 3.0}
"""Of the recipe when the questions were asked: what a candidate does not set."""

QUIET = "alpha_init=0.02, plasticity_lr_scale=0.3"
"""It starts as the static network and leaves it slowly. Adam moves a gain by its rate whatever its gradient, and Ant's
first layer has 105 inputs: gains of .2 on fast weights of 1 drown fixed weights of .07."""

SILENT = "alpha_init=0.002, plasticity_lr_scale=0.1"
"""Ant's recipe: without a use for its gains they walk at random, and disturb."""

NOISE = {"noise_of_snn": (-1.0, -1.3), "noise_of_mlp": (-1.0, -2.4), "noise_loud": (-0.5, -1.0)}
"""Logarithms of the standard deviation of the exploration noise, at the start and at the end. Where it is learned, on
HalfCheetah, a spiking actor keeps three times the noise of an MLP: each agent with the noise of both, and with more."""

ACTIONS = {"HalfCheetah-v5": 6, "Ant-v5": 8, "Hopper-v5": 3, "Walker2d-v5": 6}
"""Components of an action."""


def noise_by_schedule(name: str) -> str:
    """
    An argument of ``-params``: exploration noise that follows a schedule.

    :param name: a key of ``NOISE``
    """
    start, end = NOISE[name]
    return f"callback:[{{'sb3_plastic.exploration.LogStdSchedule': dict(start={start}, end={end})}}]"


def candidates(env_id: str, label: str) -> dict[str, list[str]]:
    """
    Candidate settings by name, as arguments of ``-params``.

    :param env_id: environment
    :param label: agent, one of ``SEARCHED``
    """
    tried = _settings(env_id, label)
    if label == "oja + simple":
        tried = {name: _with_gains(changes) for name, changes in tried.items()}
    return _parity(env_id, label) | tried  # what was run keeps its meaning


def _with_gains(changes: list[str]) -> list[str]:
    found = [change for change in changes if change.startswith("policy_kwargs:")]
    policy = found[0] if found else "policy_kwargs:dict(rule='oja')"
    missing = "".join(f", {name}={value}" for name, value in GAINS.items() if name not in policy)
    return [*(change for change in changes if change not in found), f"{policy[:-1]}{missing})"]


def _settings(env_id: str, label: str) -> dict[str, list[str]]:
    falling, spiking = "learning_rate:'lin_1e-3'", label != "MLP"
    policy = {
        "oja + simple": "rule='oja'",
        "static SNN": "rule='none'",
        "MLP": "ortho_init=True, net_arch=dict(pi=[64, 64], vf=[64, 64])",  # all: RL Zoo merges those of ours alone
    }[label]
    if env_id == "Ant-v5":
        tried = {  # HalfCheetah's choice, and smaller steps: a lower rate, fewer epochs, more exploration noise
            "lin_1e-3": [falling],
            "lin_3e-4": ["learning_rate:'lin_3e-4'"],
            "4_epochs": [falling, "n_epochs:4"],
            "noise": ["learning_rate:'lin_3e-4'", f"policy_kwargs:dict({policy}, log_std_init=0)"],
        }
        if label == "oja + simple":
            # The critic is an MLP, and MLPs want the lower rate here. Or is it what plasticity adds at the start?
            slow = f"policy_kwargs:dict({policy}, critic_lr_scale=0.3)"
            small = f"policy_kwargs:dict({policy}, alpha_init=0.05)"
            tried |= {"slow_critic": [falling, slow], "4_epochs_slow_critic": [falling, "n_epochs:4", slow]}
            tried |= {"small": [falling, small], "4_epochs_small": [falling, "n_epochs:4", small]}
            tried |= _plasticity(falling)
        return tried
    # Learning rates, constant and falling; with the best of these a shorter horizon, fewer epochs, and more ticks or
    # smaller minibatches.
    rates = (5e-4 if spiking else 1e-3, "lin_5e-4", "lin_1e-3", "lin_2e-3")
    both = {str(rate): [f"learning_rate:{rate!r}"] for rate in rates} | {
        "gamma": [falling, "gamma:0.98"],
        "4_epochs": [falling, "n_epochs:4"],
    }
    if label == "oja + simple":
        both["quiet"] = [falling, f"policy_kwargs:dict({policy}, {QUIET})"]
    if spiking:
        return both | {"4_ticks": [falling, f"policy_kwargs:dict({policy}, n_ticks=4)"]}
    return both | {"batch": [falling, "batch_size:128"]}


def _plasticity(falling: str) -> dict[str, list[str]]:
    """Why may plasticity cost on Ant? One change of the recipe each: a hypothesis."""
    second = "rule=['none', 'oja'], modulation=['none', 'simple']"  # a static first layer, which has most synapses
    changes = {
        "second_layer": second,
        "second_layer_128": f"{second}, {_net_arch([128, 128])}",
        "quiet": f"rule='oja', {QUIET}",
        "quieter": "rule='oja', alpha_init=0.02, plasticity_lr_scale=0.1",
        "silent": f"rule='oja', {SILENT}",
        "quiet_start": "rule='oja', alpha_init=0.02",
        "lr_.3": "rule='oja', plasticity_lr_scale=0.3",
    }
    return {name: [falling, f"policy_kwargs:dict({change})"] for name, change in changes.items()}


def _parity(env_id: str, label: str) -> dict[str, list[str]]:
    """What may lift an agent, one change of today's recipe each. An MLP has no ticks, no slope and no chunks."""
    spiking = label != "MLP"
    rate, half = ("1e-3", "5e-4") if spiking or env_id == "HalfCheetah-v5" else ("3e-4", "1.5e-4")
    policy = {
        "oja + simple": f"rule='oja', {SILENT if env_id == 'Ant-v5' else QUIET}",
        "static SNN": "rule='none'",
        "MLP": "ortho_init=True, log_std_init=-1",
    }[label]

    def changed(change: str = "", *others: str, rate: str = rate) -> list[str]:
        kwargs = ", ".join(filter(None, [policy, change]))
        settings = [f"policy_kwargs:dict({kwargs})"] if spiking or change else []
        return [f"learning_rate:'lin_{rate}'", *settings, *others]

    tried = {
        "128": changed(_net_arch([128, 128])),
        "256": changed(_net_arch([256, 256])),
        "3_layers": changed(_net_arch([64, 64, 64])),
        "1_layer": changed(_net_arch([128])),
        "wide_critic": changed("net_arch=dict(pi=[64, 64], vf=[256, 256])"),
        "batch_256": changed("", "batch_size:256"),
        "batch_1024": changed("", "batch_size:1024"),
        # Spikes come and go with the smallest change of a weight. So in an update the policy moves five times as far as
        # an MLP, and half of the samples are clipped: stop it, let it, or give it smaller steps.
        "target_kl": changed("", "target_kl:0.05"),
        "kl_rate": changed(
            "", "callback:[{'sb3_plastic.learning_rate.KLAdaptiveRate': dict(target=0.03)}]"
        ),  # an MLP's
        "clip_0.4": changed("", "clip_range:0.4"),
        "half_rate": changed(rate=half),
        # Or average what minibatches do not agree on: Adam moves a weight by its rate whatever its gradient.
        "momentum_.97": changed(_adam("betas=(0.97, 0.999), eps=1e-5")),
        "eps_1e-3": changed(_adam("eps=1e-3")),
        # Half of an Ant's sensors hardly move. One that does, for once, is ten standard deviations off, and is seen so.
        "clip_obs_3": changed("", "normalize:dict(clip_obs=3.0)"),
    } | {name: changed("", noise_by_schedule(name)) for name in NOISE}
    if label == "oja + simple":
        tried |= {
            "rho_.002": changed("rho=0.002"),  # fast weights remember 250 steps, not 25
            "rho_.2": changed("rho=0.2"),  # 2.5
            "eta_.01": changed("eta_init=0.01"),  # and change a tenth as fast
        }
    if spiking:
        tried |= {
            "analog": changed("encoder='population', encoder_kwargs=dict(n_neurons=4, analog=True)"),
            # A readout that remembers filters the actions. 1.4 ticks instead of 4.5, and none but those of the step.
            "lag": changed("readout_kwargs=dict(decay=0.5)"),
            "lag_4_ticks": changed("readout_kwargs=dict(decay=0.5), n_ticks=4"),
            "rate": changed("readout='rate'"),
            "rate_4_ticks": changed("readout='rate', n_ticks=4"),
            "1_tick": changed("n_ticks=1"),
            "4_ticks": changed("n_ticks=4"),
            # Shorter chunks: more of them per minibatch, which are less alike, and gradients through fewer steps. With
            # four ticks, or less lag, a spiking actor imitates an MLP best.
            "chunk_1": changed("", "chunk_len:1"),
            "chunk_4": changed("", "chunk_len:4"),
            "chunk_8": changed("", "chunk_len:8"),
            "lag_chunk_4": changed("readout_kwargs=dict(decay=0.5)", "chunk_len:4"),
            "lag_chunk_1": changed("readout_kwargs=dict(decay=0.5)", "chunk_len:1"),
            "lag_4_ticks_chunk_1": changed("readout_kwargs=dict(decay=0.5), n_ticks=4", "chunk_len:1"),
            "4_ticks_chunk_4": changed("n_ticks=4", "chunk_len:4"),
            # A surrogate of half the recipe's slope, of twice and four times. A steep one learns faster at first.
            "slope_1": changed("slope=1.0"),
            "slope_4": changed("slope=4.0"),
            "slope_8": changed("slope=8.0"),
            "slope_8_half_rate": changed("slope=8.0", rate=half),
            "slope_8_4_ticks_chunk_4": changed("slope=8.0, n_ticks=4", "chunk_len:4"),
            # The critic alone sees the last command and reward.
            "critic": changed("critic_keys=['previous']", _previous_beside(ACTIONS[env_id])),
            # Other surrogates, and gradients that do not go through the reset (Zenke and Vogels, 2021, advise it).
            "detach_reset": changed("detach_reset=True"),
            "arctan": changed("surrogate='arctan'"),
            "triangle": changed("surrogate='triangle', slope=1.0"),
            # Membranes that forget sooner or later, or learn when to; currents twice as large.
            "beta_.2": changed("beta=0.2"),
            "beta_.8": changed("beta=0.8"),
            "learn_beta": changed("learn=['beta'], rate_spread=1.0"),
            "gain_x2": changed("gain=[1.4, 2.8]"),
        }
    return tried


def _previous_beside(n_actions: int) -> str:
    split = f"{{'sb3_plastic.wrappers.SplitObservation': dict(n_last={n_actions + 1}, key='previous')}}"
    return f"env_wrapper:['sb3_plastic.wrappers.PreviousActionReward', {split}]"


def _adam(settings: str) -> str:
    return f"optimizer_kwargs=dict({settings})"  # in place of the policy's own, whose eps is 1e-5


def _net_arch(actor: list[int]) -> str:
    return f"net_arch=dict(pi={actor}, vf=[64, 64])"
