"""PlasticSNN: the network keeps the promises that training relies on, whatever its rule and modulation."""

import itertools
import math

import pytest
import torch
from scan_helpers import OTHER_OPTIONS

from sb3_plastic import PlasticSNN, SNNState
from sb3_plastic.errors import UserError
from sb3_plastic.snn.config import RATES, SNNConfig
from sb3_plastic.snn.decoders import PopulationDecoder
from sb3_plastic.snn.encoders import ENCODERS, PopulationEncoder, counter_uniform
from sb3_plastic.snn.readouts import READOUTS
from sb3_plastic.snn.rules import MODULATIONS, RULES
from sb3_plastic.snn.scan.reference import modulator

T, B, F = 12, 3, 5


def make_snn(**kwargs):
    return PlasticSNN(F, **{"layer_sizes": [11, 7], "gain": [3.0, 3.0], **kwargs})


def make_sequence(p_start=0.2):
    starts = torch.rand(T, B) < p_start
    starts[0] = True
    return torch.randn(T, B, F), starts


def assert_close(a: SNNState, b: SNNState) -> None:
    for x, y in zip(a.tensors(), b.tensors(), strict=True):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("modulation", MODULATIONS)
def test_a_scan_equals_two_chained_scans_gradients_included(rule, modulation):
    snn = make_snn(rule=rule, modulation=modulation, recurrent=True, external_modulation=True).double()
    features, starts = (tensor.double() if tensor.is_floating_point() else tensor for tensor in make_sequence())
    gradients, outputs = [], []
    for cuts in ((0, T), (0, 5, T)):
        snn.zero_grad()
        state, latents = snn.initial_state(B), []
        for first, last in itertools.pairwise(cuts):
            latent, state = snn.scan(features[first:last], starts[first:last], state)
            latents.append(latent)
        latent = torch.cat(latents)
        loss = latent.square().sum() + sum(t.sum() for t in state.tensors() if t.is_floating_point())
        loss.backward()
        outputs.append((latent, *state.tensors()))
        gradients.append([p.grad.clone() for p in snn.parameters() if p.grad is not None])
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=0)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_steps_equal_a_scan_bit_for_bit():
    snn = make_snn(rule="bcm", recurrent=True)
    features, starts = make_sequence()
    latent, final = snn.scan(features, starts, snn.initial_state(B))
    assert (
        0.05
        < torch.cat([t.flatten() for t in snn.spike_trains(features, starts, snn.initial_state(B))[0]]).mean()
        < 0.95
    )
    state = snn.initial_state(B)
    for t in range(T):
        step, state = snn.step(features[t], starts[t], state)
        assert torch.equal(step, latent[t])
    assert all(torch.equal(a, b) for a, b in zip(state.tensors(), final.tensors(), strict=True))


@pytest.mark.parametrize("encoder", ["current", "population"])
@pytest.mark.parametrize("readout", ["leaky", "rate"])
def test_the_gradient_across_an_episode_start_is_exactly_zero(encoder, readout):
    snn = make_snn(rule="oja", encoder=encoder, readout=readout, recurrent=True)
    features, starts = make_sequence(0)
    starts[6] = True
    features.requires_grad_()
    latent, state = snn.scan(features, starts, snn.initial_state(B))
    (latent[6:].sum() + sum(t.sum() for t in state.tensors() if t.is_floating_point())).backward()
    assert torch.count_nonzero(features.grad[:6]) == 0
    assert torch.count_nonzero(features.grad[6:]) > 0


def test_nan_does_not_survive_an_episode_start():
    snn = make_snn()
    features, starts = make_sequence()
    poisoned = SNNState.from_tensors(
        [torch.full_like(t, float("nan")) if t.is_floating_point() else t for t in snn.initial_state(B).tensors()]
    )
    latent, state = snn.scan(features, starts, poisoned)
    assert torch.equal(latent, snn.scan(features, starts, snn.initial_state(B))[0])
    assert all(torch.isfinite(tensor).all() for tensor in state.tensors())


def test_environments_do_not_influence_each_other():
    snn = make_snn(rule="hebb")
    features, starts = make_sequence()
    both, _ = snn.scan(features, starts, snn.initial_state(B))
    alone, _ = snn.scan(features[:, 1:2], starts[:, 1:2], snn.initial_state(1))
    assert torch.equal(both[:, 1:2], alone)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("modulation", MODULATIONS)
@pytest.mark.parametrize("encoder", ["current", "population"])
def test_every_learned_tensor_gets_a_gradient(rule, modulation, encoder):
    snn = make_snn(rule=rule, modulation=modulation, encoder=encoder, learn=RATES, external_modulation=rule != "none")
    features, starts = make_sequence()
    latent, _ = snn.scan(features, starts, snn.initial_state(B))
    (latent * torch.randn_like(latent)).sum().backward()
    without = [name for name, p in snn.named_parameters() if p.grad is None or not torch.any(p.grad != 0)]
    assert without == []


def test_the_static_network_has_no_plasticity_at_all():
    snn = make_snn(rule="none", modulation="simple", learn=RATES)
    assert snn.plasticity_parameters() == []
    assert all(layer.h.numel() == 0 and layer.x_trace.numel() == 0 for layer in snn.initial_state(B).layers)


def test_plasticity_changes_what_the_network_answers_to_the_same_input():
    features = torch.randn(1, 1, F).expand(T, 1, F)
    starts = torch.zeros(T, 1, dtype=torch.bool)
    for rule, changes in (("none", False), ("hebb", True)):
        snn = make_snn(rule=rule, readout="rate", beta=0.0, alpha_init=0.2, eta_init=0.5)  # no memory but the synapses
        latent, _ = snn.scan(features, starts, snn.initial_state(1))
        assert bool((latent[-1] != latent[1]).any()) == changes


def test_fast_weights_survive_an_episode_only_in_lifetime_mode():
    features, starts = make_sequence(0)
    last = torch.ones(1, B, dtype=torch.bool)
    for fast_weights, survives in (("episode", False), ("lifetime", True)):
        snn = make_snn(rule="oja", fast_weights=fast_weights)
        _, state = snn.scan(features, starts, snn.initial_state(B))
        _, after = snn.scan(torch.zeros(1, B, F), last, state)
        # Nothing goes in after the start, so only what survived is left in the fast weights of the first layer.
        assert bool((after.layers[0].h != 0).any()) == survives
        assert torch.count_nonzero(after.layers[0].v) == 0


@pytest.mark.parametrize(("eta_per", "size"), [("synapse", F * 11), ("neuron", 11), ("layer", 1)])
def test_plasticity_rates_per_synapse_neuron_or_layer(eta_per, size):
    layer = make_snn(eta_per=eta_per, eta_init=0.3).layers[0]
    assert layer.raw_eta.numel() == size
    torch.testing.assert_close(layer.effective_parameters().eta, torch.full((F, 11), 0.3))


def test_learned_rates_are_spread_over_the_neurons():
    beta = make_snn(learn=["beta"], beta=0.5, rate_spread=2.0).layers[0].effective_parameters().beta
    torch.testing.assert_close(beta[[0, 5, 10]], torch.sigmoid(torch.tensor([-2.0, 0.0, 2.0])))


def test_a_list_chooses_the_rule_per_layer():
    snn = make_snn(rule=["none", "bcm"], modulation=["none", "retroactive"])
    assert [layer.config.rule for layer in snn.layers] == ["none", "bcm"]
    latent, _ = snn.scan(*make_sequence(), snn.initial_state(B))
    assert latent.shape == (T, B, 7)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(rule="ojja"), "Unknown plasticity rule 'ojja'. Did you mean 'oja'\\? Allowed: none, hebb, oja"),
        (dict(modulation="dopamine"), "Unknown modulation 'dopamine'"),
        (dict(encoder="poisson"), "Unknown encoder 'poisson'"),
        (dict(surrogate="relu"), "Unknown surrogate 'relu'"),
        (dict(backend="fast"), "Unknown backend 'fast'"),
        (dict(rule=["oja"]), "rule names 1 layers, but there are 2"),
        (dict(beta=1.2), "beta, a rate per tick, must be a finite number at least 0 and at most 1, got 1.2"),
        (dict(learn=["rho"], rho=0.0), "rho is to be learned, so it must start strictly between 0 and 1"),
        (dict(learn=["alpha"]), "Unknown rate to learn 'alpha'"),
        (dict(eta_init=0.0), "eta_init must be a finite number above 0, got 0.0"),
        (dict(threshold=-1.0), "threshold must be a finite number above 0, got -1.0"),
        (dict(layer_sizes=[]), "at least one layer"),
        (dict(layer_sizes=[8.0]), "neurons of a layer must be a whole number at least 1, got 8.0"),
        (dict(detach_reset="no"), "Unknown detach_reset 'no'. Allowed: True, False"),
        (dict(recurrent="false"), "Unknown recurrent 'false'"),
        (dict(encoder="population", encoder_kwargs=dict(n_neuron=5)), "has no argument 'n_neuron'. Did you mean"),
        (dict(readout="rate", readout_kwargs=dict(decay=0.5)), "The readout 'rate' has no argument 'decay'"),
        (dict(encoder="population", encoder_kwargs=dict(n_neurons=1)), "n_neurons must be a whole number at least 2"),
        (dict(readout_kwargs=dict(decay=1.0)), "decay must be a finite number at least 0 and below 1, got 1.0"),
    ],
)
def test_errors_say_what_was_got_and_what_is_allowed(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_snn(**kwargs)


def test_one_rate_to_learn_may_be_named_alone_and_one_synapse_starts_at_its_value():
    assert SNNConfig(learn="rho") == SNNConfig(learn=["rho"])
    layer = PlasticSNN(F, [1], learn="beta", beta=0.85, rate_spread=2.0).layers[0]
    assert layer.effective_parameters().beta.item() == pytest.approx(0.85)


def test_every_option_of_a_layer_reaches_it():
    given = {name: value for name, value in OTHER_OPTIONS.items() if name in SNNConfig.names()}
    assert {"threshold", "slope", "h_max", "detach_reset", "recurrent"} <= given.keys()
    config, _ = SNNConfig(**given).layer(0, 1)
    assert {name: getattr(config, name) for name in given} == given


def test_a_configuration_is_a_value_that_the_options_of_a_network_override():
    config = SNNConfig(rule=["none", "bcm"], n_ticks=3)
    assert config == SNNConfig(rule=("none", "bcm"), n_ticks=3)
    snn = PlasticSNN(F, [11, 7], config, n_ticks=1)
    assert snn.config == SNNConfig(rule=("none", "bcm"), n_ticks=1)
    assert [layer.config.rule for layer in snn.layers] == ["none", "bcm"]
    with pytest.raises(ValueError, match=r"no argument 'modulaton'\. Did you mean 'modulation'"):
        PlasticSNN(F, [11], modulaton="simple")


@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_a_prepared_network_equals_the_network_until_its_parameters_change(backend):
    snn = make_snn(rule="oja", learn=["beta"], backend=backend)
    features, starts = make_sequence()
    before, _ = snn.scan(features, starts, snn.initial_state(B))
    prepared = snn.prepared()
    latent, _ = prepared.scan(features, starts, snn.initial_state(B))
    assert torch.equal(latent, before)
    assert not latent.requires_grad
    with torch.no_grad():
        snn.layers[0].raw_rates["beta"] += 3
    assert torch.equal(prepared.scan(features, starts, snn.initial_state(B))[0], before)
    assert not torch.equal(snn.scan(features, starts, snn.initial_state(B))[0], before)


# Coding


def test_the_population_code_fires_as_often_as_its_gaussian_says():
    encoder = PopulationEncoder(n_inputs=1, n_ticks=10, n_neurons=3, low=-1.0, high=1.0)  # means -1, 0, 1, widths 1
    spikes, _ = encoder(torch.zeros(1, 1, 1), torch.zeros(1, 1, dtype=torch.bool), encoder.initial_state(1))
    assert spikes.shape == (1, 10, 1, 3)
    # exp(-1/2) = .607 of ten ticks is 6, the neuron whose mean is met fires at each.
    assert spikes.sum(1).flatten().tolist() == [6.0, 10.0, 6.0]


def test_an_analog_population_feeds_its_activities_as_currents():
    encoder = PopulationEncoder(n_inputs=1, n_ticks=2, n_neurons=3, low=-1.0, high=1.0, analog=True)
    currents, _ = encoder(torch.zeros(1, 1, 1), torch.zeros(1, 1, dtype=torch.bool), encoder.initial_state(1))
    expected = torch.tensor([math.exp(-0.5), 1.0, math.exp(-0.5)])
    torch.testing.assert_close(currents[0, :, 0], expected.expand(2, 3))
    with pytest.raises(UserError, match="choose one"):
        PopulationEncoder(1, n_ticks=2, bernoulli=True, analog=True)


def test_bernoulli_spikes_follow_their_probability_and_are_replayed_from_the_key():
    encoder = PopulationEncoder(1, n_ticks=4, n_neurons=3, low=-1.0, high=1.0, bernoulli=True)
    features, starts = torch.zeros(2000, 1, 1), torch.zeros(2000, 1, dtype=torch.bool)
    key = encoder.initial_state(1)
    spikes, after = encoder(features, starts, key)
    torch.testing.assert_close(spikes.mean((0, 1, 2)), torch.tensor([0.607, 1.0, 0.607]), rtol=0, atol=0.02)
    head, middle = encoder(features[:700], starts[:700], key)
    tail, end = encoder(features[700:], starts[700:], middle)
    assert torch.equal(torch.cat((head, tail)), spikes)
    assert torch.equal(end, after)
    assert not torch.equal(encoder(features, starts, key + 1)[0], spikes)


def test_counter_random_numbers_are_uniform_and_uncorrelated():
    numbers = counter_uniform(torch.arange(2000), 50)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    quantiles = torch.quantile(numbers.flatten(), torch.tensor([0.25, 0.5, 0.75]))
    torch.testing.assert_close(quantiles, torch.tensor([0.25, 0.5, 0.75]), rtol=0, atol=0.01)
    correlation = torch.corrcoef(torch.stack((numbers[:-1].flatten(), numbers[1:].flatten())))[0, 1]
    assert abs(correlation) < 0.02


def test_the_leaky_readout_is_the_recursion_it_states():
    snn = make_snn(n_ticks=3, readout_kwargs=dict(decay=0.6, gain=2.0))
    spikes, r = (torch.rand(4, 3, 1, 7) < 0.5).float(), torch.zeros(7)
    starts = torch.tensor([[False], [False], [True], [False]])
    latent, _ = snn.readout(spikes, starts, torch.zeros(1, 7))
    for t in range(4):
        r = torch.zeros(7) if starts[t] else r
        for k in range(3):
            r = 0.6 * r + 0.4 * spikes[t, k, 0]
        torch.testing.assert_close(latent[t, 0], 2 * r)


def test_each_output_of_the_population_decoder_sees_its_own_neurons_only():
    decoder = PopulationDecoder(3, 4)
    jacobian = torch.autograd.functional.jacobian(decoder, torch.randn(12))
    assert (jacobian != 0).int().tolist() == [[int(i // 4 == j) for i in range(12)] for j in range(3)]


@pytest.mark.parametrize("modulation", ["simple", "retroactive"])
def test_a_training_begins_nearly_unmodulated_but_not_exactly(modulation):
    m = modulator(torch.rand(50, 11), make_snn(modulation=modulation).layers[0].effective_parameters())
    assert 0 < (m - 1).abs().max() < 0.5


def test_an_external_modulator_is_one_at_the_start():
    layer = make_snn(rule="oja", external_modulation=True).layers[0]
    assert torch.equal(layer.external_modulator(torch.randn(2, 3, F)), torch.ones(2, 3, 11))


def test_the_modulator_that_is_shown_is_that_of_the_last_step_the_external_one_included():
    snn = make_snn(rule="oja", modulation="simple", external_modulation=True)
    layer, (features, starts) = snn.layers[0], make_sequence()
    with torch.no_grad():
        layer.external.normal_()
    signals = snn.prepared().signals(features, starts, snn.initial_state(B))[0]
    own = layer.a * torch.tanh(signals.state.y_trace @ layer.u + layer.c).unsqueeze(1) + layer.d
    torch.testing.assert_close(signals.modulator, (1 + torch.tanh(features[-1] @ layer.external)) * own)


class Silent(torch.nn.Module):
    """An encoder and readout that is right, but for what a test changes."""

    n_outputs = F

    def __init__(self, n_inputs, n_ticks):
        super().__init__()
        self.n_ticks = n_ticks

    def initial_state(self, n_envs, random=True):
        return torch.zeros(n_envs, 0)

    def forward(self, x, episode_start, state):
        return x.unsqueeze(1).expand(-1, self.n_ticks, -1, -1) if x.ndim == 3 else x[:, -1], state


@pytest.mark.parametrize("part", ["encoder", "readout"])
@pytest.mark.parametrize(
    ("method", "function", "message"),
    [
        ("initial_state", lambda *_: (), r"its state is a tensor \[n_envs, ...\], without memory .*; got \(\) for 3"),
        ("initial_state", lambda *_: torch.zeros(0), r"its state is a tensor .*; got \(0,\) for 3"),
        ("forward", lambda self, x, _, state: (x, state), r"of \(2, .*3, \d\) it has to make \(2, .*3, \d\)"),
        ("forward", lambda self, x, _, state: (x, state[:1]), r"and of a state another of its shape, \(3, 0\)"),
    ],
)
def test_an_encoder_or_readout_of_other_shapes_is_refused(part, method, function, message, monkeypatch):
    monkeypatch.setitem(ENCODERS if part == "encoder" else READOUTS, "silent", Silent)
    assert make_snn(**{part: "silent"}).initial_state(2)
    monkeypatch.setattr(Silent, method, function)
    with pytest.raises(UserError, match=f"The {part} 'silent'.*{message}"):
        make_snn(**{part: "silent"})
