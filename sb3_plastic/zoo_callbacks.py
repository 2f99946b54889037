"""SB3's and RL Zoo's callbacks, but each file is written at once: a kill at any time leaves whole ones."""

from __future__ import annotations

from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback

from sb3_plastic.files import replacing


def save_statistics(model: BaseAlgorithm, path: Path) -> None:
    """
    Write the statistics of VecNormalize, if the model's environment has some.

    :param model: that is trained
    :param path: of the file
    """
    env = model.get_vec_normalize_env()
    if env is not None:
        with replacing(path) as temporary:
            env.save(str(temporary))


class AtomicCheckpointCallback(CheckpointCallback):
    """SB3's, but the statistics of VecNormalize, with which a training can go on, are there before their model is."""

    def _on_step(self) -> bool:
        if self.n_calls % self.save_freq == 0:
            save_statistics(self.model, Path(self._checkpoint_path("vecnormalize_", "pkl")))
        return super()._on_step()


class AtomicEvalCallback(EvalCallback):
    """SB3's, but the file of evaluations is written at once."""

    def _on_step(self) -> bool:
        if self.log_path is None or self.eval_freq <= 0 or self.n_calls % self.eval_freq:
            return super()._on_step()
        log_path = self.log_path
        try:
            with replacing(Path(f"{log_path}.npz")) as temporary:
                self.log_path = str(temporary)
                return super()._on_step()
        finally:
            self.log_path = log_path


class AtomicVecNormalizeCallback(BaseCallback):
    """
    RL Zoo's ``SaveVecNormalizeCallback``, but the file is written at once.

    :param save_freq: calls from one file to the next
    :param save_path: folder of ``vecnormalize.pkl``
    """

    def __init__(self, save_freq: int, save_path: str) -> None:
        super().__init__()
        self.save_freq, self.path = save_freq, Path(save_path) / "vecnormalize.pkl"

    def _on_step(self) -> bool:
        if self.n_calls % self.save_freq == 0:
            save_statistics(self.model, self.path)
        return True
