"""
The adaptive layer: a trained policy that goes on walking when its robot changes. Around any SB3 model.

Reading order: ``forward_model`` (what is expected), ``predictor`` (asked in numpy), ``synapses`` (what is learned from
the error), ``hypotheses`` (what may have changed), ``responsibility`` (which of them acts), ``layer`` (one step of
all), ``collect``, ``fit`` and ``calibration`` (from nominal transitions), ``policy`` (SB3's ``predict``),
``forecasting`` (how soon it will know), ``training`` (a layer in the loop of another agent's training) and ``files``.
"""

from sb3_plastic.adaptive.files import is_adaptive_folder
from sb3_plastic.adaptive.forecasting import forecast
from sb3_plastic.adaptive.hypotheses import HYPOTHESES, Hypothesis
from sb3_plastic.adaptive.policy import AdaptivePolicy

__all__ = ["HYPOTHESES", "AdaptivePolicy", "Hypothesis", "forecast", "is_adaptive_folder"]
