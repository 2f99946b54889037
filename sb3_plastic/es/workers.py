"""Ray actors that play the sub-batches of a generation, on one machine or on many."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cloudpickle
import numpy as np
import torch

from sb3_plastic.errors import UserError
from sb3_plastic.es.environments import pack, unpack
from sb3_plastic.es.evolved import Evolved
from sb3_plastic.es.population import Population
from sb3_plastic.es.rollout import Generation, Outcome, Step, SubBatch, SubBatchPlayer
from sb3_plastic.policies import PlasticPolicy
from sb3_plastic.snn.encoders import ENCODERS
from sb3_plastic.snn.neurons import NEURONS
from sb3_plastic.snn.readouts import READOUTS
from sb3_plastic.snn.rules import RULES
from sb3_plastic.snn.scan import set_num_threads
from sb3_plastic.snn.surrogate import SURROGATES
from sb3_plastic.versions import versions

ATTEMPTS = 3
"""How often a sub-batch is played before the loss of its workers is an error."""

REGISTRIES: tuple[dict[str, Any], ...] = (RULES, NEURONS, SURROGATES, ENCODERS, READOUTS)
"""What a policy names parts from. A worker has those that a user has added only if they are sent."""


class WorkerError(UserError):
    """Workers cannot be had, differ from this process, or die again and again."""


class Recording(NamedTuple):
    """
    The steps of a sub-batch as a worker sends them.

    :param n_playing: int [T]
    :param rewards: [T, n_envs]
    :param dones: bool [T, n_envs]
    :param infos: by step and environment, of episodes that ended
    :param seconds: that the worker took
    """

    n_playing: np.ndarray
    rewards: np.ndarray
    dones: np.ndarray
    infos: dict[tuple[int, int], dict[str, Any]]
    seconds: float

    def replay(self, on_step: Callable[[Step], bool]) -> bool:
        """
        Show the steps to callbacks.

        :param on_step: as for :meth:`sb3_plastic.es.rollout.SubBatchPlayer.play`
        :return: False if it stopped
        """
        for t, (n_playing, rewards, dones) in enumerate(zip(self.n_playing, self.rewards, self.dones, strict=True)):
            infos = [self.infos.get((t, i), {}) for i in range(len(dones))]
            if not on_step(Step(int(n_playing), rewards, dones, infos)):
                return False
        return True


class Worker:
    """
    What runs in an actor.

    :param packed_env: from :func:`sb3_plastic.es.environments.pack`
    :param packed_policy: from :func:`pack_policy`
    """

    def __init__(self, packed_env: bytes, packed_policy: bytes) -> None:
        torch.set_num_threads(1)
        set_num_threads(1)
        registries, policy_class, arguments, state, evolve, fixed = cloudpickle.loads(packed_policy)
        for here, theirs in zip(REGISTRIES, registries, strict=True):
            here.update(theirs)
        policy = policy_class(**arguments)
        policy.load_state_dict(state)
        policy.set_training_mode(False)
        self.player = SubBatchPlayer(Population(policy), Evolved(policy, evolve, fixed), unpack(packed_env))

    def versions(self) -> dict[str, str]:
        """Of Python and packages, where the worker runs."""
        return versions()

    def play(self, generation: Generation, batch: SubBatch) -> tuple[Outcome, Recording]:
        """See :meth:`sb3_plastic.es.rollout.SubBatchPlayer.play`."""
        start = time.perf_counter()
        steps: list[Step] = []
        if self.player.normalize is not None and generation.statistics is not None:
            self.player.normalize.obs_rms = generation.statistics  # type: ignore[assignment]

        def record(step: Step) -> bool:
            steps.append(step)
            return True

        outcome = self.player.play(generation, batch, record)
        assert outcome is not None
        kept = ("episode", "is_success", "TimeLimit.truncated")
        infos = {
            (t, int(i)): {key: step.infos[i][key] for key in kept if key in step.infos[i]}
            for t, step in enumerate(steps)
            for i in np.flatnonzero(step.dones)
        }
        n_playing, rewards, dones = (np.array(column) for column in list(zip(*steps, strict=True))[:3])
        return outcome, Recording(n_playing, rewards, dones, infos, time.perf_counter() - start)


def pack_policy(policy: PlasticPolicy, evolve: str | Sequence[str], fixed: str) -> bytes:
    """
    :param policy: policy
    :param evolve: argument of :class:`~sb3_plastic.es.evolved.Evolved`
    :param fixed: argument of :class:`~sb3_plastic.es.evolved.Evolved`
    :return: for a :class:`Worker`
    """
    state = {name: tensor.cpu() for name, tensor in policy.state_dict().items()}
    return cloudpickle.dumps((REGISTRIES, type(policy), policy._get_constructor_parameters(), state, evolve, fixed))


def check_versions(theirs: dict[str, str], mine: dict[str, str]) -> None:
    """
    :param theirs: a worker's
    :param mine: of this process
    :raises WorkerError: if they differ
    """
    missing = "missing"
    names = [name for name in mine | theirs if mine.get(name) != theirs.get(name)]
    different = [f"{name} {theirs.get(name, missing)} there, {mine.get(name, missing)} here" for name in names]
    if different:
        raise WorkerError(f"A worker runs other software: {'; '.join(different)}. Install the same on all machines.")


def connect(n_workers: int, address: str | None, what: str = "n_workers") -> bool:
    """
    Connect to Ray, unless this process is connected.

    :param n_workers: processors to ask for
    :param address: ``None`` starts Ray on this machine; ``"auto"`` is the cluster that this machine belongs to; else
        ``host:port`` of a cluster's head
    :param what: where the user has named the number of processors
    :return: whether the connection was made here
    :raises ImportError: if Ray is missing
    :raises WorkerError: if the cluster cannot be reached, or is too small
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError(f'{what} needs Ray: pip install "sb3_plastic[ray]"') from error
    if address is not None and ":" in address.removeprefix("ray://"):
        host, _, port = address.removeprefix("ray://").rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except (OSError, ValueError) as error:
            raise WorkerError(
                f"No Ray cluster answers at {address} ({error}). Is its head running (ray start --head --port=6379), "
                "and does this machine see it?"
            ) from error
    is_new = not ray.is_initialized()
    if is_new:
        local: dict[str, Any] = dict(num_cpus=n_workers, include_dashboard=False) if address is None else {}
        os.environ.setdefault("RAY_worker_niceness", "0")  # else 15: workers would wait for everything else
        try:
            ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **local)
        except (ConnectionError, RuntimeError) as error:
            raise WorkerError(
                f"Cannot connect to the Ray cluster {address!r}: {error}. Start its head with ray start --head, and "
                "each other machine with ray start --address=HEAD:6379; "
                "or use this machine (no ray_address, --ray local)."
            ) from error
    n_cpus = int(ray.cluster_resources().get("CPU", 0))
    if n_cpus < n_workers:
        if is_new:
            ray.shutdown()
        raise WorkerError(f"{what}={n_workers}, but the Ray cluster has {n_cpus} processors.")
    return is_new


class RayEvaluator:
    """
    Sends each sub-batch to a worker. A worker that dies costs time: its sub-batch is played again, by another.

    :param player: of this process, whose environment and policy are copied
    :param policy: policy
    :param evolve: argument of :class:`~sb3_plastic.es.evolved.Evolved`
    :param fixed: argument of :class:`~sb3_plastic.es.evolved.Evolved`
    :param n_workers: how many workers, at least 1
    :param address: argument of :func:`connect`
    :raises ImportError: if Ray is missing
    :raises WorkerError: if workers cannot be had, or have other software
    :raises ValueError: if the environment cannot be copied
    """

    def __init__(
        self,
        player: SubBatchPlayer,
        policy: PlasticPolicy,
        evolve: str | Sequence[str],
        fixed: str,
        n_workers: int,
        address: str | None,
    ) -> None:
        self._packed = pack(player.env), pack_policy(policy, evolve, fixed)
        self._owns_ray = connect(n_workers, address)
        import ray

        self._ray = ray
        self._make: Callable[..., Any] = ray.remote(num_cpus=1, max_restarts=0)(Worker).remote
        self.n_workers, self.n_lost = n_workers, 0
        self._utilisation = 0.0
        try:
            self._workers: list[Any] = [self._make(*self._packed) for _ in range(n_workers)]
            for theirs in self._get([worker.versions.remote() for worker in self._workers]):
                check_versions(theirs, versions())
        except BaseException:
            self.close()
            raise

    def _get(self, reference: Any) -> Any:
        """What a worker has returned; an error of its code is raised as it was raised there."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None

    def evaluate(
        self, generation: Generation, batches: Sequence[SubBatch], on_step: Callable[[Step], bool]
    ) -> list[Outcome] | None:
        """See :meth:`~sb3_plastic.es.evaluator.Evaluator.evaluate`."""
        start, shared = time.perf_counter(), self._ray.put(generation)
        waiting, attempts = deque(range(len(batches))), [0] * len(batches)
        free, running = list(self._workers), {}
        done: dict[int, tuple[Outcome, Recording]] = {}
        shown = 0
        while shown < len(batches):
            while waiting and free:
                number, worker = waiting.popleft(), free.pop()
                attempts[number] += 1
                running[worker.play.remote(shared, batches[number])] = number, worker
            (finished,), _ = self._ray.wait([*running], num_returns=1)
            number, worker = running.pop(finished)
            try:
                done[number] = self._get(finished)
                free.append(worker)
            except self._ray.exceptions.RayError as error:
                self.n_lost += 1
                if attempts[number] == ATTEMPTS:
                    raise WorkerError(
                        f"{ATTEMPTS} workers died one after the other while they played the same individuals: {error}. "
                        "If memory ran out, use fewer environments (n_envs) or fewer workers per machine."
                    ) from error
                free.append(self._replace(worker))
                waiting.appendleft(number)
            while shown in done:  # in the order of the sub-batches, as if they had been played one after the other
                if not done[shown][1].replay(on_step):
                    return None
                shown += 1
        busy = sum(recording.seconds for _, recording in done.values())
        self._utilisation = busy / (self.n_workers * (time.perf_counter() - start))
        return [done[number][0] for number in range(len(batches))]

    def _replace(self, worker: Any) -> Any:
        self._ray.kill(worker)
        self._workers.remove(worker)
        self._workers.append(self._make(*self._packed))
        return self._workers[-1]

    def statistics(self) -> dict[str, float]:
        """See :meth:`~sb3_plastic.es.evaluator.Evaluator.statistics`."""
        return {"workers": self.n_workers, "worker_utilisation": self._utilisation, "workers_lost": self.n_lost}

    def close(self) -> None:
        """See :meth:`~sb3_plastic.es.evaluator.Evaluator.close`."""
        for worker in getattr(self, "_workers", []):
            self._ray.kill(worker)
        if self._owns_ray:
            self._ray.shutdown()
