"""One step of a policy as an ONNX graph, with the whole state, fast weights included, among its inputs and outputs."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sb3_plastic.errors import UserError
from sb3_plastic.export import Normalization
from sb3_plastic.files import replace_file
from sb3_plastic.interchange.step import DeterministicStep, check_convertible, state_names

OBSERVATION, EPISODE_START, ACTION = "observation", "episode_start", "action"


def to_onnx(policy: Any, file: str | Path, normalization: Normalization | None = None, n_envs: int = 1) -> Path:
    """
    Write the step of a policy. Its inputs are ``observation`` [B, ...], ``episode_start`` (bool [B], which resets the
    state) and the state (``layer0.v``, ...); its outputs ``action`` and the state after (``layer0.v.next``, ...). A
    state of zeros is the start.

    :param policy: a PlasticPolicy with a box of observations
    :param file: to write
    :param normalization: what the policy wants done to observations; it becomes a part of the graph
    :param n_envs: rows, B, which are fixed in the graph
    :return: the file
    :raises UserError: if ONNX has no form for the policy, or the package onnx is missing
    """
    policy = check_convertible(policy, "ONNX")
    step = DeterministicStep(policy, normalization).eval()
    space = policy.observation_space
    names = state_names(policy.snn)
    state = [tensor for tensor in policy.snn.initial_state(n_envs, random=False).tensors() if tensor.numel()]
    # Torch writes no unsigned numbers of more than a byte: the graph takes wider ones, that hold them.
    given = np.result_type(space.dtype, np.int8) if space.dtype.str[1:] in ("u2", "u4", "u8") else space.dtype
    observation = torch.zeros(n_envs, *space.shape, dtype=torch.as_tensor(np.zeros(0, given)).dtype)
    graph = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # Of the exporter by tracing, which is deprecated: the other takes twenty times as long for the same graph. What
        # it warns of (Python's numbers become constants) is as intended.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                step,
                (observation, torch.ones(n_envs, dtype=torch.bool), *state),
                graph,  # type: ignore[arg-type]  # a file-like object serves as well
                input_names=[OBSERVATION, EPISODE_START, *names],
                output_names=[ACTION, *(f"{name}.next" for name in names)],
                opset_version=17,
                dynamo=False,
            )
        except (ImportError, torch.onnx.errors.OnnxExporterError) as error:
            raise UserError(f'ONNX export failed: {error}. It needs: pip install "sb3_plastic[onnx]"') from error
    replace_file(Path(file), graph.getvalue())
    return Path(file)


def import_runtime() -> Any:
    """
    The package that runs graphs.

    :raises UserError: if it is missing
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError('Running a graph needs: pip install "sb3_plastic[onnx]"') from error
    return onnxruntime


class OnnxPolicy:
    """
    A graph of :func:`to_onnx`, run by onnxruntime: SB3's ``predict`` without torch or this package's networks.

    :param file: the graph
    :raises UserError: if onnxruntime is missing, or the graph is another
    """

    def __init__(self, file: str | Path) -> None:
        runtime = import_runtime()
        if not Path(file).is_file():
            raise UserError(f"There is no graph {file}.")
        try:
            self._session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has its own, which share no base
            raise UserError(f"{file} is no graph that onnxruntime can run: {error}") from error
        inputs = {entry.name: entry for entry in self._session.get_inputs()}
        if not {OBSERVATION, EPISODE_START} <= set(inputs):
            raise UserError(f"{file} is no step of a policy: its inputs are {', '.join(inputs)}.")
        self._types = {name: np.dtype(_TYPES[entry.type]) for name, entry in inputs.items()}
        # Of the outputs: a state that no neuron reads is none of the inputs.
        self._state = [entry for entry in self._session.get_outputs() if entry.name != ACTION]

    def predict(
        self,
        observation: np.ndarray,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """
        As in SB3; the most likely action, always.

        :param observation: of as many environments as the graph has rows, as environments give them
        :param state: what the last call returned, None to start afresh
        :param episode_start: where an episode starts, [B]
        :param deterministic: graphs know no other
        :return: actions, and the state
        """
        if state is None:
            state = tuple(np.zeros(entry.shape, _TYPES[entry.type]) for entry in self._state)
        starts = np.zeros(len(observation), bool) if episode_start is None else np.asarray(episode_start, bool)
        names = [OBSERVATION, EPISODE_START, *(entry.name.removesuffix(".next") for entry in self._state)]
        values = dict(zip(names, [observation, starts, *state], strict=True))
        feed = {name: np.asarray(value, self._types[name]) for name, value in values.items() if name in self._types}
        action, *after = self._session.run(None, feed)
        return action, tuple(after)


_TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(bool)": "bool"} | {
    f"tensor({name})": name for name in ("float16", "uint8", "int8", "int16", "int32", "int64")
}
