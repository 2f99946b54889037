"""Errors as the command line tells them: in words, with a remedy."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import re
import select
import shlex
import sys
import traceback
from pathlib import Path

from sb3_plastic.errors import UserError

REMEDIES = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT),
        "Free some space, or choose a folder on another disk. Complete files are not affected.",
    ),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "Choose a folder that you may write to."),
}

OWN = re.compile(
    "Unknown (plasticity rule|neuron|surrogate|encoder|readout|strategy|hypothesis|forward model|kind|suite) "
)
"""An error about the name of something that a user can add."""


def is_users(error: Exception) -> bool:
    """Whether an error is a check's answer to the user, to whom its traceback says nothing."""
    if isinstance(error, UserError):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return True  # a file or a folder
    if type(error) is ImportError and (error.name or "").startswith("sb3_plastic"):
        return False  # one of its modules lacks a name: two versions of it are mixed
    import gymnasium

    files = files_of(error)
    raised_in = next((name for name in reversed(files) if not is_importer(name)), files[-1])
    if isinstance(error, NameError) and raised_in == "<string>":
        return True  # evaluated from -params
    in_utils = raised_in == getattr(sys.modules.get("rl_zoo3.utils"), "__file__", None)
    if isinstance(error, TypeError | AttributeError) and in_utils:
        return True  # a callback or a wrapper that does not exist, or with arguments that it does not take
    is_check = isinstance(error, ValueError | AssertionError | ImportError | SyntaxError)
    # Of the packages themselves: the path of all libraries names a clone that its .venv lies in.
    packages = [sys.modules.get(name) for name in ("rl_zoo3", "sb3_plastic")]
    folders = [folder for package in packages for folder in getattr(package, "__path__", ())]
    is_near = any(Path(raised_in).is_relative_to(folder) for folder in folders)
    return (is_check and is_near) or isinstance(error, gymnasium.error.Error)


def files_of(error: Exception) -> list[str]:
    """Files through which an error came, the one that raised it last. :param error: that was raised"""
    return [frame.filename for frame in traceback.extract_tb(error.__traceback__)]


def is_importer(file: str) -> bool:
    """Whether a file is of what imports a module by its name. :param file: of a traceback"""
    import gymnasium

    importers = importlib.__file__, gymnasium.envs.registration.__file__  # of ``module:Env-v0``
    return file in importers or file.startswith("<frozen importlib")


def worded(error: Exception) -> str:
    """An error in words: of a file, the reason and the file, without the number of the system's error."""
    if isinstance(error, OSError) and error.strerror is not None:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)


def nobody_reads() -> bool:
    """Whether what is printed goes nowhere, as after `| head`. Then nothing more is written there."""
    try:
        out, poll = sys.stdout.fileno(), select.poll()
    except (AttributeError, OSError):  # no file, as in a test, or a system that cannot tell
        return False
    poll.register(out, 0)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), out)  # or Python complains of what is left in its buffer
    return True


def id_of(name: str) -> str:
    """The id of an environment, which RL Zoo writes with a dash for the slash. :param name: of a run's folder"""
    import gymnasium

    return next((env_id for env_id in gymnasium.registry if env_id.replace("/", "-") == name), name)


def hints(command: str, error: Exception, arguments: list[str], folder: str) -> list[str]:
    """
    What the user may want to do about an error.

    :param command: that failed  :param error: that it raised  :param arguments: of the command
    :param folder: where RL Zoo's models are, unless an argument says otherwise
    """
    import gymnasium

    if isinstance(error, NameError | SyntaxError):
        return [
            "Settings are NAME:VALUE, and values are Python, where a string needs quotes of its own: "
            "-params n_steps:64 \"policy_kwargs:dict(rule='none')\"."
        ]
    if isinstance(error, OSError) and error.errno in REMEDIES:
        return [REMEDIES[error.errno]]
    if isinstance(error, gymnasium.error.DependencyNotInstalled):
        return []  # it names the package
    if isinstance(error, gymnasium.error.NamespaceNotFound | gymnasium.error.NameNotFound):
        return [
            "An environment of your own needs the module that registers it: --env module:Env-v0, or --import module."
        ]
    if OWN.match(str(error)):
        return ["If it is one of your own, name the module that adds it: --import MODULE."]
    by_name = isinstance(error, ImportError | ValueError) and is_importer(files_of(error)[-1])
    if by_name or isinstance(error, AttributeError):
        return [
            "What --import and --gym-packages, environments (as module:Env-v0), wrappers and callbacks (as "
            "module.Class) name is imported: from what is installed, and from the folders of PYTHONPATH."
        ]
    if isinstance(error, ImportError):
        return ['RL Zoo needs all of: pip install "sb3_plastic[zoo]"']
    if command not in ("enjoy", "record", "plot"):
        return []
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--model", nargs="?")
    parser.add_argument("-f", "--folder", "--exp-folder", "--exp-folders", nargs="?")
    known = parser.parse_known_args(arguments)[0]
    if known.model is not None:
        return []
    models_in = Path(known.folder or folder)
    models = []
    for path in sorted(models_in.glob("*/*/*.zip")):
        run = re.fullmatch(r"(.+)_(\d+)(_[0-9a-f-]{36})?", path.parent.name)
        if run is None or path.stem != run[1]:
            continue
        found = f"--algo {path.parent.parent.name} --env {id_of(run[1])} --exp-id {run[2]}"
        # RL Zoo does not find again what it trained with --uuid.
        models.append(f"  --model {shlex.quote(str(path.parent))}" if run[3] else f"  {found}")
    if not models:
        return [
            f"There are no models in {models_in}: train one with `sb3-plastic train`, or name another folder with -f."
        ]
    return [f"Models in {models_in}:", *models]
