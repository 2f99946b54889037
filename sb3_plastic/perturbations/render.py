"""Pictures and videos of scenarios, with the damaged parts coloured while the damage acts.

Rendering without a screen needs ``MUJOCO_GL=egl`` (or ``osmesa``) in the environment before MuJoCo is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio.v3 as imageio
import numpy as np
from numpy.typing import NDArray

from sb3_plastic.files import replacing
from sb3_plastic.perturbations.envs import PerturbableEnv
from sb3_plastic.perturbations.kinds import Active
from sb3_plastic.perturbations.registration import env_id, register_envs
from sb3_plastic.perturbations.robot import Robot
from sb3_plastic.perturbations.spec import PerturbationError

DAMAGED = (0.9, 0.1, 0.1)  # red; the transparency of a lost limb stays
SUFFIXES = (".png", ".mp4", ".gif")


def damaged_geoms(active: Active, robot: Robot) -> NDArray[np.intp]:
    """
    Ids of the geoms to colour: those of the bodies that a perturbation targets.

    :param active: one perturbation, as drawn
    :param robot: the robot
    :return: none for kinds that act on all or on the world
    """
    kind, model = active.kind, robot.model
    if active.target is None and kind.layer != "force":
        return np.empty(0, np.intp)
    if kind.target in ("body", "limb"):
        bodies = {
            b for body in active.ids for b in (robot.subtree(int(body)) if kind.target == "limb" else [int(body)])
        }
        return robot.geoms_of(sorted(bodies))
    if kind.target == "joint":
        joints = model.actuator_trnid[active.ids, 0] if kind.layer == "action" else active.ids
        return robot.geoms_of(model.jnt_bodyid[joints].tolist())
    return np.empty(0, np.intp)


def film(
    robot: str,
    given: Mapping[str, Any],
    *,
    n_steps: int = 60,
    seed: int = 0,
    policy: Any = None,
    width: int = 320,
    height: int = 240,
) -> tuple[list[NDArray[np.uint8]], float]:
    """
    Run a scenario and take a picture after each step.

    :param robot: one of ``ROBOTS``
    :param given: ``{"scenario": name}`` or ``{"perturbations": [...]}``
    :param n_steps: environment steps, at most; a fall ends it
    :param seed: of the scenario and of random actions
    :param policy: what has SB3's ``predict``; None: random actions
    :param width: in pixels
    :param height: in pixels
    :return: the frames, [height, width, 3] each, and how many make a second
    """
    register_envs()
    env = gym.make(env_id(robot, latent=True), render_mode="rgb_array", width=width, height=height, **given)
    try:
        env.action_space.seed(seed)
        obs, _ = env.reset(seed=seed)
        inner = env.unwrapped
        assert isinstance(inner, PerturbableEnv)
        state, start, frames = None, np.ones(1, dtype=bool), []
        for _ in range(n_steps):
            if policy is None:
                action = env.action_space.sample()
            else:
                action, state = policy.predict(obs, state=state, episode_start=start, deterministic=True)
                start[:] = False
            obs, _, terminated, truncated, _ = env.step(action)
            frames.append(_coloured(inner))
            if terminated or truncated:
                break
        return frames, float(env.metadata["render_fps"])
    finally:
        env.close()


def save(frames: list[NDArray[np.uint8]], fps: float, output: Path) -> None:
    """
    Write frames to a file, atomically.

    :param frames: pictures
    :param fps: how many make a second
    :param output: a .png gets the last frame, .mp4 and .gif all of them
    :raises PerturbationError: for another suffix
    """
    check_suffix(output)
    with replacing(output) as part:
        if output.suffix == ".mp4":
            try:
                from moviepy.video.io.ImageSequenceClip import ImageSequenceClip
            except ImportError as error:
                raise PerturbationError("Writing .mp4 needs moviepy: pip install moviepy. Or write a .gif.") from error
            ImageSequenceClip(frames, fps=fps).write_videofile(str(part), logger=None)
        elif output.suffix == ".gif":
            imageio.imwrite(part, np.stack(frames), duration=1000 / fps, loop=0)
        else:
            imageio.imwrite(part, frames[-1])


def check_suffix(output: Path) -> None:
    """Refuse a file that `save` cannot write. :param output: the file"""
    if output.suffix not in SUFFIXES:
        raise PerturbationError(f"Cannot write {output.name!r}; allowed suffixes: {', '.join(SUFFIXES)}.")


def _coloured(env: PerturbableEnv) -> NDArray[np.uint8]:
    """One frame. Colours are put back at once: the model belongs to the perturbations."""
    model = env.robot.model
    saved = model.geom_rgba.copy(), model.geom_matid.copy()
    try:
        for active in env.perturber.active:
            if active.activation != 0:
                geoms = damaged_geoms(active, env.robot)
                model.geom_rgba[geoms, :3] = DAMAGED
                model.geom_matid[geoms] = -1  # a texture would hide the colour
        return np.asarray(env.render())
    finally:
        model.geom_rgba[:], model.geom_matid[:] = saved
