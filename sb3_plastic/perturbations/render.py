"""Pictures and videos of scenarios, with the damaged parts coloured while the damage acts.

Without a display MuJoCo renders by EGL, unless ``MUJOCO_GL`` says otherwise; both are read when MuJoCo is imported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sb3_plastic.files import replacing
from sb3_plastic.perturbations.envs import PerturbableEnv
from sb3_plastic.perturbations.kinds import Active
from sb3_plastic.perturbations.registration import ROBOTS, env_id, register_envs
from sb3_plastic.perturbations.robot import Robot
from sb3_plastic.perturbations.spec import Perturbation, PerturbationError, extremes_of
from sb3_plastic.progress import Progress
from sb3_plastic.simulator import render_off_screen

DAMAGED = (0.9, 0.1, 0.1)  # red; the transparency of a lost limb stays
SUFFIXES = (".png", ".mp4", ".gif")
BEFORE = 20  # steps that are shown before the onset
MOST_FPS = 50  # of a GIF: what is to be shown for less than 20 ms, browsers show for 100


def damaged_geoms(active: Active, robot: Robot) -> NDArray[np.intp]:
    """
    Ids of the geoms to colour: those of the bodies that a perturbation targets. Where each target has a value of its
    own, those whose value is not nominal: reversed motors, and motors that get the commands of others.

    :param active: one perturbation, as drawn
    :param robot: the robot
    :return: none for kinds that act on all or on the world
    """
    kind, model, ids = active.kind, robot.model, active.ids
    if np.ndim(active.value) > 0:
        ids = ids[active.deviation.reshape(len(ids), -1).any(axis=1)]
    elif active.target is None and kind.layer != "force":
        return np.empty(0, np.intp)
    if kind.target in ("body", "limb"):
        bodies = {b for body in ids for b in (robot.subtree(int(body)) if kind.target == "limb" else [int(body)])}
        return robot.geoms_of(sorted(bodies))
    if kind.target in ("joint", "motor"):
        joints = robot.joints_of(ids) if kind.target == "motor" or kind.layer == "action" else ids
        return robot.geoms_of(model.jnt_bodyid[joints].tolist())
    return np.empty(0, np.intp)


def film(
    robot: str,
    perturbations: Sequence[Perturbation],
    *,
    n_steps: int = 60,
    seed: int = 0,
    width: int = 320,
    height: int = 240,
    progress_bar: bool = False,
) -> tuple[list[NDArray[np.uint8]], float]:
    """
    Take a picture of each step of a scenario under random actions. An onset comes after `BEFORE` steps, wherever the
    scenario has it, and robots that have fallen are filmed on.

    :param robot: one of ``ROBOTS``, or the id of another environment
    :param perturbations: what acts
    :param n_steps: environment steps
    :param seed: of the scenario and of random actions
    :param width: in pixels
    :param height: in pixels
    :param progress_bar: show progress (needs tqdm)
    :return: the frames, [height, width, 3] each, and how many make a second
    :raises PerturbationError: if it is no robot of MuJoCo that can be perturbed, or takes no size of pictures
    """
    register_envs()
    size = {"width": width, "height": height, "max_episode_steps": n_steps + 1}
    name = env_id(robot, latent=True) if robot in ROBOTS else robot
    try:
        made = gym.make(name, render_mode="rgb_array", disable_env_checker=True, **size)
    except TypeError as error:
        raise PerturbationError(f"{robot} cannot be made with the arguments {size}: {error}.") from error
    with closing(made) as env:
        inner = env.unwrapped
        if not isinstance(inner, PerturbableEnv):
            raise PerturbationError(
                f"{robot} is not made by make_perturbable, and shows no damage. `sb3-plastic record --perturb` films a "
                "trained agent in any environment."
            )
        env.action_space.seed(seed)
        env.reset(seed=seed, options={"perturbations": [_soon(p) for p in perturbations]})
        frames = []
        with Progress(progress_bar) as progress:
            progress.begin("film", n_steps)
            for _ in range(n_steps):
                env.step(env.action_space.sample())
                frames.append(picture(inner))
                progress.tick(1)
        return frames, float(env.metadata["render_fps"])


def stills(robot: str, scenarios: Mapping[str, Sequence[Perturbation]]) -> dict[str, NDArray[np.uint8]]:
    """
    Pictures of the robot as an episode starts: nothing perturbed, and under the first three scenarios that damage parts
    of it, in red.

    :param robot: one of ``ROBOTS``
    :param scenarios: what acts, by name; an onset is moved to the first step
    :return: [240, 320, 3] by name; the first, of the whole robot, is ``""``
    """
    render_off_screen()
    register_envs()
    size = {"width": 320, "height": 240}
    made = gym.make(env_id(robot, latent=True), render_mode="rgb_array", disable_env_checker=True, **size)
    found: dict[str, NDArray[np.uint8]] = {}
    with closing(made) as env:
        inner = env.unwrapped
        assert isinstance(inner, PerturbableEnv)
        for name, perturbations in {"": (), **scenarios}.items():
            if len(found) > 3:
                break
            try:
                env.reset(seed=0, options={"perturbations": [_soon(p, 0) for p in perturbations]})
            except PerturbationError:  # terrain, which this model has not, and which damages nothing
                continue
            env.step(np.zeros(env.action_space.shape or (), np.float32))
            active = [a for a in inner.perturber.active if a.activation != 0]
            if not name or any(len(damaged_geoms(a, inner.robot)) for a in active):
                found[name] = picture(inner)
    return found


def _soon(p: Perturbation, at: int = BEFORE) -> Perturbation:
    """The perturbation with its onset moved to an early step, if it has an onset, and its end likewise."""
    first, end = p.schedule.at, p.schedule.end
    if first is None:
        return p
    if end is not None:
        end = at + min(extremes_of(end)) - min(extremes_of(first))
    return replace(p, schedule=replace(p.schedule, at=at, end=end))


def save(frames: Sequence[NDArray[np.uint8]], fps: float, output: Path) -> None:
    """
    Write frames to a file, under a temporary name first.

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
            even = [np.pad(f, ((0, f.shape[0] % 2), (0, f.shape[1] % 2), (0, 0)), mode="edge") for f in frames]
            ImageSequenceClip(even, fps=fps).write_videofile(str(part), logger=None)  # the codec wants even sizes
        elif output.suffix == ".gif":
            save_gif(frames, fps, part)
        else:
            Image.fromarray(frames[-1]).save(part)


def save_gif(frames: Sequence[NDArray[np.uint8]], fps: float, output: Path) -> None:
    """
    Write a small GIF: one palette for all frames, and no dithering, so that what stands still costs nothing. Of more
    than `MOST_FPS` frames a second some are left out: the film has its own speed.

    :param frames: pictures of one size
    :param fps: how many make a second
    :param output: the file
    """
    step = max(math.ceil(fps / MOST_FPS), 1)
    frames = frames[::step]
    # The format has hundredths of a second: the frames' ends are rounded, or the errors of all would add up.
    durations = 10 * np.diff(np.rint(100 * step / fps * np.arange(len(frames) + 1)))
    sample = np.concatenate([frames[0], frames[len(frames) // 2], frames[-1]])
    palette = Image.fromarray(sample).quantize(96, Image.Quantize.MAXCOVERAGE)  # thin lines keep their colours
    images = [Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
    images[0].save(
        output, "GIF", save_all=True, append_images=images[1:], duration=durations.tolist(), loop=0, optimize=True
    )


def check_suffix(output: Path) -> None:
    """Refuse a file that `save` cannot write. :param output: the file"""
    if output.suffix not in SUFFIXES:
        raise PerturbationError(f"Cannot write {output.name!r}; allowed suffixes: {', '.join(SUFFIXES)}.")


def picture(env: PerturbableEnv) -> NDArray[np.uint8]:
    """
    One frame, with damaged parts in red. The model is put back at once: it belongs to the perturbations.

    :param env: made with ``render_mode="rgb_array"``
    :return: [height, width, 3]
    """
    model = env.robot.model
    fields = (model.geom_rgba, model.geom_matid, model.geom_size, model.mat_texuniform, model.mat_texrepeat)
    saved = [field.copy() for field in fields]
    try:
        # A plane collides everywhere, but is drawn up to its size only, which fast robots leave. Size 0: without end.
        for floor in env.robot.planes[:1]:
            model.geom_size[floor, :2] = 0
            if model.geom_matid[floor] >= 0:  # squares of half a metre show how fast the robot is
                model.mat_texuniform[model.geom_matid[floor]] = True
                model.mat_texrepeat[model.geom_matid[floor]] = 1
        for active in env.perturber.active:
            if active.activation != 0:
                geoms = damaged_geoms(active, env.robot)
                model.geom_rgba[geoms, :3] = DAMAGED
                model.geom_matid[geoms] = -1  # a texture would hide the colour
        return np.asarray(env.render())
    finally:
        for field, values in zip(fields, saved, strict=True):
            field[:] = values
