"""Evolution strategies: steps worked out by hand, and the sphere."""

import numpy as np
import pytest
import torch

from sb3_plastic.es.optimizers import ClipUp
from sb3_plastic.es.strategies import STRATEGIES, centred_ranks, standardised


def make(name="openai_es", mean=(0.0, 0.0), population_size=100, sigma=0.1, **kwargs):
    return STRATEGIES[name](torch.tensor(mean), population_size, sigma, **kwargs)


def evolve(strategy, fitness, generations, learning_rate=0.1):
    """Maximise a function of parameters [P, D]."""
    for generation in range(generations):
        individuals = strategy.ask(np.random.default_rng([0, generation]))
        strategy.tell(fitness(individuals.vectors()).numpy(), learning_rate)


KINDS = [("openai_es", "adam"), ("openai_es", "clipup"), ("pgpe", "adam"), ("pgpe", "clipup"), ("sep_cma_es", None)]


def make_kind(name, optimizer, *args, **kwargs):
    return make(name, *args, **kwargs, **({"optimizer": optimizer} if optimizer else {}))


@pytest.mark.parametrize(("name", "optimizer"), KINDS)
def test_every_strategy_finds_the_top_of_a_sphere(name, optimizer):
    top = torch.linspace(-1, 1, 10)
    strategy = make_kind(name, optimizer, [0.0] * 10, population_size=20)
    evolve(strategy, lambda x: -((x - top) ** 2).sum(1), 150, learning_rate=0.03)
    assert top.norm() > 2
    assert (strategy.mean - top).norm() < 0.2


@pytest.mark.parametrize(("name", "optimizer"), KINDS)
def test_every_strategy_follows_the_valley_of_rosenbrock(name, optimizer):
    def rosenbrock(x):
        return -(100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(1)

    strategy = make_kind(name, optimizer, [2.0] * 4, population_size=20)
    start = rosenbrock(strategy.mean.detach()[None]).item()
    evolve(strategy, rosenbrock, 300, learning_rate=0.02)
    assert start < -1000
    assert rosenbrock(strategy.mean.detach()[None]).item() > -6


@pytest.mark.parametrize(("name", "optimizer"), KINDS)
def test_every_strategy_descends_a_rotated_ellipsoid(name, optimizer):
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)))[0]
    scales = 10 ** torch.linspace(0, 1, 8)  # condition 100

    def ellipsoid(x):
        return -((x @ rotation * scales) ** 2).sum(1)

    strategy = make_kind(name, optimizer, [1.0] * 8, population_size=20)
    start = ellipsoid(strategy.mean.detach()[None]).item()
    evolve(strategy, ellipsoid, 300, learning_rate=0.02)
    assert ellipsoid(strategy.mean.detach()[None]).item() > start / 50


def test_equals_share_their_rank():
    ranks = centred_ranks(torch.tensor([5.0, 1.0, 5.0, 9.0, 5.0]))
    assert ranks.tolist() == [0, -0.5, 0, 0.5, 0]
    assert centred_ranks(torch.ones(4)).tolist() == [0] * 4


def test_fitness_is_standardised_to_mean_zero_and_deviation_one():
    assert standardised(torch.tensor([1.0, 5.0, 1.0, 5.0])).tolist() == [-1, 1, -1, 1]
    assert standardised(torch.ones(4)).tolist() == [0] * 4
    assert standardised(torch.full((10,), 6904.123456)).tolist() == [0] * 10  # whose mean is not exact


def test_individuals_come_in_pairs_on_either_side_of_the_mean():
    individuals = make(mean=[3.0, -1.0], population_size=6).ask(np.random.default_rng(0)).vectors()
    torch.testing.assert_close((individuals[:3] + individuals[3:]) / 2, torch.tensor([[3.0, -1.0]] * 3))
    assert individuals.unique(dim=0).shape == (6, 2)


def test_to_ask_twice_of_the_same_generator_is_to_get_the_same():
    strategy = make()
    first, second = (strategy.ask(np.random.default_rng(7)).vectors() for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, strategy.ask(np.random.default_rng(8)).vectors())


def test_the_gradient_of_a_single_pair_by_hand():
    strategy = make(mean=[1.0], population_size=2, sigma=0.5)
    eps = (strategy.ask(np.random.default_rng(0)).vectors()[0] - 1) / 0.5
    logged = strategy.tell(np.array([10.0, -3.0]), 0.01)  # utilities 1/2 and -1/2
    assert logged["update_norm"] == pytest.approx(0.01)
    assert logged["grad_norm"] == pytest.approx(0.5 * eps.abs().item() / 0.5)
    assert strategy.mean.item() == pytest.approx(1 + 0.01 * eps.sign().item())  # the first step of Adam


def test_pgpe_widens_where_it_pays_to_go_far_and_narrows_where_it_does_not():
    strategy = make("pgpe", population_size=1000)
    evolve(strategy, lambda x: x[:, 0] ** 2 - x[:, 1] ** 2, 5, learning_rate=0.0)
    assert strategy.sigma[0] > 0.11
    assert strategy.sigma[1] < 0.09
    fixed = make("openai_es", population_size=1000)
    evolve(fixed, lambda x: x[:, 0] ** 2 - x[:, 1] ** 2, 5, learning_rate=0.0)
    assert fixed.sigma.tolist() == pytest.approx([0.1, 0.1])


def test_sigma_changes_by_a_bounded_fraction_per_generation():
    strategy = make("pgpe", population_size=4, sigma_learning_rate=1e6, max_sigma_change=0.2)
    evolve(strategy, lambda x: (x**2).sum(1), 1)
    assert (strategy.sigma / 0.1 - 1).abs().tolist() == pytest.approx([0.2, 0.2])


def test_where_no_fitness_differs_weight_decay_pulls_the_mean_to_zero():
    still, pulled = make(mean=[2.0, -2.0]), make(mean=[2.0, -2.0], weight_decay=0.1)
    for strategy in (still, pulled):
        evolve(strategy, lambda x: torch.ones(len(x)), 3, learning_rate=0.1)
    assert still.mean.tolist() == [2, -2]
    assert pulled.mean.tolist() == pytest.approx([1.7, -1.7], abs=1e-3)


@pytest.mark.parametrize(("fitness", "learning_rate"), [([1.0] * 4, 0.1), ([1.0, 2.0, 3.0, 4.0], 0.0)])
@pytest.mark.parametrize("optimizer", ["adam", "sgd", "clipup"])
def test_without_a_direction_or_a_learning_rate_the_mean_stays(optimizer, fitness, learning_rate):
    strategy = make(mean=[2.0, -2.0], population_size=4, optimizer=optimizer)
    strategy.ask(np.random.default_rng(0))
    strategy.tell(np.array(fitness), learning_rate)
    assert strategy.mean.tolist() == [2, -2]


def test_clipup_steps_by_hand():
    p = torch.nn.Parameter(torch.tensor([0.0, 0.0]))
    optimizer = ClipUp([p], lr=0.1, momentum=0.9, max_speed=1.5)
    positions = []
    for _ in range(3):
        p.grad = torch.tensor([3.0, 4.0])  # its length does not matter
        optimizer.step()
        positions.append(p.norm().item())
    assert np.diff([0, *positions]).tolist() == pytest.approx([0.1, 0.15, 0.15])  # .19 is beyond the speed limit
    assert (p / p.norm()).tolist() == pytest.approx([-0.6, -0.8])


@pytest.mark.parametrize(("name", "optimizer"), KINDS)
def test_a_strategy_goes_on_from_its_state_bit_for_bit(name, optimizer, tmp_path):
    def fitness(x):
        return -((x - 1) ** 2).sum(1)

    whole, half, other = (make_kind(name, optimizer, [0.0] * 3, population_size=8) for _ in range(3))
    evolve(whole, fitness, 3)
    evolve(half, fitness, 3)
    torch.save(half.state_dict(), tmp_path / "state")
    other.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    evolve(whole, fitness, 3)
    evolve(other, fitness, 3)
    assert torch.equal(whole.mean, other.mean)
    expected, got = whole.state_dict(), other.state_dict()
    assert torch.equal(expected["sigma"], got["sigma"])
    for part in ("search", "step_size"):  # of cma's, in double precision
        for name in expected.get(part, ()):
            assert torch.equal(expected[part][name], got[part][name]), name
    assert not torch.equal(half.mean, other.mean)


@pytest.mark.parametrize("optimizer", ["adam", "clipup"])
def test_a_strategy_that_has_taken_over_a_state_shares_no_memory_with_the_one_that_gave_it(optimizer):
    giver, taker = (make("openai_es", population_size=4, optimizer=optimizer) for _ in range(2))
    evolve(giver, lambda x: x.sum(1), 1)
    taker.load_state_dict(giver.state_dict())
    memory = {name: value.clone() for name, value in giver.optimizer.state_dict()["state"][0].items()}
    evolve(taker, lambda x: -x.sum(1), 1)
    kept = giver.optimizer.state_dict()["state"][0]
    assert all(torch.equal(kept[name], value) for name, value in memory.items())


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(population_size=7), "population_size must be even and at least 2, got 7"),
        (dict(population_size=0), "population_size must be even and at least 2, got 0"),
        (dict(sigma=0.0), r"sigma, a standard deviation, must be .* above 0, got 0\.0"),
        (dict(max_sigma_change=1.0), "max_sigma_change, a fraction of sigma, must be .* below 1, got 1.0"),
        (dict(optimizer="sdg"), "Unknown optimizer 'sdg'. Did you mean 'sgd'. Allowed: adam, sgd"),
        (dict(sigma_decay=1.5), "sigma_decay, a factor per generation, must be .* at most 1, got 1.5"),
        (dict(fitness_shaping="rank"), "Unknown fitness_shaping 'rank'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**kwargs)


def test_fitness_and_states_of_other_sizes_are_refused():
    strategy = make(population_size=4)
    strategy.ask(np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"Got fitness of shape \(3,\): expected \(4,\)"):
        strategy.tell(np.zeros(3), 0.1)
    with pytest.raises(ValueError, match=r"The saved mean has shape \(3,\), what evolves of the policy \(2,\)"):
        strategy.load_state_dict(make(mean=[0.0] * 3).state_dict())
    with pytest.raises(ValueError, match="has the keys mean, sigma and optimizer, got"):
        strategy.load_state_dict({"mean": torch.zeros(2)})


@pytest.mark.parametrize(
    ("optimizer", "shaping", "mean", "sigma"),
    [
        ("adam", "centred_ranks", [0.395957, -0.350213, 0.082691], [0.191581, 0.201631, 0.198777]),
        ("adam", "raw", [0.391591, -0.350052, 0.068177], [0.195563, 0.200757, 0.197757]),
        ("sgd", "centred_ranks", [0.301597, -0.206267, 0.100963], [0.191911, 0.201969, 0.200171]),
        ("sgd", "raw", [0.301905, -0.210318, 0.102115], [0.195563, 0.200757, 0.197757]),
        ("clipup", "centred_ranks", [0.368365, -0.349049, 0.126205], [0.191603, 0.202149, 0.19734]),
        ("clipup", "raw", [0.350597, -0.372509, 0.109168], [0.195563, 0.200757, 0.197757]),
    ],
)
def test_pgpe_equals_evotorch_0_6_1(optimizer, shaping, mean, sigma):
    """The numbers are what tests/reference_evotorch.py prints."""
    strategy = make("pgpe", [0.3, -0.2, 0.1], 6, 0.2, optimizer=optimizer, fitness_shaping=shaping)
    top = torch.tensor([1.0, -2.0, 0.5])
    evolve(strategy, lambda x: -((x - top) ** 2).sum(1), 3, learning_rate=0.05)
    assert strategy.mean.tolist() == pytest.approx(mean, abs=2e-6)
    assert strategy.sigma.tolist() == pytest.approx(sigma, abs=2e-6)


def test_individuals_are_drawn_from_their_own_seeds_whoever_draws_them():
    individuals = make(mean=[3.0, -1.0], population_size=6).ask(np.random.default_rng(0))
    assert torch.equal(individuals.vectors(np.array([4, 1])), individuals.vectors()[[4, 1]])
    assert individuals.vectors(np.array([], int)).shape == (0, 2)


def test_sigma_decays_to_its_bound():
    strategy = make(mean=[0.0], population_size=4, sigma=0.4, sigma_decay=0.5, min_sigma=0.08)
    sigmas = []
    for generation in range(3):
        strategy.ask(np.random.default_rng(generation))
        sigmas.append(strategy.tell(np.zeros(4), 0.1)["sigma"])
    assert sigmas == pytest.approx([0.2, 0.1, 0.08])


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "clipup"])
def test_a_sigma_that_decays_without_a_bound_leaves_the_mean_finite(optimizer):
    strategy = make(mean=[0.0], population_size=4, sigma_decay=1e-9, optimizer=optimizer)
    for generation in range(10):
        strategy.ask(np.random.default_rng(generation))
        strategy.tell(np.arange(4.0), 0.1)
    assert strategy.mean.isfinite().all()


def test_a_population_that_is_odd_is_no_matter_to_cma():
    strategy = make("sep_cma_es", [1.0] * 5, population_size=7)
    evolve(strategy, lambda x: -(x**2).sum(1), 60)
    assert strategy.mean.norm() < 0.2


@pytest.mark.parametrize(("n_individuals", "n_parameters"), [(4, 5), (6, 5), (6, 300)])
def test_cma_is_told_of_the_individuals_that_play(n_individuals, n_parameters):
    strategy = make("sep_cma_es", [0.05] * n_parameters, n_individuals, 0.5, tolx=1e-9)  # with an option it is checked
    evolve(strategy, lambda x: -(x**2).sum(1), 3)


@pytest.mark.parametrize("options", [dict(bounds=[-0.1, 0.1]), dict(CMA_mirrors=2)])
def test_options_of_cma_that_change_what_was_drawn_are_refused(options):
    def sphere(x):
        return -(x**2).sum(1)

    evolve(make("sep_cma_es", [0.05] * 5, 6, 0.5, tolx=1e-9), sphere, 4)
    with pytest.raises(ValueError, match=f"The options {next(iter(options))} of cma change individuals"):
        evolve(make("sep_cma_es", [0.05] * 5, 6, 0.5, **options), sphere, 4)


def test_cma_goes_on_from_a_mean_that_it_is_given():
    strategy = make("sep_cma_es", [1.0] * 5, population_size=8)
    evolve(strategy, lambda x: -(x**2).sum(1), 2)
    strategy.mean.copy_(torch.full((5,), 7.0))
    evolve(strategy, lambda x: -(x**2).sum(1), 1)
    assert 6 < strategy.mean.min() < strategy.mean.max() < 8
