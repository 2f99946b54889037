"""Videos of what a perturbation does: agents side by side, in the same episode, with their speed below, and under that
what the adaptive layer of an agent believes (``film_layer``).

    arms = {"intact": (Player(model), trained), "frozen": (Player(model, "frozen_at_onset"), trained)}
    frames = compose(*shoot_all(arms, perturbations, FilmSettings()))

Every arm plays the same episode: until the onset, the same model under different controls moves bit for bit alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sb3_plastic.errors import UserError
from sb3_plastic.evaluation.controls import Player
from sb3_plastic.evaluation.environment import TrainedIn, as_seen_by, make_env, perturb, robot_of
from sb3_plastic.evaluation.film_layer import HEIGHT as PANEL
from sb3_plastic.evaluation.film_layer import Belief, belief_of, draw_panel, plot_width
from sb3_plastic.evaluation.settings import FilmSettings
from sb3_plastic.perturbations.envs import PerturbableEnv
from sb3_plastic.perturbations.kinds.world import needs_terrain
from sb3_plastic.perturbations.render import picture
from sb3_plastic.perturbations.spec import Perturbation
from sb3_plastic.progress import Progress
from sb3_plastic.seeding import seed_each

Frame = NDArray[np.uint8]

STRIP = 72  # pixels, height of the curves of speed
SMOOTHED = 10  # steps
COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (136, 34, 85))  # one for each arm, dark enough for a text
RED = (200, 30, 30)


class Shot(NamedTuple):
    """
    One step of one arm.

    :param frame: picture after the step, [H, W, 3]; None: not filmed
    :param speed: forward, in m/s; of what is no robot the reward
    :param since: steps since the onset, -1 before it
    :param norm: mean over layers of the root mean square of fast weights, NaN without
    :param belief: what the adaptive layer believes, None without one that learns
    :param reward: of the step
    """

    frame: Frame | None
    speed: float
    since: int
    norm: float
    belief: Belief | None = None
    reward: float = 0.0


PICTURES = 40
"""In a film of a training, at most."""


def interval(n_steps: int) -> int:
    """Steps from one picture of a film of a training to the next. :param n_steps: of the film, at most"""
    return -(-n_steps // PICTURES)


def shoot(
    player: Player,
    trained: TrainedIn,
    perturbations: Sequence[Perturbation],
    settings: FilmSettings,
    *,
    first: int = 0,
    until: int | None = None,
    tick: Callable[[int], None] | None = None,
) -> list[Shot]:
    """
    Play one episode, and take pictures of a part of it.

    :param player: the model, under a control
    :param trained: its environment
    :param perturbations: what acts
    :param settings: of the film; a fall ends it
    :param first: index of the first step that is filmed; the speed of those before is noted, too
    :param until: index of the first step of which no picture is taken again; None: pictures to the end
    :param tick: called after each step, with 1
    :return: the steps from 0 on
    :raises UserError: if an environment is to be perturbed that cannot be
    """
    ours = bool(robot_of(trained.env_id))
    every, end = settings.every, first + settings.steps
    size = {"width": settings.width, "height": settings.height} if ours else {}
    camera = {"render_mode": "rgb_array", **size} if every else {}
    filmed = replace(trained, env_kwargs={**trained.env_kwargs, **camera})
    shots: list[Shot] = []
    last = end if until is None else until
    with closing(make_env(filmed, 1, end + 1, needs_terrain(perturbations))) as made:
        venv = as_seen_by(player.model, made, trained.env_id)
        base = venv.unwrapped
        seed_each(venv, [settings.seed])
        perturb(venv, [perturbations])
        observations, starts, since = venv.reset(), np.ones(1, bool), -1
        robot = base.envs[0].unwrapped  # type: ignore[attr-defined]
        for t in range(end):
            actions = player.act(observations, starts, np.array([since >= 0]))
            observations, rewards, starts, infos = venv.step(actions)
            if tick is not None:
                tick(1)
            if starts[0]:
                break
            info, since, norms = infos[0], infos[0].get("steps_since_onset", -1), player.norms()
            base.get_attr("render_mode")  # a batch brings the robot up to date when it is asked for something
            shown = every > 0 and first <= t < last and (t - first) % every == 0
            shots.append(
                Shot(
                    _picture(robot) if shown else None,
                    float(info.get("x_velocity", rewards[0])),
                    int(since),
                    float("nan") if norms is None else float(norms.mean()),
                    belief_of(player),
                    float(rewards[0]),
                )
            )
    return shots


def _picture(env: Any) -> Frame:
    return picture(env) if isinstance(env, PerturbableEnv) else np.asarray(env.render())


LOOKED_AT = 1000
"""Steps of an episode in which an onset is looked for."""


def find_onset(trained: TrainedIn, perturbations: Sequence[Perturbation], seed: int) -> int:
    """
    When a scenario begins to act in the episode of a seed. It is the same for all agents.

    :param trained: the environment
    :param perturbations: what acts
    :param seed: of the episode
    :return: index of the first perturbed step; 0 if there is none among the first `LOOKED_AT`
    """
    with closing(make_env(trained, 1, LOOKED_AT, needs_terrain(perturbations))) as venv:
        base = venv.unwrapped
        seed_each(venv, [seed])
        perturb(venv, [perturbations])
        venv.reset()
        # Schedules are functions of the step alone: no need to play.
        perturber = base.envs[0].get_wrapper_attr("perturber")  # type: ignore[attr-defined]
        for t in range(LOOKED_AT):
            if any(active.timing.level(t) != 0 for active in perturber.active):
                return t
    return 0


def fps_of(trained: TrainedIn) -> float:
    """Steps of an environment in a second of its own time. :param trained: the environment"""
    with closing(make_env(replace(trained, vec_normalize=None), 1, 1)) as venv:
        return float(venv.get_attr("metadata")[0].get("render_fps", 30))


def shoot_all(
    arms: Mapping[str, tuple[Player, TrainedIn]],
    perturbations: Sequence[Perturbation],
    settings: FilmSettings,
    progress_bar: bool = False,
) -> tuple[dict[str, list[Shot]], int]:
    """
    Film all arms in the same episode, around the onset.

    :param arms: players and their environments, by what is written above them
    :param perturbations: what acts
    :param settings: of the film
    :param progress_bar: show progress (needs tqdm)
    :return: the shots of each arm, and the first filmed step
    """
    first = 0
    if perturbations:
        _, trained = next(iter(arms.values()))
        first = max(find_onset(trained, perturbations, settings.seed) - settings.before, 0)
    shots = {}
    with Progress(progress_bar) as progress:
        progress.begin("film", len(arms) * (first + settings.steps))
        for name, (player, trained) in arms.items():
            shots[name] = shoot(player, trained, perturbations, settings, first=first, tick=progress.tick)
    return shots, first


def compose(
    shots: Mapping[str, Sequence[Shot]], first: int, title: str = "", every: int = 1, unit: str = "m/s"
) -> list[Frame]:
    """
    Put the arms side by side, with name, speed and the moment of the onset, and below curves of speed and, for each
    arm with an adaptive layer that learns, what it believes.

    :param shots: by arm, as `shoot` returns them; who falls stays where it fell
    :param first: index of the first filmed step
    :param title: what happens, written in red from the onset on
    :param every: as the pictures were taken
    :param unit: of the speed
    :return: frames of one size
    :raises UserError: if no arm was standing at the first filmed step
    """
    length = max(map(len, shots.values()))
    if length <= first:
        raise UserError(f"All agents fell before step {first}, where the film begins. Try another --seed.")
    filmed = [arm for arm in shots.values() if len(arm) > first]
    blank = np.zeros_like(filmed[0][first].frame)
    film = _Film(
        shots,
        {name: _smooth([shot.speed for shot in arm]) for name, arm in shots.items()},
        {name: [s.belief for s in arm[first:] if s.belief] for name, arm in shots.items()},
        (first, length, every),
        blank,
        title,
        unit,
    )
    return [_compose_one(film, t) for t in range(first, length, every)]


class _Film(NamedTuple):
    shots: Mapping[str, Sequence[Shot]]
    speeds: Mapping[str, Sequence[float]]
    beliefs: Mapping[str, Sequence[Belief]]
    times: tuple[int, int, int]  # the first filmed step, the end, and steps between two pictures
    blank: Frame
    title: str
    unit: str

    @property
    def onset(self) -> int | None:
        """Index of the first perturbed step, None if none is filmed."""
        found = (t for arm in self.shots.values() for t, shot in enumerate(arm) if shot.since >= 0)
        return next(found, None)


def _compose_one(film: _Film, t: int) -> Frame:
    from PIL import Image, ImageDraw, ImageFont

    first, end, every = film.times
    height, width = film.blank.shape[:2]
    panels = [beliefs for beliefs in film.beliefs.values() if beliefs]
    sheet = Image.new("RGB", (width * len(film.shots), height + STRIP + PANEL * len(panels)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(max(height // 16, 10))
    line = height // 14
    for i, (name, arm) in enumerate(film.shots.items()):
        k = min(t, len(arm) - 1)
        k -= max(k - first, 0) % every
        shot = arm[k] if arm else Shot(None, 0.0, -1, float("nan"))
        sheet.paste(Image.fromarray(film.blank if shot.frame is None else shot.frame), (i * width, 0))
        fallen = t >= len(arm)
        said = "fallen" if fallen else f"{round(film.speeds[name][t], 1) + 0.0:.1f} {film.unit}"  # + 0.0: without -0.0
        draw.rectangle((i * width, 0, (i + 1) * width - 1, line + 2), fill="white")
        draw.text((i * width + 4, 0), f"{name}   {said}", fill=COLOURS[i % len(COLOURS)], font=font)
        if not np.isnan(shot.norm) and shot.belief is None and not panels and not fallen:
            draw.text((i * width + 4, height - line - 4), f"|h| {shot.norm:.3f}", fill="white", font=font)
        if shot.since >= 0:
            draw.text((i * width + 4, line + 4), film.title, fill=RED, font=font)
    full = width * len(film.shots)
    _draw_curves(draw, film, t, (plot_width(full) if panels else full, height))
    onset = None if film.onset is None else film.onset - first
    for i, beliefs in enumerate(panels):
        draw_panel(draw, beliefs, t - first, (0, height + STRIP + i * PANEL, full), onset, end - first)
    return np.asarray(sheet)


def _draw_curves(draw: Any, film: _Film, now: int, size: tuple[int, int]) -> None:
    """Speed over time, up to now, with a red line at the onset."""
    first, length, _ = film.times
    width, top = size
    shown = [value for curve in film.speeds.values() for value in curve[first:]]
    low, high = min(0.0, *shown), max(0.1, *shown)

    def place(t: int, speed: float) -> tuple[float, float]:
        x = (t - first) / max(length - 1 - first, 1) * (width - 1)
        return x, top + STRIP - 4 - (speed - low) / (high - low) * (STRIP - 8)

    said = f"speed, {high:.1f} m/s at the top" if film.unit == "m/s" else f"{film.unit}, {high:.1f} at the top"
    draw.text((4, top + STRIP - 20), said, fill=(60, 60, 60))  # above the line of 0
    draw.line([place(first, 0.0), place(length - 1, 0.0)], fill=(200, 200, 200))
    onset = film.onset
    if onset is not None and first <= onset <= now:
        x = place(onset, 0.0)[0]
        draw.line([(x, top), (x, top + STRIP)], fill=RED, width=2)
    for i, curve in enumerate(film.speeds.values()):
        points = [place(t, curve[t]) for t in range(first, min(now + 1, len(curve)))]
        if len(points) > 1:
            draw.line(points, fill=COLOURS[i % len(COLOURS)], width=2)


def _smooth(speeds: Sequence[float]) -> list[float]:
    """Mean of the last `SMOOTHED` steps."""
    return [float(np.mean(speeds[max(t - SMOOTHED + 1, 0) : t + 1])) for t in range(len(speeds))]
