"""Files from elsewhere: what they may ask for, and how they are read without running them. See docs/security.md."""

from sb3_plastic.safe.archives import NO_REPLAY, normalised, raw_data, safe_objects, was_normalised
from sb3_plastic.safe.classes import CLASSES, class_named, name_of
from sb3_plastic.safe.documents import read_literal, read_yaml
from sb3_plastic.safe.errors import DamagedError, RefusedError
from sb3_plastic.safe.records import Statistics, read_pickle
from sb3_plastic.safe.wrappers import WRAPPERS, check_wrapper, listed

__all__ = [
    "CLASSES",
    "NO_REPLAY",
    "WRAPPERS",
    "DamagedError",
    "RefusedError",
    "Statistics",
    "check_wrapper",
    "class_named",
    "listed",
    "name_of",
    "normalised",
    "raw_data",
    "read_literal",
    "read_pickle",
    "read_yaml",
    "safe_objects",
    "was_normalised",
]
