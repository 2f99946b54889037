"""Doors through which users' data come in: whatever comes, the answer is right, or an error that says what is wrong.

The profile here is small. ``scripts/campaign.py`` runs the same tests with thousands of inputs each.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch
from envs import RandomEnv
from evaluation_helpers import make_trace
from gymnasium import spaces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sb3_plastic import PlasticPPO, load_policy
from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.reading import load_trace
from sb3_plastic.evaluation.records import Cell, save_trace
from sb3_plastic.export.plain import from_plain, to_plain
from sb3_plastic.perturbations.schedules import draw_timing
from sb3_plastic.perturbations.spec import Schedule, from_yaml, parse, to_yaml
from sb3_plastic.safe import read_literal, read_pickle, read_yaml, safe_objects
from sb3_plastic.snn.network import PlasticSNN
from sb3_plastic.snn.scan import LayerConfig, plastic_scan
from sb3_plastic.snn.state import SNNState

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from trials.damaging import DAMAGES, damaged

EXAMPLES = int(os.environ.get("SB3_PLASTIC_EXAMPLES", "20"))
door = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=EXAMPLES <= 20,
    suppress_health_check=list(HealthCheck),
)

AGENT = Path(__file__).parent.parent / "docs" / "results" / "learning" / "agents" / "plastic_ppo" / "HalfCheetah-v5_1"
BOX = spaces.Box(-np.inf, np.inf, (3,), np.float32)

scalars = st.none() | st.booleans() | st.integers(-5, 2000) | st.floats() | st.text(max_size=5)
plain = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
)


damages = st.tuples(st.sampled_from(DAMAGES), st.floats(0, 1, exclude_max=True), st.integers(1, 64))


# The network


@door
@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from(["none", "hebb", "oja", "bcm"]),
    st.sampled_from(["none", "simple", "retroactive"]),
    st.booleans(),
    st.integers(0, 2**31 - 1),
)
def test_the_scan_is_the_reference_for_any_shape(T, K, B, M, N, rule, modulation, recurrent, seed):
    torch.manual_seed(seed)
    net = PlasticSNN(M, [N], n_ticks=K, rule=rule, modulation=modulation, recurrent=recurrent, gain=3.0)
    layer = net.layers[0]
    x = torch.randn(T, K, B, M)
    starts = torch.rand(T, B) < 0.3
    results = []
    for backend in ("auto", "reference"):
        with torch.no_grad():
            state = layer.initial_state(B)
            results.append(plastic_scan(x, starts, state, layer.effective_parameters(), layer.config, None, backend))
    (spikes, state), (expected, expected_state) = results
    # A potential within rounding of the threshold may spike in one form only; then all that follows differs.
    if torch.equal(spikes, expected):
        for tensor, other in zip(state, expected_state, strict=True):
            torch.testing.assert_close(tensor, other, rtol=1e-4, atol=1e-5)
    assert (spikes != expected).float().mean() < 0.2
    assert set(spikes.unique().tolist()) <= {0.0, 1.0}


@pytest.fixture(scope="module")
def policy():
    env = RandomEnv(BOX, spaces.Box(-1, 1, (2,)))
    kwargs = dict(net_arch=dict(pi=[5, 4], vf=[4]))
    return PlasticPPO("MlpPolicy", env, n_steps=16, batch_size=16, policy_kwargs=kwargs, device="cpu").policy


@door
@given(
    observation=hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.bool_]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ),
    starts=st.none() | hnp.arrays(np.bool_, st.integers(0, 4)) | st.just("x"),
    broken=st.none() | st.sampled_from(["short", "nan", "other", "shape"]),
)
def test_predict_gives_actions_or_an_error(policy, observation, starts, broken):
    state = None
    if broken:
        _, state = policy.predict(np.zeros((2, 3), np.float32))
        change = {
            "short": state[:-1],
            "nan": tuple(array * np.nan if array.dtype.kind == "f" else array for array in state),
            "other": "state",
            "shape": tuple(array[:1] for array in state),
        }
        state = change[broken]
    try:
        with np.errstate(all="ignore"):
            actions, _ = policy.predict(observation, state, starts, deterministic=True)
    except (ValueError, TypeError):
        return
    assert np.isfinite(actions).all()
    assert (np.abs(actions) <= 1).all()


OPTIONS = {
    "n_ticks": st.integers(-1, 4) | scalars,
    "rule": st.sampled_from(["none", "hebb", "oja", "bcm", "x"])
    | st.lists(st.sampled_from(["oja", "bcm"]), max_size=3),
    "modulation": st.sampled_from(["none", "simple", "retroactive"]) | scalars,
    "recurrent": st.booleans(),
    "encoder": st.sampled_from(["current", "population"]) | scalars,
    "readout": st.sampled_from(["leaky", "rate"]) | scalars,
    "gain": st.floats(-1, 5) | scalars,
    "alpha_init": st.floats() | scalars,
    "eta_init": st.floats(),
    "eta_per": st.sampled_from(["synapse", "neuron", "layer"]) | scalars,
    "beta": st.floats(-0.5, 1.5) | st.lists(st.floats(0, 1), max_size=3),
    "rho": st.floats(),
    "learn": st.lists(st.sampled_from(["beta", "rho", "kappa", "x"]), max_size=3),
    "rate_spread": st.floats(),
    "threshold": st.floats(),
    "slope": st.floats(),
    "h_max": st.floats(),
    "surrogate": st.sampled_from(["fast_sigmoid", "arctan", "triangle"]) | scalars,
}


@door
@given(st.fixed_dictionaries({}, optional=OPTIONS))
def test_a_configuration_makes_a_network_that_runs_or_an_error(options):
    try:
        net = PlasticSNN(3, [4, 3], **options)
    except (ValueError, TypeError):
        return
    with torch.no_grad():
        latent, state = net.step(torch.randn(2, 3), torch.ones(2, dtype=torch.bool), net.initial_state(2))
    assert latent.isfinite().all()
    assert isinstance(state, SNNState)


@door
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("rule", "neuron", "threshold", "slope", "h_max"), scalars)))
def test_a_layers_configuration_is_right_or_an_error(options):
    try:
        config = LayerConfig(**options)
    except (ValueError, TypeError):
        return
    assert all(np.isfinite(getattr(config, name)) for name in ("threshold", "slope", "h_max"))


# Perturbations

KINDS = ["mass", "friction", "strength", "motor_off", "gravity", "slope", "action_bias", "damping", "nothing"]
times = st.integers(-5, 900) | st.fixed_dictionaries({"uniform": st.lists(st.integers(0, 900), max_size=3)}) | scalars
schedules = st.fixed_dictionaries(
    {"form": st.sampled_from(["episode", "onset", "switch", "drift", "random_walk", "periodic", "intermittent", "x"])},
    optional=dict.fromkeys(("at", "end", "every", "ramp", "sigma", "period", "duration", "pause"), times),
)
entries = st.fixed_dictionaries(
    {"kind": st.sampled_from(KINDS) | scalars},
    optional={
        "value": st.floats(-3, 3) | plain,
        "target": st.text(max_size=6) | plain,
        "schedule": schedules | plain,
        "params": plain,
    },
)


@door
@given(st.lists(entries, max_size=3) | plain)
def test_perturbations_are_understood_or_an_error(data):
    try:
        found = parse(data)
    except UserError:
        return
    assert from_yaml(to_yaml(found)) == found


@door
@given(st.text(max_size=80))
def test_any_text_of_perturbations_is_answered(text):
    try:
        from_yaml(text)
    except UserError:
        return


@door
@given(schedules, st.integers(0, 2**31 - 1))
def test_an_activation_stays_in_its_range(data, seed):
    try:
        fields = {name: value for name, value in data.items() if isinstance(value, int | str)}
        schedule = Schedule(**fields)
    except (UserError, TypeError):
        return
    level = draw_timing(schedule, np.random.default_rng(seed)).level
    assert all(-1 <= level(t) <= 1 for t in range(300))


# Files


@door
@given(plain)
def test_plain_data_comes_back_from_a_pickle(value):
    assert repr(read_pickle(cloudpickle.dumps(value), "file")) == repr(value)


PICKLE = cloudpickle.dumps({"a": np.arange(5), "b": spaces.Box(-1, 1, (2,)), "c": [1, "two"], "d": torch.nn.ReLU})


@door
@given(damages.map(lambda damage: damaged(PICKLE, *damage)) | st.binary(max_size=60))
def test_any_pickle_is_data_or_an_error(content):
    try:
        read_pickle(content, "file")
    except UserError:
        return


@door
@given(st.text(max_size=60) | plain.map(lambda value: json.dumps(value, allow_nan=True)))
def test_any_yaml_is_a_mapping_or_an_error(text):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "args.yml"
        file.write_text(text, encoding="utf-8", errors="replace")
        try:
            assert isinstance(read_yaml(file), dict)
        except UserError:
            return


@door
@given(st.text(max_size=60))
def test_any_string_of_python_is_a_literal_or_an_error(text):
    try:
        read_literal(text, "file")
    except UserError:
        return


@door
@given(plain)
def test_plain_data_keeps_every_bit_through_json(value):
    if not any(key.startswith("$") for key in str(value)):
        assert repr(from_plain(json.loads(json.dumps(to_plain(value, ""), allow_nan=False)), "")) == repr(value)


@pytest.fixture(scope="module")
def folder(policy, tmp_path_factory):
    return policy.export(tmp_path_factory.mktemp("export") / "agent")


@door
@given(st.sampled_from(["config.json", "policy.safetensors"]), damages)
def test_a_damaged_export_is_found_out(folder, name, damage):
    whole = (folder / name).read_bytes()
    content = damaged(whole, *damage)
    with tempfile.TemporaryDirectory() as temporary:
        copy = shutil.copytree(folder, Path(temporary) / "agent")
        (copy / name).write_bytes(content)
        try:
            load_policy(copy)
        except UserError:
            return
    assert content == whole or json.loads(content) == json.loads(whole)


MODEL = (AGENT / "HalfCheetah-v5.zip").read_bytes()


@door
@given(damages)
def test_a_damaged_model_gives_its_objects_or_an_error(damage):
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model.zip"
        path.write_bytes(damaged(MODEL, *damage))
        try:
            safe_objects(path)
        except UserError:
            return


FINITE_OR_NAN = st.floats(width=32, allow_infinity=False)  # an infinite reward is refused
CELL = Cell("static", "toy/nominal", "intact", "nominal", "none", 0, None)


@door
@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 6)), elements=FINITE_OR_NAN))
def test_a_trace_comes_back(forward):
    with np.errstate(all="ignore"), tempfile.TemporaryDirectory() as temporary:
        trace = make_trace(forward, -1)
        cell, back = load_trace(save_trace(Path(temporary), CELL, trace))
    assert cell == CELL
    np.testing.assert_array_equal(back.forward_reward, trace.forward_reward)


def _trace():
    with tempfile.TemporaryDirectory() as temporary:
        return save_trace(Path(temporary), CELL, make_trace(np.ones((2, 5)), -1)).read_bytes()


TRACE = _trace()


def test_a_trace_of_a_later_version_is_not_said_to_be_damaged(tmp_path):
    path = save_trace(tmp_path, CELL, make_trace(np.ones((2, 5)), -1))
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **arrays, torque=np.ones((2, 5)))
    with pytest.raises(UserError, match="has torque, which this version does not know: a later one wrote it"):
        load_trace(path)


@door
@given(damages)
def test_a_damaged_trace_is_found_out(damage):
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "trace.npz"
        path.write_bytes(damaged(TRACE, *damage))
        try:
            load_trace(path)
        except UserError:
            return
