"""Does it adapt? Evaluation of any SB3 model under novel dynamics. It knows nothing of spiking networks.

In reading order: `measures` (what is measured of an episode), `records` and `reading` (the results folder), `scores`
(of a model), `controls` (what is done to a model's plasticity), `fault_kinds` and `faults` (what is done to
its network), `protocols` (from scenarios to conditions), `settings` (the arguments), `loading` (of models),
`environment` (that of a model's training), `rollout` (many episodes at once), `provenance` (where results come from),
`evaluate` (all of it, resumable), `callback` (during training), `told` (an oracle by compensation), `film` (videos),
`cli`.
"""

from typing import TYPE_CHECKING

from sb3_plastic.lazy import lazy_names

if TYPE_CHECKING:
    from sb3_plastic.evaluation.callback import AdaptationEvalCallback
    from sb3_plastic.evaluation.controls import PlasticityControls
    from sb3_plastic.evaluation.evaluate import Evaluation, evaluate_adaptation
    from sb3_plastic.evaluation.reading import load_traces, read_records
    from sb3_plastic.evaluation.scores import summary, with_scores
    from sb3_plastic.evaluation.settings import ModelSettings, TrialSettings

__all__ = [
    "AdaptationEvalCallback",
    "Evaluation",
    "ModelSettings",
    "PlasticityControls",
    "TrialSettings",
    "evaluate_adaptation",
    "load_traces",
    "read_records",
    "summary",
    "with_scores",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_names(
        __name__,
        {
            "AdaptationEvalCallback": "callback",
            "Evaluation": "evaluate",
            "ModelSettings": "settings",
            "PlasticityControls": "controls",
            "TrialSettings": "settings",
            "evaluate_adaptation": "evaluate",
            "load_traces": "reading",
            "read_records": "reading",
            "summary": "scores",
            "with_scores": "scores",
        },
    )
