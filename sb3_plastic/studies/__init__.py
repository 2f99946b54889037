"""Whole studies, with one command each: ``sb3-plastic study``, and from Python :func:`run_study`."""

from typing import TYPE_CHECKING

from sb3_plastic.lazy import lazy_names

if TYPE_CHECKING:
    from sb3_plastic.studies.calling import run_study
    from sb3_plastic.studies.trial_scores import frame_of

__all__ = ["frame_of", "run_study"]

if not TYPE_CHECKING:
    __getattr__ = lazy_names(__name__, {"frame_of": "trial_scores", "run_study": "calling"})
