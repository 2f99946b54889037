"""How MuJoCo behaves here: quiet about what users cannot mend, and able to render without a display."""

from __future__ import annotations

import os
import sys

DEPRECATED = "'settotalmass' is deprecated"
"""Said of gymnasium's own HalfCheetah, each time that one is made."""


def is_headless() -> bool:
    """Whether there is no display to draw on."""
    return sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def render_off_screen() -> None:
    """Let MuJoCo render without a display, unless ``MUJOCO_GL`` says how. MuJoCo reads it when it is imported."""
    if is_headless() and not os.environ.get("MUJOCO_GL"):
        os.environ["MUJOCO_GL"] = "egl"


def hush_mujoco() -> None:
    """
    Send MuJoCo's warnings to stderr, one line each, without the one that gymnasium's HalfCheetah gives, and without the
    file MUJOCO_LOG.TXT in the working directory. A handler that somebody else has installed stays. Without MuJoCo,
    nothing happens.
    """
    try:
        import mujoco
    except ImportError:
        return
    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_warn)


def _warn(message: str) -> None:
    if DEPRECATED not in message:
        print(f"MuJoCo: {message}", file=sys.stderr)
