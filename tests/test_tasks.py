"""The temporal tasks: trials by hand, reference decoders, chance, and the environment that plays them."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.env_checker import check_env
from torch import Generator

from sb3_plastic import PlasticPPO
from sb3_plastic.errors import UserError
from sb3_plastic.tasks import (
    NOT_ASKED,
    TASKS,
    CueAccumulation,
    OneShotAssociation,
    PatternCompletion,
    RewardReversal,
    TemporalTaskEnv,
    accuracy,
    play,
)

EACH = pytest.mark.parametrize("task", [task() for task in TASKS.values()], ids=list(TASKS))


def draw(task, batch=4, seed=0):
    return task.sample(batch, Generator().manual_seed(seed))


def test_an_association_is_shown_once_and_asked_for_after_the_delay():
    task = OneShotAssociation(n_pairs=2, n_stimulus=6, n_active=3, n_label=2, show=2, gap=1, delay=3, query=2)
    assert (task.n_inputs, task.n_ticks, task.windows) == (6 + 2 * 2, 2 * 3 + 3 + 2, ((9, 11),))
    trials = draw(task)
    for b in range(4):
        ticks = trials.inputs[:, b]
        first, second, asked = ticks[0], ticks[3], ticks[9]
        assert torch.equal(ticks[1], first)
        assert not ticks[[2, 5, 6, 7, 8]].any()  # gaps and delay
        assert first[:6].sum() == 3
        assert not asked[6:].any()  # the question has no label
        labels = [int(pair[6:].view(2, 2).all(1).nonzero()) for pair in (first, second)]
        assert sorted(labels) == [0, 1]
        right = [label for pair, label in zip((first, second), labels, strict=True) if torch.equal(pair[:6], asked[:6])]
        assert trials.targets[0, b, 0] in right


def test_the_side_with_more_cues_is_the_answer():
    task = CueAccumulation(rate=1.0, cues=(3,), n_group=2, cue=2, gap=1, delay=4, query=2, background=0.0)
    trials = draw(task, batch=16)
    left, right, recall, background = trials.inputs.unflatten(2, (4, 2)).sum(3).unbind(2)  # [T, B] each
    assert torch.equal(left[:9].sum(0) + right[:9].sum(0), torch.full((16,), 3 * 2 * 2.0))
    assert torch.equal(trials.targets[0, :, 0], (right.sum(0) > left.sum(0)).long())
    assert not torch.stack((left, right))[:, 9:].any()
    assert not background.any()
    assert torch.equal(recall.sum(1), torch.tensor([0.0] * 13 + [32.0, 32.0]))


def test_trials_with_fewer_cues_begin_later():
    task = CueAccumulation(rate=1.0, cues=(1, 3), n_group=1, cue=1, gap=0, delay=2, query=1)
    cues = draw(task, batch=32).inputs[:3, :, :2].sum(2)  # [slots, B]
    assert {tuple(column.tolist()) for column in cues.T} == {(0.0, 0.0, 1.0), (1.0, 1.0, 1.0)}


def test_even_numbers_of_cues_are_refused():
    with pytest.raises(ValueError, match=r"cues must be odd numbers, at least one, .*got \(2, 3\)"):
        CueAccumulation(cues=(2, 3))


@pytest.mark.parametrize(
    ("task", "argument", "message"),
    [
        (PatternCompletion, dict(n_hidden=0), "n_hidden must be a whole number at least 1"),
        (PatternCompletion, dict(n_hidden=9), "n_hidden must be a finite number at most 8"),
        (OneShotAssociation, dict(n_active=99), "n_active must be a finite number at most 60"),
        (OneShotAssociation, dict(delay=-20), "delay must be a whole number at least 0"),
        (OneShotAssociation, dict(delay=10**400), "delay must be a whole number at least 0, got 1000"),
        (RewardReversal, dict(show=2), "answer must be a finite number at most 2"),
        (CueAccumulation, dict(cues=()), "at least one"),
        (CueAccumulation, dict(n_group=(3,)), r"n_group must be a whole number at least 1, got \(3,\)"),
    ],
)
def test_sizes_that_cannot_be_are_refused(task, argument, message):
    with pytest.raises(ValueError, match=message):
        task(**argument)


def test_hidden_bits_are_silent_and_alone_are_asked_for():
    task = PatternCompletion(n_bits=4, n_hidden=2, n_lines=1, show=1, gap=1, query=1)
    trials = draw(task, batch=16)
    shown = trials.inputs[[0, 2]].unflatten(2, (4, 2))  # [patterns, B, bits, values]
    assert torch.equal(shown.sum(3), torch.ones(2, 16, 4))
    asked = trials.inputs[4].unflatten(1, (4, 2))
    targets = trials.targets[0]
    assert torch.equal(asked.sum(2) == 0, targets != NOT_ASKED)
    assert torch.equal((targets != NOT_ASKED).sum(1), torch.full((16,), 2))
    # One of the patterns has both the bits that are seen and those that are asked for.
    seen, bits = asked.argmax(2), shown.argmax(3)
    whole = torch.where(targets == NOT_ASKED, seen, targets)
    assert (bits == whole).all(2).any(0).all()


def test_stimuli_swap_their_actions_once():
    task = RewardReversal(n_rounds=6, reversals=(3, 4))  # always before round 3
    trials = draw(task, batch=8)
    stimuli = torch.stack([trials.inputs[start, :, : task.n_stimulus] for start, _ in task.windows])  # [Q, B, ...]
    same = (stimuli == stimuli[0]).all(2)
    right = trials.targets[:, :, 0]
    swapped = (torch.arange(6) >= 3).unsqueeze(1)
    assert torch.equal(right == right[0], same ^ swapped)


def test_feedback_tells_the_action_and_whether_it_was_right():
    task = RewardReversal(n_feedback=1)
    trials = draw(task)
    for action in (0, 1):
        ticks = trials.consequence(2, torch.full((4, 1), action))
        assert not ticks[: task.delay].any()
        for b, lines in enumerate(ticks[task.delay, :, task.n_stimulus :].tolist()):
            right = int(trials.targets[2, b, 0]) == action
            assert lines == [action == 0, action == 1, not right, right]


def test_a_round_of_the_reversal_has_a_stimulus_a_window_to_answer_and_feedback_of_their_lengths():
    task = RewardReversal(n_rounds=3, reversals=(1, 2), show=4, answer=3, delay=2, feedback=3, gap=1)
    assert task.windows == ((1, 4), (11, 14), (21, 24))
    trials = draw(task)
    stimulus, told = trials.inputs.split((task.n_stimulus, 4 * task.n_feedback), 2)
    shown = [t for q in range(3) for t in range(10 * q, 10 * q + 4)]
    assert stimulus.any(2).all(1).nonzero().flatten().tolist() == shown
    assert not told.any()  # which is up to the answers
    ticks = trials.consequence(1, torch.zeros(4, 1, dtype=torch.int64))
    assert ticks.any(2).all(1).tolist() == [False] * 2 + [True] * 3 + [False]


def test_a_background_always_fires():
    task = CueAccumulation(n_group=50, background=0.3)
    background = draw(task, batch=32).inputs.unflatten(2, (4, 50))[:, :, 3]
    np.testing.assert_allclose(background.mean((1, 2)), 0.3, atol=0.05)


@EACH
def test_noise_drops_and_adds_as_many_spikes_as_it_says(task):
    silent = replace(task, rate=0.0, spurious=0.1)
    if isinstance(task, CueAccumulation):
        silent = replace(silent, background=0.0)
    assert float(draw(silent, 64).inputs.mean()) == pytest.approx(0.1, abs=0.005)
    kept = draw(replace(task, drop=0.4), 256).inputs.sum() / draw(task, 256).inputs.sum()
    assert float(kept) == pytest.approx(0.6, abs=0.01)


@pytest.mark.parametrize(
    ("name", "clean", "noisy"),
    [("association", 1.0, 0.99), ("accumulation", 0.99, 0.97), ("completion", 0.96, 0.96), ("reversal", 0.83, 0.83)],
)
def test_the_reference_decoder_says_what_is_attainable(name, clean, noisy):
    task = TASKS[name]()
    assert task.reference_accuracy(512, Generator().manual_seed(1)) >= clean
    assert replace(task, drop=0.4, spurious=0.05).reference_accuracy(512, Generator().manual_seed(1)) >= noisy


def test_no_decoder_of_the_reversal_can_do_better_than_the_reference():
    # The first answer is a guess and the first one after the swap is wrong: 10 - 1/2 - 1 of 10.
    assert RewardReversal().reference_accuracy(2048, Generator().manual_seed(0)) == pytest.approx(8.5 / 10, abs=0.005)


@EACH
def test_guesses_are_right_by_chance(task):
    trials = draw(task, 512)
    generator = Generator().manual_seed(1)
    shape = (512, task.n_groups)
    answers = play(task, trials, lambda q, inputs: torch.randint(task.n_choices, shape, generator=generator))
    assert float(accuracy(answers, trials.targets)) == pytest.approx(task.chance, abs=0.06)
    assert task.memory_free_ceiling == task.chance


def test_a_probability_above_one_is_refused():
    with pytest.raises(ValueError, match=r"drop, a probability, must be .* at most 1, got 40"):
        OneShotAssociation(drop=40)
    with pytest.raises(ValueError, match=r"background, a probability, must be"):
        CueAccumulation(background=float("nan"))


def test_numbers_may_be_given_as_yaml_has_them():
    assert CueAccumulation(cues=[3, 5]) == CueAccumulation(cues=(3, 5))
    with pytest.raises(ValueError, match=r"cues is a list of whole numbers, got 5: write \[5\]"):
        CueAccumulation(cues=5)
    with pytest.raises(ValueError, match=r"each of reversals must be a whole number at least 1, got 4.0 \(write 4\)"):
        RewardReversal(reversals=(4.0, 8))
    with pytest.raises(ValueError, match="reversals are two rounds"):
        RewardReversal(reversals=[4])


@pytest.mark.parametrize("task", TASKS.values())
def test_environments_are_registered_and_valid(task):
    env = gym.make(f"sb3_plastic/{task.__name__}-v0", drop=0.2)
    assert env.unwrapped.task == task(drop=0.2)
    check_env(env.unwrapped)


@EACH
def test_an_environment_plays_the_trials_of_the_batch(task):
    trials = draw(replace(task, drop=0.2, spurious=0.02), batch=1)
    answers = torch.randint(task.n_choices, (len(task.windows), 1, task.n_groups), generator=Generator().manual_seed(2))
    seen = []

    def answer(q, inputs):
        seen.append(inputs)
        return answers[q]

    play(task, trials, answer)
    env = TemporalTaskEnv(task)
    env.reset(seed=0)
    observations = [env.begin(trials)]
    total, done, q, info = 0.0, False, 0, {}
    while not done:
        due = len(observations) == task.windows[q][1]
        action = answers[q, 0].numpy() if task.n_groups > 1 else int(answers[q, 0])
        observation, reward, done, _, info = env.step(action if due else 0 * np.asarray(action))
        q += due
        total += reward
        observations.append(observation)
    np.testing.assert_array_equal(np.stack(observations[:-1]), seen[-1][:, 0].numpy())
    assert info["accuracy"] == pytest.approx(float(accuracy(answers, trials.targets)))
    assert total == pytest.approx(info["accuracy"] * len(task.windows))


def test_the_same_seed_gives_the_same_trial():
    env = TemporalTaskEnv(RewardReversal())
    first, again, other = env.reset(seed=3)[0], env.reset(seed=3)[0], env.reset(seed=4)[0]
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len({env.reset()[0].tobytes() for _ in range(3)} | {other.tobytes()}) == 4  # which go on


def test_a_trial_is_not_changed_by_being_played():
    task = RewardReversal()
    trials = draw(task, batch=1)
    before = trials.inputs.clone()
    env = TemporalTaskEnv(task)
    env.begin(trials)
    for _ in range(task.n_ticks):
        env.step(0)
    assert torch.equal(trials.inputs, before)


@EACH
def test_a_step_where_no_episode_goes_on_is_refused(task):
    env = TemporalTaskEnv(task)
    answer = env.action_space.sample()
    with pytest.raises(UserError, match=r"call reset\(\) before step"):
        env.step(answer)
    env.reset(seed=0)
    for _ in range(task.n_ticks):
        env.step(answer)
    with pytest.raises(UserError, match=r"call reset\(\) before step"):
        env.step(answer)


@EACH
@pytest.mark.parametrize("choice", [-1, 99, 0.5])
def test_an_answer_outside_of_the_action_space_is_refused(task, choice):
    env = TemporalTaskEnv(task)
    env.reset(seed=0)
    answer = np.full(env.action_space.shape, choice)
    for _ in range(task.windows[0][1] - 1):
        env.step(answer)  # nothing is asked yet
    with pytest.raises(UserError, match="An answer is an element of"):
        env.step(answer)


@pytest.mark.parametrize("choice", [-1, 2])
def test_an_answer_that_is_no_choice_has_no_consequence(choice):
    task = RewardReversal()
    with pytest.raises(UserError, match=rf"Answers are whole numbers from 0 to 1, got \[{choice}\]"):
        play(task, draw(task), lambda q, inputs: torch.full((4, 1), choice))


def test_ppo_plays_a_task():
    env = gym.make("sb3_plastic/OneShotAssociation-v0", show=2, gap=1, delay=1, query=2)
    PlasticPPO("PlasticPolicy", env, n_steps=64, policy_kwargs=dict(net_arch=[8], readout="rate")).learn(64)


def test_the_reward_is_the_part_of_the_answer_that_is_right():
    task = PatternCompletion()
    trials = draw(task, batch=1)
    env = TemporalTaskEnv(task)
    env.begin(trials)
    target = trials.targets[0, 0]
    asked = (target >= 0).nonzero().flatten()
    answer = target.clamp_min(0).clone()
    answer[asked[0]] = 1 - answer[asked[0]]  # one of four is wrong
    for _ in range(task.n_ticks):
        _, reward, _, _, info = env.step(answer.numpy())
    assert reward == info["accuracy"] == 0.75
