"""YAML that takes for numbers what JSON does: YAML 1.1 takes 1.0e-3 for one, but not 1e-3, which json.dumps writes."""

from __future__ import annotations

import re

import yaml


class Loader(yaml.SafeLoader):
    """Reads plain data. ``1e-3`` and ``Infinity``, without quotes, are numbers."""


NUMBER = re.compile(r"[-+]?((\d+\.?\d*|\.\d+)[eE][-+]?\d+|Infinity)$")

Loader.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, list("-+.0123456789I"))
