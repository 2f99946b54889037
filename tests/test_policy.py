"""PlasticPolicy: what users of predict, save and load rely on."""

import numpy as np
import pytest
import torch
from envs import BOX, Dropping, random_vec_env, small_ppo
from gymnasium import spaces

from sb3_plastic import PlasticPolicy, PlasticPPO
from sb3_plastic.errors import UserError
from sb3_plastic.snn.rules import RULES, Rule
from sb3_plastic.stepper import unvalidated_distributions

SPACES = {
    "box": BOX,
    "discrete": spaces.Discrete(4),
    "multi_discrete": spaces.MultiDiscrete([2, 3]),
    "multi_binary": spaces.MultiBinary(3),
    "image": spaces.Box(0, 255, (3, 36, 36), np.uint8),
    "dict": spaces.Dict({"a": BOX, "b": spaces.Discrete(3), "image": spaces.Box(0, 255, (3, 36, 36), np.uint8)}),
}
OBSERVATIONS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


def run(model, observations=OBSERVATIONS, steps=5, state=None):
    """Actions over some steps of the same observations, and the state at the end."""
    actions = []
    for _ in range(steps):
        action, state = model.predict(observations, state, deterministic=True)
        actions.append(action)
    return np.stack(actions), state


@pytest.mark.parametrize("decoder", ["linear", "population"])
@pytest.mark.parametrize("name", ["box", "discrete", "multi_discrete", "multi_binary"])
def test_all_action_spaces_learn_and_predict(name, decoder):
    env = random_vec_env(action_space=SPACES[name])
    model = small_ppo(env, policy_kwargs=dict(decoder=decoder)).learn(96)
    action, _ = model.predict(env.reset())
    assert all(SPACES[name].contains(a) for a in action)


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        *(("discrete", "MlpPolicy"), ("multi_discrete", "MlpPolicy"), ("multi_binary", "MlpPolicy")),
        *(("image", "CnnPolicy"), ("dict", "MultiInputPolicy")),
    ],
)
def test_all_observation_spaces_learn_and_predict(name, policy):
    env = random_vec_env(SPACES[name], spaces.Discrete(2))
    model = small_ppo(env, policy).learn(96)
    action, _ = model.predict(env.reset())
    assert action.shape == (3,)


@pytest.mark.parametrize(
    "kwargs",
    [
        dict(critic="plastic"),
        dict(encoder="population", encoder_kwargs=dict(bernoulli=True, n_neurons=4)),
        dict(encoder="population", encoder_kwargs=dict(analog=True, n_neurons=4)),
        dict(share_features_extractor=False),
        dict(recurrent=True, external_modulation=True, learn=["beta", "rho"]),
        dict(net_arch=dict(pi=[8], vf=[6, 6, 6]), rule=["bcm"]),
    ],
)
def test_options_learn_and_are_restored_with_the_policy(kwargs, tmp_path):
    model = small_ppo(policy_kwargs=kwargs).learn(96)
    model.policy.save(tmp_path / "policy.pt")
    policy = PlasticPolicy.load(tmp_path / "policy.pt")
    np.testing.assert_array_equal(run(policy)[0], run(model)[0])


def test_gsde_is_served_with_both_decoders():
    for decoder in ("linear", "population"):
        model = small_ppo(use_sde=True, sde_sample_freq=4, policy_kwargs=dict(decoder=decoder)).learn(96)
        assert np.isfinite(run(model)[0]).all()


def test_predict_goes_on_from_the_state_and_none_starts_afresh():
    model = small_ppo()
    actions, state = run(model)
    assert not np.array_equal(actions[0], actions[-1])
    np.testing.assert_array_equal(run(model)[0], actions)
    assert all(isinstance(array, np.ndarray) and len(array) == 3 for array in state)


def test_an_episode_start_resets_the_state_of_its_environment_alone():
    model = small_ppo()
    fresh, (_, state) = model.predict(OBSERVATIONS, deterministic=True)[0], run(model)
    action, _ = model.predict(OBSERVATIONS, state, np.array([False, True, False]), deterministic=True)
    on, _ = model.predict(OBSERVATIONS, state, deterministic=True)
    np.testing.assert_array_equal(action[1], fresh[1])
    np.testing.assert_array_equal(action[[0, 2]], on[[0, 2]])
    assert not np.array_equal(on[1], fresh[1])


@pytest.mark.parametrize("start", [True, [1], np.ones((1, 1), np.float32)])
def test_an_episode_start_may_be_a_number_and_have_any_shape(start):
    model = small_ppo()
    fresh, (_, state) = model.predict(OBSERVATIONS[0], deterministic=True)[0], run(model, OBSERVATIONS[0])
    on, _ = model.predict(OBSERVATIONS[0], state, deterministic=True)
    np.testing.assert_array_equal(model.predict(OBSERVATIONS[0], state, start, deterministic=True)[0], fresh)
    assert not np.array_equal(on, fresh)


@pytest.mark.parametrize("kwargs", [{}, dict(decoder_gain=0.7, log_std_init=0.5)])
def test_actions_and_their_noise_begin_as_large_as_they_are_asked_to(kwargs):
    policy = small_ppo(policy_kwargs=kwargs).policy
    weight, gain = policy.action_net.weight.detach(), kwargs.get("decoder_gain", 0.1)
    torch.testing.assert_close(weight @ weight.T, gain**2 * torch.eye(4), atol=1e-6, rtol=0)
    assert policy.log_std.tolist() == [kwargs.get("log_std_init", -1.0)] * 4


def test_without_orthogonal_initialisation_the_decoder_begins_as_torchs_layers_do():
    policy = small_ppo(policy_kwargs=dict(ortho_init=False)).policy
    assert policy.action_net.weight.norm() > 0.5  # orthogonal with a gain of 0.1, it would be 0.2


def test_the_distribution_of_actions_is_that_of_the_state_that_it_is_asked_for():
    model = small_ppo()
    _, state = run(model)
    tensors, starts = tuple(map(torch.as_tensor, state)), np.array([False, True, False])
    with torch.no_grad():
        modes = [
            model.policy.get_distribution(torch.as_tensor(OBSERVATIONS), *given).mode().numpy()
            for given in ((), (tensors,), (tensors, torch.as_tensor(starts)))
        ]
    expected = [model.predict(OBSERVATIONS, *given, deterministic=True)[0] for given in ((), (state,), (state, starts))]
    np.testing.assert_allclose(modes, expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(expected[0], expected[1])


def test_a_step_of_all_networks_gives_what_each_of_them_gives_alone():
    model = small_ppo(policy_kwargs=dict(critic="plastic"))
    policy, (_, state), starts = model.policy, run(model), np.array([False, True, False])
    given = torch.as_tensor(OBSERVATIONS), tuple(map(torch.as_tensor, state)), torch.as_tensor(starts)
    with torch.no_grad():
        actions, values, log_probs, after = policy(*given, deterministic=True)
        torch.testing.assert_close(values, policy.predict_values(*given))
        torch.testing.assert_close(log_probs, policy.get_distribution(*given).log_prob(actions))
    predicted, _ = model.predict(OBSERVATIONS, state, starts, deterministic=True)
    np.testing.assert_allclose(actions, predicted, rtol=1e-6)
    assert not torch.equal(policy(*given)[0], actions)  # but for the noise
    assert [tensor.shape for tensor in after] == [array.shape for array in state]


def test_random_spikes_are_others_each_time_and_the_same_for_the_most_likely_action():
    model = small_ppo(policy_kwargs=dict(encoder="population", encoder_kwargs=dict(bernoulli=True)))
    for deterministic in (True, False):
        (one, *_), (two, *_) = (model.predict(OBSERVATIONS, deterministic=deterministic)[1] for _ in range(2))
        assert np.array_equal(one, two) == deterministic


@pytest.mark.parametrize("kwargs", [{}, dict(use_sde=True, policy_kwargs=dict(squash_output=True))])
def test_predicted_actions_reach_the_bounds_of_the_action_space_and_no_further(kwargs):
    model = small_ppo(**kwargs)
    with torch.no_grad():
        model.policy.action_net.bias.fill_(10.0)
    np.testing.assert_allclose(model.predict(OBSERVATIONS, deterministic=True)[0], 2, rtol=1e-5)


def test_predict_does_not_act_as_in_an_update_that_has_just_been_made():
    model = small_ppo(policy_kwargs=dict(features_extractor_class=Dropping)).learn(96)
    assert model.policy.training
    first, second = (model.predict(OBSERVATIONS, deterministic=True)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_state_that_predict_returned_is_the_callers_own():
    model = small_ppo()
    _, state = run(model)
    before = [array.copy() for array in state]
    run(model, state=state)
    for array, copy in zip(state, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_a_single_observation_needs_no_environment_axis():
    model = small_ppo()
    action, state = model.predict(OBSERVATIONS[0], deterministic=True)
    assert action.shape == (4,)
    assert all(len(array) == 1 for array in state)
    batched = run(model)[0]
    np.testing.assert_allclose(run(model, OBSERVATIONS[0])[0], batched[:, 0], rtol=1e-5)


def test_save_and_load_with_another_number_of_environments_gives_the_same_actions_bit_for_bit(tmp_path):
    model = small_ppo(policy_kwargs=dict(rule="bcm", modulation="retroactive")).learn(96)
    model.save(tmp_path / "model")
    for env in (None, random_vec_env(n_envs=1), random_vec_env(n_envs=5)):
        loaded = PlasticPPO.load(tmp_path / "model.zip", env=env, device="cpu")
        np.testing.assert_array_equal(run(loaded)[0], run(model)[0])
        if env is not None:
            loaded.learn(64, reset_num_timesteps=False)


def test_training_that_was_saved_goes_on_with_its_optimiser_and_learning_rates(tmp_path):
    model = small_ppo().learn(96)
    model.save(tmp_path / "model.zip")
    loaded = PlasticPPO.load(tmp_path / "model.zip", env=random_vec_env(), device="cpu")
    old, new = model.policy.optimizer.state_dict(), loaded.policy.optimizer.state_dict()
    assert [(g["name"], g["lr"]) for g in new["param_groups"]] == [(g["name"], g["lr"]) for g in old["param_groups"]]
    torch.testing.assert_close(new["state"], old["state"])


@pytest.mark.parametrize(
    ("observation", "state_of", "message"),
    [
        (np.zeros((3, 5), np.float32), None, r"Unexpected observation shape \(3, 5\)"),
        (np.zeros((2, 4), np.float32), 3, r"a state of 3 environment\(s\) with observations of 2"),
        (np.zeros(4, np.float32), 3, r"a state of 3 environment\(s\) with observations of 1"),
    ],
)
def test_wrong_shapes_are_refused(observation, state_of, message):
    model = small_ppo()
    state = None if state_of is None else run(model, OBSERVATIONS[:state_of])[1]
    with pytest.raises(ValueError, match=message):
        model.predict(observation, state)


def test_a_state_of_another_network_is_refused_with_the_shapes_that_are_allowed():
    state = run(small_ppo(policy_kwargs=dict(rule="none")))[1]
    with pytest.raises(ValueError, match=r"a state of shapes .* are allowed"):
        small_ppo().predict(OBSERVATIONS, state)


def test_episode_starts_of_other_environments_are_refused():
    with pytest.raises(ValueError, match="episode_start has 2 entries, but there are observations of 3"):
        small_ppo().predict(OBSERVATIONS, episode_start=np.zeros(2, bool))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_observation_that_is_not_finite_is_refused_with_the_index_of_its_environment(bad):
    observation = OBSERVATIONS.copy()
    observation[1, 2] = bad
    with pytest.raises(ValueError, match=rf"The observation of environment 1 is {bad} at index \(2,\)"):
        small_ppo().predict(observation)


def test_a_policy_whose_parameters_have_diverged_is_stopped_in_its_rollout():
    model = small_ppo()
    with torch.no_grad():
        model.policy.action_net.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"parameter 'action_net.bias' are not finite"):
        model.learn(96)
    assert torch.distributions.Distribution._validate_args  # torch checks again


def test_torch_checks_again_when_the_last_of_two_threads_has_acted():
    first, second = unvalidated_distributions(), unvalidated_distributions()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not torch.distributions.Distribution._validate_args
    second.__exit__(None, None, None)
    assert torch.distributions.Distribution._validate_args


def test_a_nan_in_a_dict_observation_is_named_by_its_key():
    env = random_vec_env(spaces.Dict({"a": BOX, "b": BOX}), spaces.Discrete(2))
    observation = env.reset()
    observation["b"][2, 0] = np.nan
    with pytest.raises(ValueError, match="environment 2 under 'b' is nan"):
        small_ppo(env, "MultiInputPolicy").predict(observation)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(rule="ojja"), "Unknown plasticity rule 'ojja'"),
        (dict(modulaton="simple"), "no argument 'modulaton'. Did you mean 'modulation'?"),
        (dict(critic="lstm"), "Unknown critic 'lstm'. Allowed: mlp, plastic"),
        (dict(decoder="spiking"), "Unknown decoder 'spiking'"),
        (dict(rule="oja", snn_kwargs=dict(rule="hebb")), "got rule='oja', and 'hebb' in snn_kwargs"),
    ],
)
def test_bad_policy_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        small_ppo(policy_kwargs=kwargs)


def test_an_extractor_with_another_number_of_features_than_it_says_is_refused():
    class Wrong(Dropping):
        features_dim = 9

    with pytest.raises(UserError, match=r"takes 9 features of each environment, got \[8\]"):
        small_ppo(policy_kwargs=dict(features_extractor_class=Wrong)).learn(96)


def test_the_backend_is_visible_and_never_switched_silently(capsys, monkeypatch):
    small_ppo(verbose=1)
    assert "Plastic scan of the layers: fused, fused" in capsys.readouterr().out
    monkeypatch.setitem(RULES, "new", Rule(lambda y, theta: (y, 0.0 * y)))
    small_ppo(verbose=1, policy_kwargs=dict(rule=["oja", "new"]))
    assert "Plastic scan of the layers: fused, reference" in capsys.readouterr().out
    with pytest.raises(ValueError, match="needs the derivative of the rule, and 'new' has none"):
        small_ppo(policy_kwargs=dict(rule="new", backend="fused"))


def test_plain_observations_are_no_sequences():
    policy = small_ppo().policy
    with pytest.raises(TypeError, match="use ChunkedRolloutBuffer"):
        policy.evaluate_actions(torch.zeros(3, 4), torch.zeros(3, 4))


def test_learning_rates_and_parameters_are_grouped_without_loss():
    policy = small_ppo(policy_kwargs=dict(critic_lr_scale=2.0, plasticity_lr_scale=3.0)).policy
    groups = {group["name"]: group for group in policy.parameter_groups()}
    assert {name: group["lr_scale"] for name, group in groups.items()} == {
        "critic": 2.0,
        "plasticity": 3.0,
        "actor": 1.0,
    }
    grouped = [id(p) for group in groups.values() for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in policy.parameters())


@pytest.mark.parametrize(
    ("kwargs", "modules"),
    [
        (dict(critic="plastic"), {"critic_snn", "value_net"}),
        (
            dict(share_features_extractor=False, features_extractor_class=Dropping),
            {"vf_features_extractor", "mlp_extractor", "value_net"},
        ),
    ],
)
def test_all_that_serves_the_critic_alone_learns_at_its_rate(kwargs, modules):
    policy = small_ppo(policy_kwargs=kwargs).policy
    (ids,) = ({id(p) for p in group["params"]} for group in policy.parameter_groups() if group["name"] == "critic")
    assert {name.split(".")[0] for name, p in policy.named_parameters() if id(p) in ids} == modules
