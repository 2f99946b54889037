"""Files are read without running what is in them."""

import collections
import os
import pickle
from types import SimpleNamespace

import cloudpickle
import numpy as np
import pytest
import torch
import yaml
from gymnasium import spaces

from sb3_plastic.policies import PlasticPolicy
from sb3_plastic.safe import DamagedError, RefusedError, check_wrapper, read_literal, read_pickle, read_yaml


class Call:
    """Pickles as a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def read(value):
    return read_pickle(cloudpickle.dumps(value), "file")


# What is data comes back


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, None, True], "b": ("x", b"y")},
        {1, 2},
        collections.OrderedDict(z=1, a=2),
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
        np.zeros((0, 3), np.float32),
        np.array(["text"]),
        np.float32(0.1),
        np.int64(3),
        np.bool_(True),
        torch.nn.ReLU,
        PlasticPolicy,
        spaces.Dict({"b": spaces.Discrete(3), "a": spaces.Box(-1, 1, (2,))}),
        spaces.Tuple([spaces.MultiBinary(3), spaces.MultiDiscrete([2, 3])]),
        spaces.Tuple([spaces.MultiBinary([2, 3]), spaces.MultiDiscrete([2, 3], np.int32, start=[1, -1])]),
        spaces.Tuple([spaces.Discrete(3, start=-1), spaces.Box(0, 255, (2, 2), np.uint8)]),
    ],
    ids=repr,
)
def test_data_comes_back(value):
    back = read(value)
    assert type(back) is type(value)
    if isinstance(value, np.ndarray | np.generic):
        assert back.dtype == value.dtype
        np.testing.assert_array_equal(back, value)
        assert back.flags.writeable == value.flags.writeable
    else:
        assert back == value


def test_a_space_that_has_been_sampled_comes_back():
    space = spaces.Box(-1, 1, (2,))
    space.seed(3)
    space.sample()
    assert read(space) == space


# What is more is refused, and not run

GADGETS = {
    "a command": Call(os.system, "true"),
    "evaluated code": Call(eval, "1"),
    "another loader": Call(pickle.loads, pickle.dumps(1)),
    "torch's loader": Call(torch.load, "file"),
    "torch's hub": Call(torch.hub.load, "a/b", "c"),
    "numpy's loader": Call(np.load, "file", None, True),
    "an attribute": Call(getattr, os, "system"),
    "an import": Call(__import__, "antigravity"),
    "a lambda": lambda: 1,
    "a class of its own": type("Own", (), {}),
    "an object of another package": SimpleNamespace(a=1),
    "an array of objects": np.array([1, "a"], dtype=object),
    "a structured array": np.zeros(2, dtype=[("a", "f4"), ("b", "O")]),
    "a call of an allowed class": Call(torch.nn.ReLU, True),
    "a policy to be made": Call(PlasticPolicy, 1, 2, 3),
}


@pytest.mark.parametrize("name", GADGETS)
def test_more_than_data_is_refused(name):
    with pytest.raises(RefusedError, match="--trust"):
        read(GADGETS[name])


GLOBALS = """
sb3_plastic.cli main | sb3_plastic.perturbations.vec_env locomotion_vec_env | sb3_plastic.policies torch.load
stable_baselines3.common.save_util load_from_zip_file | stable_baselines3.ppo.ppo PPO.load
stable_baselines3.common.vec_env.base_vec_env CloudpickleWrapper | stable_baselines3.common.env_util make_vec_env
gymnasium make | gymnasium.envs.registration make | gymnasium.spaces.box np.load | numpy load | numpy f2py.compile
numpy.testing._private.utils runstring | numpy._core.multiarray fromfile | torch.serialization load
torch._dynamo.guards GuardBuilder.get | torch.jit load | builtins exec | builtins object | builtins getattr
collections namedtuple | collections defaultdict | functools partial | operator methodcaller | copyreg _reconstructor
cloudpickle.cloudpickle _make_function | cloudpickle.cloudpickle subimport | types CodeType | os system | posix system
nt system | subprocess Popen | codecs encode | _codecs encode | importlib import_module | pkgutil resolve_name
pydoc locate | pydoc pipepager | timeit timeit | ctypes CDLL | io open | webbrowser open
"""


@pytest.mark.parametrize("name", [entry.strip() for entry in GLOBALS.replace("\n", "|").split("|") if entry.strip()])
@pytest.mark.parametrize("protocol", [0, 4])
def test_names_that_could_do_harm_are_refused(name, protocol):
    module, attribute = name.split()
    if protocol == 0:
        content = f"c{module}\n{attribute}\n.".encode()
    else:
        parts = b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, attribute))
        content = b"\x80\x04" + parts + b"\x93."
    with pytest.raises(RefusedError, match=attribute.rsplit(".", 1)[-1]):
        read_pickle(content, "file")


def test_the_message_names_file_request_and_remedy():
    with pytest.raises(RefusedError, match=r"the model x asks for posix\.system.*trust=True"):
        read_pickle(pickle.dumps(Call(os.system, "true")), "the model x")


def test_any_damage_to_a_pickle_is_answered():
    whole = cloudpickle.dumps({"a": np.arange(5), "b": spaces.Box(-1, 1, (2,)), "c": [1, "two"]})
    rng = np.random.default_rng(0)
    for _ in range(300):
        at = int(rng.integers(len(whole)))
        flipped = whole[:at] + bytes([whole[at] ^ (1 << int(rng.integers(8)))]) + whole[at + 1 :]
        for content in (whole[:at], flipped):
            try:
                read_pickle(content, "file")
            except (RefusedError, DamagedError):
                continue


def test_what_holds_itself_is_refused():
    loop: list = []
    loop.append(loop)
    with pytest.raises(DamagedError, match="itself"):
        read(loop)


# YAML, strings of Python, wrappers


def test_ordered_dictionaries_and_tuples_of_rl_zoo_are_data(tmp_path):
    file = tmp_path / "args.yml"
    file.write_text(yaml.dump(collections.OrderedDict(env="Ant-v5", shape=(1, 2))))
    assert "!!python" in file.read_text()
    assert read_yaml(file) == {"env": "Ant-v5", "shape": [1, 2]}


def test_an_empty_file_holds_nothing(tmp_path):
    file = tmp_path / "args.yml"
    file.write_text("# nothing yet\n")
    assert read_yaml(file) == {}


def test_a_class_that_files_may_name_is_its_name(tmp_path):
    file = tmp_path / "config.yml"
    file.write_text(yaml.dump({"policy_kwargs": {"activation_fn": torch.nn.ReLU}}))
    assert "!!python/name" in file.read_text()
    assert read_yaml(file)["policy_kwargs"] == {"activation_fn": "torch.nn.modules.activation.ReLU"}


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system [true]",
        "!!python/object/new:os.system [true]",
        "a: !!python/name:os.system",
        "a: !!python/module:os",
        "!!python/object/apply:collections.OrderedDict [[[a, !!python/object/apply:os.system [x]]]]",
    ],
)
def test_tags_of_python_are_refused(tmp_path, text):
    file = tmp_path / "args.yml"
    file.write_text(text)
    with pytest.raises(RefusedError, match=r"python/.*os"):
        read_yaml(file)


@pytest.mark.parametrize("text", ["a: [", "- 1", "!!python/object/apply:collections.OrderedDict 3", "a: !x 1", "\x00"])
def test_damaged_yaml_is_answered(tmp_path, text):
    file = tmp_path / "args.yml"
    file.write_text(text)
    with pytest.raises(DamagedError, match=r"args\.yml"):
        read_yaml(file)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{'norm_obs': True, 'gamma': 0.9}", {"norm_obs": True, "gamma": 0.9}),
        ("dict(norm_obs=True, clip=dict(a=-1))", {"norm_obs": True, "clip": {"a": -1}}),
        (True, True),
        ("[1, (2, 'x')]", [1, (2, "x")]),
        (" {'a': 1}\n", {"a": 1}),
        ("dict(a=[dict(b=1)], c=(dict(), 2))", {"a": [{"b": 1}], "c": ({}, 2)}),
    ],
)
def test_strings_of_literals_are_data(text, value):
    assert read_literal(text, "config.yml") == value


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('x')",
        "dict(a=open('x'))",
        "[dict(a=open('x'))]",
        "dict(**x)",
        "dict([('a', 1)])",
        "f'{x}'",
        "(",
    ],
)
def test_strings_of_code_are_refused(text):
    with pytest.raises(RefusedError, match=r"config\.yml"):
        read_literal(text, "config.yml")


def test_known_wrappers_are_allowed():
    check_wrapper("sb3_plastic.wrappers.PreviousActionReward", "config.yml")
    check_wrapper({"gymnasium.wrappers.ClipAction": None}, "config.yml")  # `- gymnasium.wrappers.ClipAction:` in YAML
    check_wrapper({"gymnasium.wrappers.RescaleAction": {"min_action": -1, "max_action": 1}}, "config.yml")


@pytest.mark.parametrize("wrapper", ["os.system", {"pydoc.pipepager": {"text": "", "cmd": "true"}}, "gymnasium.make"])
def test_other_wrappers_are_refused(wrapper):
    with pytest.raises(RefusedError, match="the wrapper"):
        check_wrapper(wrapper, "config.yml")


@pytest.mark.parametrize("wrapper", [3, {}, {"a.b": {}, "c.d": {}}, {"a.b": [1]}, None])
def test_what_names_no_wrapper_is_answered(wrapper):
    with pytest.raises(DamagedError, match=r"wrapper|mapping"):
        check_wrapper(wrapper, "config.yml")
