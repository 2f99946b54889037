"""The study of temporal tasks: what plasticity is worth, and its command."""

from dataclasses import asdict, replace

import pandas as pd
import pytest
import torch
from command_line import answer
from torch import Generator

from sb3_plastic.snn.scan.reference import modulator
from sb3_plastic.studies.results import read_results
from sb3_plastic.studies.table import to_csv
from sb3_plastic.studies.temporal import training
from sb3_plastic.studies.temporal.analysis import cut, trace
from sb3_plastic.studies.temporal.cli import accuracies
from sb3_plastic.studies.temporal.conclusion import conclusion
from sb3_plastic.studies.temporal.figures import traces
from sb3_plastic.studies.temporal.networks import Answerer
from sb3_plastic.studies.temporal.playing import play_network
from sb3_plastic.studies.temporal.records import at_level, differences_by_seed, records, select
from sb3_plastic.studies.temporal.search import CHANGES, ranking, run_search_cell, search_cells
from sb3_plastic.studies.temporal.settings import ANALYSED, NETWORKS, NOISE, SIZES, UPDATES, make_task
from sb3_plastic.studies.temporal.training import Recipe, detach_fast_weights, evaluate, train
from sb3_plastic.tasks import TASKS, OneShotAssociation, RewardReversal

SMALL = OneShotAssociation(n_stimulus=20, n_active=6, n_label=4, show=5, gap=3, query=6, rate=0.8)


def network_of(name, task=SMALL, kind="association", **changes):
    torch.manual_seed(0)
    return Answerer(task, **{**NETWORKS[name].arguments(kind), **changes})


def test_plasticity_solves_an_association_that_the_static_network_does_not():
    """Chance is .33, and so is the ceiling without memory; at equal updates."""
    found = {}
    for name in ("hebb", "static"):
        network = network_of(name)
        curve = train(network, SMALL, Recipe(n_updates=250, drop=0.1, spurious=0.02), seed=0)
        found[name] = evaluate(network, SMALL, 1024, seed=1)
        assert len(curve) == 250
        rates = play_network(network, SMALL, SMALL.sample(64, Generator().manual_seed(2))).rates
        assert (rates > 0.01).float().mean() > 0.8  # alive: a silent control proves nothing
    assert found["hebb"] >= 0.9
    assert found["static"] <= 0.45


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_gets_a_gradient_everywhere(name):
    task = make_task("reversal", n_rounds=6, reversals=(3, 5))
    network = network_of(name, task, "reversal")
    generator = Generator().manual_seed(0)
    played = play_network(network, task, task.sample(16, generator), explore=generator)
    played.logits.square().sum().backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        if not parameter_name.endswith("bias_hh_l0"):
            assert parameter.grad.abs().sum() > 0, parameter_name


def test_a_cell_that_is_done_says_what_its_numbers_are():
    tests = [dict(drop=0.0, spurious=0.0, accuracy=1.0), dict(drop=0.4, spurious=0.05, delay=80, accuracy=0.9)]
    assert accuracies(dict(tests=tests)) == "accuracy noise-free: 1.000; drop 0.4, spurious 0.05, delay 80: 0.900"


@pytest.mark.parametrize("task", TASKS)
def test_controls_have_at_least_the_parameters_of_the_plastic_networks(task):
    def size(name):
        return Answerer(make_task(task), **NETWORKS[name].arguments(task)).n_parameters()

    plastic = max(size("hebb"), size("bcm + simple"))
    for control in ("static", "static, recurrent", "ALIF, recurrent", "GRU"):
        assert size(control) >= plastic, control


def test_running_tick_by_tick_changes_nothing():
    network = network_of("bcm + retroactive, recurrent")
    trials = SMALL.sample(8, Generator().manual_seed(0))
    at_once = play_network(network, SMALL, trials)
    states = []
    by_tick = play_network(network, SMALL, trials, each_tick=lambda state: states.append(state) or state)
    assert len(states) == SMALL.n_ticks
    torch.testing.assert_close(at_once.logits, by_tick.logits)
    torch.testing.assert_close(at_once.rates, by_tick.rates)


def test_detached_fast_weights_pass_no_gradient_to_eta():
    network = network_of("hebb")
    trials = SMALL.sample(8, Generator().manual_seed(0))
    play_network(network, SMALL, trials, each_tick=detach_fast_weights).logits.square().sum().backward()
    layer = network.body.snn.layers[0]
    assert layer.alpha.grad.abs().sum() > 0
    assert layer.raw_eta.grad is None or not layer.raw_eta.grad.any()


def test_what_is_frozen_stays_as_it_was_drawn():
    network = network_of("hebb + simple")
    layer = network.body.snn.layers[0]
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    train(network, SMALL, Recipe(n_updates=2, frozen=("alpha", "a", "u", "c", "d")), seed=0)
    same = {name for name, p in layer.named_parameters() if torch.equal(p, before[name])}
    assert same == {"alpha", "a", "u", "c", "d"}


def test_a_teacher_gives_the_right_answers_at_first():
    task = RewardReversal(n_rounds=4, reversals=(2, 3))
    network = network_of("static", task, "reversal")
    trials = task.sample(16, Generator().manual_seed(0))
    guided = play_network(network, task, trials, Generator().manual_seed(1), guidance=1.0)
    alone = play_network(network, task, trials, Generator().manual_seed(1))
    assert torch.equal(guided.answers, trials.targets)
    assert not torch.equal(alone.answers, trials.targets)


def test_a_lesion_takes_one_thing_out_of_a_copy():
    network = network_of("hebb + simple")
    layer = network.body.snn.layers[0]
    assert not cut(network, "plasticity").body.snn.layers[0].alpha.any()
    assert cut(network, "eta").body.snn.layers[0].raw_eta.std() < 1e-5
    modulated = cut(network, "modulator").body.snn.layers[0]
    assert not modulated.a.any()
    assert (modulated.d == 1).all()
    assert layer.alpha.any()
    assert layer.a.any()
    assert cut(network_of("static"), "plasticity") is None
    assert cut(network_of("hebb"), "modulator") is None


def test_records_stand_beside_the_reference_and_are_compared_by_seed():
    def cell(network, seed, accuracy):
        n = 0 if network == "reference" else UPDATES["association"]
        tests = [dict(drop=0.0, spurious=0.0, accuracy=accuracy)]
        return dict(task="association", network=network, seed=seed, n_updates=n, ablation="", tests=tests)

    scores = {"reference": (1.0, 0.9), "hebb": (0.8, 0.7), "static": (0.3, 0.4)}
    frame = records([cell(name, seed, score) for name, both in scores.items() for seed, score in enumerate(both)])
    hebb, static = select(frame, "association", "hebb"), select(frame, "association", "static")
    assert hebb.reference.tolist() == [1.0, 0.9]
    assert differences_by_seed(hebb, static).to_dict() == pytest.approx({0: 0.5, 1: 0.3})


def test_the_conclusion_compares_the_best_networks_with_the_reference():
    found = {("reference", 0): 0.8, ("hebb", 400): 0.8, ("bcm + simple", 400): 0.6, ("static", 400): 0.4}
    frame = pd.DataFrame(
        [
            dict(task="accumulation", network=network, n_updates=n, ablation="", lesion="", seed=0, delay=None)
            | {"drop": drop, "spurious": spurious, "accuracy": accuracy}
            for (network, n), accuracy in found.items()
            for drop, spurious in NOISE
        ]
    )
    sentence, (row,) = conclusion(frame, ["accumulation"])
    assert "plastic network reaches at least 95% of the reference decoder's accuracy in 1 of 1 tasks" in sentence
    assert "the best control in 0 of 1 (lowest: 50.0%)" in sentence
    assert (row["best plastic"], row["best control"]) == ("hebb", "static")
    assert (row["plastic, noise-free"], row["control, strong noise"]) == ("100.0%", "50.0%")


def test_the_command_goes_on_with_what_is_missing_and_reports_on_all(tmp_path):
    command = ["study", "temporal", "--smoke", "--out", tmp_path, "--tasks", "association"]
    printed = answer(command)
    assert "[6/6]" in printed
    assert {path.name for path in tmp_path.iterdir()} == {"results.csv", "figures", "report.html", "report.md"}
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".png"}
    before = read_results(tmp_path)
    assert len({result["network"] for result in before.values()}) == 5
    removed, *kept = before
    (tmp_path / "results.csv").write_text(to_csv([before[name] for name in kept]))  # as if stopped before it
    printed = answer(command)
    assert f"[6/6] {removed}" in printed
    assert "[5/6]" not in printed
    after = read_results(tmp_path)
    assert {name: result["tests"] for name, result in after.items()} == {n: r["tests"] for n, r in before.items()}
    assert "of reference" in (tmp_path / "report.md").read_text()


def test_a_smoke_run_is_no_line_among_the_trained_networks():
    trace = dict(fast=[1.0, 2.0], fixed=1.0, modulator=[0.0, 1.0])
    smoke = dict(task="association", network=ANALYSED["association"], n_updates=4, trace=trace)
    assert traces([smoke], "association") is None
    trained = smoke | dict(n_updates=UPDATES["association"])
    assert len(traces([smoke, trained], "association").axes[1].get_lines()) == 1


def test_a_search_ranks_the_changes_of_each_network():
    cells = search_cells(["association"], [100])
    assert len({cell.name for cell in cells}) == len(cells)
    results = [
        {**asdict(cell), "tests": [dict(drop=0.0, spurious=0.0, accuracy=i / len(cells))]}
        for i, cell in enumerate(cells)
    ]
    table = ranking(results)
    assert len(table) == len(cells)
    assert table[table.network == "hebb"].change.tolist() == list(reversed(CHANGES["hebb"]))
    with pytest.raises(ValueError, match="Seeds below 100"):
        search_cells(["association"], [0])


def test_a_change_of_settings_is_trained_and_tested():
    cell = replace(search_cells(["association"], [100])[-1], n_updates=1, trials=16)
    result = run_search_cell(cell)
    assert [test["drop"] for test in result["tests"]] == [0.0, 0.2, 0.4, 0.5]


def test_sizes_of_the_study_are_those_of_the_tasks():
    for task, sizes in SIZES.items():
        assert make_task(task) == replace(TASKS[task](), **sizes)


def test_tests_at_other_delays_are_no_levels_of_noise():
    drop, spurious = NOISE[0]
    frame = pd.DataFrame({"drop": drop, "spurious": spurious, "delay": [None, 80.0], "accuracy": [1.0, 0.5]})
    assert at_level(frame, 0).accuracy.tolist() == [1.0]


def test_a_lesion_of_eta_leaves_its_mean():
    network = network_of("hebb")
    rates = torch.nn.functional.softplus(network.body.snn.layers[0].raw_eta)
    cut_rates = torch.nn.functional.softplus(cut(network, "eta").body.snn.layers[0].raw_eta)
    torch.testing.assert_close(cut_rates, rates.mean().expand_as(rates))


def test_the_teacher_leaves_at_half_and_the_learning_rate_falls_in_the_second_half(monkeypatch):
    guided, rates, played = [], [], training.play_network

    def noted(network, task, trials, explore, guidance, each_tick):
        guided.append(guidance)
        return played(network, task, trials, explore, guidance, each_tick)

    class Adam(torch.optim.Adam):
        def step(self, *args, **kwargs):
            rates.append(self.param_groups[0]["lr"])
            return super().step(*args, **kwargs)

    monkeypatch.setattr(training, "play_network", noted)
    monkeypatch.setattr(torch.optim, "Adam", Adam)
    network = network_of("static")
    train(network, SMALL, Recipe(n_updates=4, batch=2, learning_rate=1.0), seed=0)
    assert guided == [1, 0.5, 0, 0]
    assert rates == pytest.approx([1, 1, 1, 0.525])


def test_an_answer_is_read_over_its_window():
    network, trials = network_of("static"), SMALL.sample(4, Generator().manual_seed(0))
    activity, _ = network.body.scan(trials.inputs, network.body.initial_state(4))
    expected = network.logits(activity[slice(*SMALL.windows[0])].mean(0))
    torch.testing.assert_close(play_network(network, SMALL, trials).logits[0], expected)


@torch.no_grad()
def test_the_modulator_of_rounds_with_reward_is_told_from_that_without():
    task = RewardReversal(n_rounds=3, reversals=(1, 2))
    network = network_of("hebb + simple", task, "reversal")
    p, gates = network.body.snn.layers[0].effective_parameters(), []
    trials = task.sample(16, Generator().manual_seed(5))
    look = lambda state: gates.append(modulator(state.layers[0].y_trace, p).mean(1)) or state  # noqa: E731
    right = (play_network(network, task, trials, each_tick=look).answers == trials.targets)[:-1, :, 0]
    length = task.windows[1][1] - task.windows[0][1]
    rounds = torch.stack(gates)[: 2 * length].unflatten(0, (2, length))
    found = trace(network, task, 16, seed=5)
    for name, chosen in (("rewarded", right), ("unrewarded", ~right)):
        expected = torch.cat([rounds[q][:, chosen[q]] for q in range(2)], 1).mean(1)
        torch.testing.assert_close(torch.tensor(found[name]), expected)
