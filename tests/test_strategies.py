"""Evolution strategies: steps worked out by hand, and the sphere."""

import numpy as np
import pytest
import torch

from sb3_plastic.es.strategies import STRATEGIES, ClipUp, centred_ranks


def make(name="openai_es", mean=(0.0, 0.0), population_size=100, sigma=0.1, **kwargs):
    return STRATEGIES[name](torch.tensor(mean), population_size, sigma, **kwargs)


def evolve(strategy, fitness, generations, learning_rate=0.1):
    """Maximise a function of parameters [P, D]."""
    for generation in range(generations):
        individuals = strategy.ask(np.random.default_rng([0, generation]))
        strategy.tell(fitness(individuals).numpy(), learning_rate)


@pytest.mark.parametrize("optimizer", ["adam", "clipup"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_finds_the_top_of_a_sphere(name, optimizer):
    top = torch.linspace(-1, 1, 10)
    strategy = make(name, [0.0] * 10, population_size=20, optimizer=optimizer)
    evolve(strategy, lambda x: -((x - top) ** 2).sum(1), 150, learning_rate=0.03)
    assert top.norm() > 2
    assert (strategy.mean - top).norm() < 0.2


def test_equals_share_their_rank():
    ranks = centred_ranks(torch.tensor([5.0, 1.0, 5.0, 9.0, 5.0]))
    assert ranks.tolist() == [0, -0.5, 0, 0.5, 0]
    assert centred_ranks(torch.ones(4)).tolist() == [0] * 4


def test_individuals_come_in_pairs_on_either_side_of_the_mean():
    individuals = make(mean=[3.0, -1.0], population_size=6).ask(np.random.default_rng(0))
    torch.testing.assert_close((individuals[:3] + individuals[3:]) / 2, torch.tensor([[3.0, -1.0]] * 3))
    assert individuals.unique(dim=0).shape == (6, 2)


def test_to_ask_twice_of_the_same_generator_is_to_get_the_same():
    strategy = make()
    first, second = (strategy.ask(np.random.default_rng(7)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, strategy.ask(np.random.default_rng(8)))


def test_the_gradient_of_a_single_pair_by_hand():
    strategy = make(mean=[1.0], population_size=2, sigma=0.5)
    eps = (strategy.ask(np.random.default_rng(0))[0] - 1) / 0.5
    logged = strategy.tell(np.array([10.0, -3.0]), 0.01)  # utilities 1/2 and -1/2
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


@pytest.mark.parametrize("optimizer", ["adam", "clipup"])
def test_a_strategy_goes_on_from_its_state_bit_for_bit(optimizer, tmp_path):
    def fitness(x):
        return -((x - 1) ** 2).sum(1)

    whole, half, other = (make("pgpe", population_size=8, optimizer=optimizer) for _ in range(3))
    evolve(whole, fitness, 3)
    evolve(half, fitness, 3)
    torch.save(half.state_dict(), tmp_path / "state")
    other.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    evolve(whole, fitness, 3)
    evolve(other, fitness, 3)
    assert torch.equal(whole.mean, other.mean)
    assert torch.equal(whole.sigma, other.sigma)
    assert not torch.equal(half.mean, other.mean)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(population_size=7), "population_size must be even and at least 2, got 7"),
        (dict(population_size=0), "population_size must be even and at least 2, got 0"),
        (dict(sigma=0.0), r"sigma is a standard deviation, above 0, got 0\.0"),
        (dict(max_sigma_change=1.0), r"max_sigma_change is a fraction of sigma in \[0, 1\), got 1\.0"),
        (dict(optimizer="sgd"), "Unknown optimizer 'sgd'. Allowed: adam, clipup"),
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
    with pytest.raises(ValueError, match=r"The saved mean has shape \(3,\), the policy's parameters \(2,\)"):
        strategy.load_state_dict(make(mean=[0.0] * 3).state_dict())
    with pytest.raises(ValueError, match="has the keys mean, sigma and optimizer, got"):
        strategy.load_state_dict({"mean": torch.zeros(2)})
