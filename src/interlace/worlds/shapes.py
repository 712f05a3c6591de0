"""Clips of moving shapes, generated, and a verifier that reads the attributes back without a network.

A clip shows one shape in one colour on black, moving at constant velocity over a torus (what leaves on one side comes
in on the other). Its class is (shape, motion); colour, speed and start are free. Because a clip is a known function
of its attributes, a generated clip can be judged exactly: measure the attributes, draw the clip that they describe,
and compare.

>>> world = Shapes()
>>> clips, labels = world.batch(range(4))
>>> clips.shape, all(valid(verify(clip), int(label)) for clip, label in zip(clips, labels))
((4, 16, 16, 16, 3), True)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from interlace.errors import DataError, SettingError

if TYPE_CHECKING:
    import numpy as np

SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = {
    "red": (1.0, -1.0, -1.0),
    "orange": (1.0, 0.0, -1.0),
    "yellow": (1.0, 1.0, -1.0),
    "green": (-1.0, 1.0, -1.0),
    "cyan": (-1.0, 1.0, 1.0),
    "blue": (-1.0, -1.0, 1.0),
    "violet": (0.0, -1.0, 1.0),
    "magenta": (1.0, -1.0, 1.0),
}
"""Eight hues as RGB in [-1, 1], at least 1 apart."""
MOTIONS = ("east", "southeast", "south", "southwest", "west", "northwest", "north", "northeast")
"""Directions, 45 degrees apart; y grows to the south."""
CLASSES = len(SHAPES) * len(MOTIONS)

_BACKGROUND = -1.0
_SPEEDS = (0.8, 1.2)  # pixels per frame, for a size of 16
# Bounds of the verifier, in pixels for a size of 16 and in units of colour: far above what noise of 0.1 does to a
# true clip, far below what a swapped frame, another hue or another shape does.
_STEP_ERROR = 0.35
_COLOUR_ERROR = 0.4
_ANGLE_ERROR = 12.0
_SHAPE_MARGIN = 0.01
_CONFIDENCE = 0.8


@dataclass(frozen=True)
class Attributes:
    """What a clip shows.

    ``velocity`` is (x, y) in pixels per frame; ``motion`` its direction, or None where it is none of :data:`MOTIONS`
    or too slow or fast. ``colour`` is the nearest of :data:`COLOURS`. ``constant_...`` say whether all frames agree.
    ``confidence`` is the part of the clip's energy that a drawing with these attributes explains, 1 for a perfect
    clip and 0 for a clip of something else.
    """

    shape: str
    colour: str
    velocity: tuple[float, float]
    motion: str | None
    constant_shape: bool
    constant_colour: bool
    constant_velocity: bool
    confidence: float


@dataclass(frozen=True)
class Shapes:
    """Clips of ``frames`` frames of ``size`` x ``size`` pixels; a clip is a function of (seed, index).

    ``shapes``, ``motions``, ``colours`` and ``speeds`` (lowest and highest, in pixels per frame for a size of 16) make
    a smaller and easier world; labels mean the same in all of them.
    """

    frames: int = 16
    size: int = 16
    seed: int = 0
    shapes: tuple[str, ...] = SHAPES
    motions: tuple[str, ...] = MOTIONS
    colours: tuple[str, ...] = tuple(COLOURS)
    speeds: tuple[float, float] = _SPEEDS

    def __post_init__(self) -> None:
        if self.frames < 4 or self.size < 16:
            raise SettingError(f"{self.frames} frames of size {self.size} are too small; pass 4 and 16 or more")
        for name, chosen, known in (
            ("shapes", self.shapes, SHAPES),
            ("motions", self.motions, MOTIONS),
            ("colours", self.colours, tuple(COLOURS)),
        ):
            if not chosen or not set(chosen) <= set(known):
                raise SettingError(f"{name} are {', '.join(chosen) or 'none'}; pass some of {', '.join(known)}")
        if not _SPEEDS[0] <= self.speeds[0] <= self.speeds[1] <= _SPEEDS[1]:
            raise SettingError(f"speeds are {self.speeds}; pass two from {_SPEEDS[0]} to {_SPEEDS[1]}, the lower first")

    @property
    def labels(self) -> list[int]:
        """The classes that occur."""
        return [label_of(shape, motion) for shape in self.shapes for motion in self.motions]

    def clip(self, index: int, label: int | None = None) -> tuple[np.ndarray, int]:
        """Clip ``index``, [frames, size, size, 3] float32 in [-1, 1], and its label; of class ``label`` if given."""
        import numpy as np

        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, index])))
        drawn = self.labels[int(random.integers(len(self.shapes) * len(self.motions)))]
        label = drawn if label is None else label
        shape, motion = names_of(label)
        colour = self.colours[int(random.integers(len(self.colours)))]
        angle = MOTIONS.index(motion) * np.pi / 4
        speed = random.uniform(*self.speeds) * self.size / 16
        start = random.uniform(0, self.size, 2)
        steps = np.arange(self.frames)[:, None] * speed * np.array([np.cos(angle), np.sin(angle)])
        return draw(shape, colour, start + steps, self.size), label

    def batch(self, indices: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
        """Clips [n, frames, size, size, 3] float32, and labels [n] int64."""
        import numpy as np

        clips, labels = zip(*(self.clip(index) for index in indices), strict=True)
        return np.stack(clips), np.array(labels, dtype=np.int64)


def label_of(shape: str, motion: str) -> int:
    """The class of a shape and a motion, 0 to :data:`CLASSES` - 1."""
    return SHAPES.index(shape) * len(MOTIONS) + MOTIONS.index(motion)


def names_of(label: int) -> tuple[str, str]:
    """Shape and motion of a class."""
    if not 0 <= label < CLASSES:
        raise SettingError(f"label is {label}; pass 0 to {CLASSES - 1}")
    shape, motion = divmod(label, len(MOTIONS))
    return SHAPES[shape], MOTIONS[motion]


def draw(shape: str, colour: str | tuple[float, float, float], centres: np.ndarray, size: int) -> np.ndarray:
    """Frames [n, size, size, 3] float32 of a shape at ``centres`` [n, 2], (x, y) in pixels, on the torus.

    Pixel (0, 0) covers [0, 1) x [0, 1). Edges are smooth: a pixel is coloured by the part that the shape covers.
    """
    import numpy as np

    value = np.array(COLOURS[colour] if isinstance(colour, str) else colour)
    return (_BACKGROUND + _coverage(shape, centres, size)[..., None] * (value - _BACKGROUND)).astype(np.float32)


def verify(clip: np.ndarray) -> Attributes:
    """Read the attributes of a clip [frames, size, size, 3] in [-1, 1], however it was made."""
    import numpy as np

    clip = np.asarray(clip)
    frame_shapes, colours, centres, velocity, step_errors = _measure(clip)
    frames, size = clip.shape[0], clip.shape[1]
    scores = frame_shapes.mean(0)
    best = int(scores.argmax())
    # A frame speaks against the shape only where another one fits it clearly better.
    constant_shape = bool((frame_shapes.max(1) - frame_shapes[:, best] < _SHAPE_MARGIN).all())
    middle = np.median(colours, axis=0)
    distances = np.linalg.norm(np.array(list(COLOURS.values())) - middle, axis=1)
    colour = list(COLOURS)[int(distances.argmin())]
    spread = np.linalg.norm(colours - middle, axis=1).max()
    constant_colour = bool(spread < _COLOUR_ERROR and distances.min() < _COLOUR_ERROR)
    constant_velocity = bool(step_errors.max() < _STEP_ERROR * size / 16)
    angle = float(np.degrees(np.arctan2(velocity[1], velocity[0])))
    nearest = round(angle / 45)
    speed = float(np.hypot(*velocity)) * 16 / size
    moving = 0.75 * _SPEEDS[0] < speed < 1.25 * _SPEEDS[1] and abs(angle - 45 * nearest) < _ANGLE_ERROR
    # The path is a line through the measured centres: where they jump, the drawing misses the clip.
    unwrapped = centres[0] + np.concatenate([np.zeros((1, 2)), np.cumsum(_wrap(np.diff(centres, axis=0), size), 0)])
    times = np.arange(frames)[:, None]
    line = unwrapped.mean(0) + (times - times.mean()) * velocity
    error = np.square(clip - draw(SHAPES[best], colour, line, size)).sum()
    energy = np.square(clip - _BACKGROUND).sum()
    return Attributes(
        shape=SHAPES[best],
        colour=colour,
        velocity=(float(velocity[0]), float(velocity[1])),
        motion=MOTIONS[nearest % len(MOTIONS)] if moving else None,
        constant_shape=constant_shape,
        constant_colour=constant_colour,
        constant_velocity=constant_velocity,
        confidence=max(0.0, 1 - float(error) / max(float(energy), 1e-9)),
    )


def valid(attributes: Attributes, label: int) -> bool:
    """Whether a clip with these attributes is a good clip of class ``label``."""
    return (
        (attributes.shape, attributes.motion) == names_of(label)
        and attributes.constant_shape
        and attributes.constant_colour
        and attributes.constant_velocity
        and attributes.confidence >= _CONFIDENCE
    )


def features(clips: np.ndarray) -> np.ndarray:
    """Measurements of clips [n, frames, size, size, 3] as vectors [n, 22] float64, for a Fréchet distance.

    Mean and deviation over the frames of the four shape correlations and of the colour (14), velocity in pixels per
    frame (2), mean, deviation and maximum of the steps' errors (3), and mean, deviation and maximum over frames of
    the distance between the frame and the best shape in its colour (3).
    """
    import numpy as np

    clips = np.asarray(clips)
    if clips.ndim != 5 or not len(clips):
        raise DataError(f"clips are of shape {clips.shape}; pass [n, frames, size, size, 3]")
    found = []
    for clip in clips:
        frame_shapes, colours, centres, velocity, step_errors = _measure(clip)
        shape = SHAPES[int(frame_shapes.mean(0).argmax())]
        cover = _coverage(shape, centres, clip.shape[1])[..., None]
        drawn = _BACKGROUND + cover * (colours[:, None, None, :] - _BACKGROUND)
        rest = np.sqrt(np.square(clip - drawn).mean((1, 2, 3)))
        series = [frame_shapes, colours]
        found.append(
            np.concatenate(
                [part for values in series for part in (values.mean(0), values.std(0))]
                + [velocity]
                + [[values.mean(), values.std(), values.max()] for values in (step_errors, rest)]
            )
        )
    return np.array(found, dtype=np.float64)


def _measure(clip: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Per frame: shape correlations [f, 4], colour [f, 3], centre [f, 2]; then velocity [2] and step errors [f - 1]."""
    import numpy as np

    clip = np.asarray(clip, dtype=np.float64)
    if clip.ndim != 4 or clip.shape[1] != clip.shape[2] or clip.shape[3] != 3 or clip.shape[0] < 2:
        raise DataError(f"the clip is of shape {clip.shape}; pass [frames, size, size, 3]")
    if not np.isfinite(clip).all():
        raise DataError("the clip holds NaN or infinity; check the model that made it")
    frames, size = clip.shape[:2]
    light = (clip - _BACKGROUND).reshape(frames, -1, 3)
    distance = np.linalg.norm(light, axis=2)
    # The colour is that of the pixels farthest from the background, which the shape covers whole.
    core = np.argsort(-distance, axis=1, kind="stable")[:, : max(4, size * size // 20)]
    light_core = np.take_along_axis(light, core[..., None], axis=1)
    colours = np.median(light_core, axis=1)
    power = np.maximum(np.square(colours).sum(1), 1e-2)
    cover = np.einsum("fpc,fc->fp", light, colours) / power[:, None]
    cover = np.clip(np.where(cover < 0.25, 0.0, cover), 0.0, 1.0).reshape(frames, size, size)
    rough = _circular_centre(cover)
    shapes = np.empty((frames, len(SHAPES)))
    centres = np.empty((len(SHAPES), frames, 2))
    for number, shape in enumerate(SHAPES):
        # The circular mean of a triangle is not quite its centre: by how much, the drawing itself tells.
        bias = _circular_centre(_coverage(shape, rough, size)) - rough
        centres[number] = rough - _wrap(bias, size)
        shapes[:, number] = _correlation(cover, _coverage(shape, centres[number], size))
    centre = centres[int(shapes.mean(0).argmax())]
    steps = _wrap(np.diff(centre, axis=0), size)
    # Least squares through the unwrapped centres.
    path = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    times = np.arange(frames) - (frames - 1) / 2
    velocity = times @ path / np.square(times).sum()
    return shapes, colours + _BACKGROUND, centre, velocity, np.linalg.norm(steps - velocity, axis=1)


def _coverage(shape: str, centres: np.ndarray, size: int) -> np.ndarray:
    """How much of every pixel the shape covers, [n, size, size] in [0, 1], from the signed distance to its edge."""
    import numpy as np

    pixels = np.arange(size) + 0.5
    x = _wrap(pixels[None, None, :] - centres[:, 0, None, None], size)
    y = _wrap(pixels[None, :, None] - centres[:, 1, None, None], size)
    unit = size / 16
    if shape == "circle":
        distance = np.hypot(x, y) - 3.6 * unit
    elif shape == "square":
        distance = np.maximum(abs(x), abs(y)) - 3.2 * unit
    elif shape == "triangle":  # equilateral, upright, about its centre of mass
        distance = np.maximum(y, abs(x) * (np.sqrt(3) / 2) - y / 2) - 2.5 * unit
    elif shape == "cross":
        long, short = 4.4 * unit, 1.4 * unit
        bars = np.maximum(abs(x) - long, abs(y) - short), np.maximum(abs(x) - short, abs(y) - long)
        distance = np.minimum(*bars)
    else:
        raise SettingError(f"shape is '{shape}'; pass one of {', '.join(SHAPES)}")
    return np.clip(0.5 - distance, 0.0, 1.0)


def _wrap(value: np.ndarray, size: int) -> np.ndarray:
    """The shortest way on a circle of that length."""
    return (value + size / 2) % size - size / 2


def _circular_centre(cover: np.ndarray) -> np.ndarray:
    """Centres of mass [n, 2] on the torus, as (x, y)."""
    import numpy as np

    size = cover.shape[1]
    turns = np.exp(2j * np.pi * (np.arange(size) + 0.5) / size)
    angles = np.stack([np.angle(cover.sum(1) @ turns), np.angle(cover.sum(2) @ turns)], axis=1)
    return angles * size / (2 * np.pi) % size


def _correlation(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    import numpy as np

    one, two = (part.reshape(len(part), -1) - part.mean((1, 2))[:, None] for part in (one, two))
    return (one * two).sum(1) / np.maximum(np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1), 1e-9)
