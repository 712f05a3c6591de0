"""interlace sample"""

from __future__ import annotations

import difflib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SettingError
from .command import Setting, command
from .console import bar, print_json, say, table
from .generate import SEED
from .models import OPENING, open_clip_model

if TYPE_CHECKING:
    from torch import Tensor

    from ..generation import Event
    from ..model import Model


@command(
    Setting("model", str, "a folder that `interlace train-clips` left", short="-m", required=True),
    Setting(
        "labels",
        str,
        "what to generate, joined by commas: digits, or shape and motion as circle-east; none is no label",
        shown="all that the model knows",
        metavar="X,X,...",
    ),
    Setting("clips", int, "how many; the labels take turns", shown="one of every label", short="-n"),
    Setting(
        "out", str, "picture: *.png, a clip a row; *.gif, moving; without an ending png, and gif if it moves", "sample"
    ),
    Setting("scale", int, "pixels of the picture along a pixel of a clip", shown="8; 4 in rows of frames"),
    Setting("batch_rows", int, "clips generated at once", 64),
    Setting(
        "frames", int, "frames of a clip, whole units; a longer clip goes on", shown="as trained", panel="Decoding"
    ),
    Setting("steps", int, "denoising steps per unit", shown="the model's, 25", panel="Decoding"),
    Setting(
        "solver",
        str,
        "ddim (order 1) or dpm (order 2, multistep)",
        shown="the model's, dpm",
        panel="Decoding",
    ),
    Setting("guidance", float, "how much the label counts; above 1 exaggerates it", 1.0, panel="Decoding"),
    Setting("memory", str, "exact keeps the past, none computes it anew: the same clip", "exact", panel="Decoding"),
    Setting("seed", int, "of the first clip, one more for each after it", SEED.default, panel="Decoding"),
    *(s for s in OPENING if s.name != "system"),
    panel="Use",
)
def sample(
    model: str,
    labels: str | None,
    clips: int | None,
    out: str,
    scale: int | None,
    batch_rows: int,
    frames: int | None,
    guidance: float,
    memory: str,
    seed: int,
    dtype: str | None,
    device: str | None,
    json: bool,
    **decoding: Any,
) -> None:
    """Generate images or clips with a model of interlace train-clips, and write pictures of them.

    A clip is a function of its label and its seed: the same alone and in a batch,
    up to rounding. Of moving shapes a verifier says, without a network, whether a
    clip is valid: the shape and the motion of its label, in one colour, at one speed.

    [bold]Examples[/bold]
      interlace sample --model digits
      interlace sample --model digits --labels 3,1,4 --guidance 2 --out pi.png
      interlace sample --model clips --labels circle-east -n 9 --out circles.gif
      interlace sample --model clips --frames 64 --steps 10 --json

    With --json every clip is an object: clip, label, name, seed, frames, valid
    (null where nothing can tell), forwards, seconds, files.
    """
    for name, value in (("clips", clips), ("scale", scale), ("batch-rows", batch_rows)):
        if value is not None and value < 1:
            raise SettingError(f"--{name} is {value}; pass 1 or more")
    place, ending = _place(out)
    loaded = open_clip_model(model, dtype, device, decoding)
    known = _labels(loaded, labels)
    names = [list(known)[i % len(known)] for i in range(len(known) if clips is None else clips)]
    numbers = [known[name] for name in names]

    from ..clips import sample_clips, write_gif, write_grid

    began, took, forwards = time.perf_counter(), [0.0] * len(names), [0] * len(names)
    with bar("sampling", len(names) * _steps(loaded, frames)) as count:

        def watch(event: Event) -> None:
            took[event.row], forwards[event.row] = time.perf_counter() - began, event.forwards
            count()

        options: dict[str, Any] = {"seed": seed, "at_once": batch_rows, "memory": memory, "on_event": watch}
        made = sample_clips(loaded, numbers, frames, guidance, **options).float()
    moves, files = made.shape[1] > 1, []
    if ending != ".gif":
        files.append(write_grid(f"{place}.png", made, scale or (4 if moves else 8)))
    if ending == ".gif" or (moves and not ending):
        files.append(write_gif(f"{place}.gif", made, scale or 8))
    valid = _valid(loaded, made, numbers)
    if json:
        for i, name in enumerate(names):
            facts = {"clip": i, "label": numbers[i], "name": name, "seed": seed + i, "frames": made.shape[1]}
            facts |= {"valid": valid[i], "forwards": forwards[i], "seconds": round(took[i], 6)}
            print_json(facts | {"files": [str(file) for file in files]})
        return
    marks = {True: "yes", False: "no", None: "–"}
    table(["clip", "label", "seed", "valid"], [[i, name, seed + i, marks[valid[i]]] for i, name in enumerate(names)])
    if None not in valid:
        say(f"{sum(map(bool, valid))} of {len(valid)} clips are valid")
    say(f"{max(took):.1f} s; see {' and '.join(map(str, files))}")


def _place(out: str) -> tuple[Path, str]:
    """Where pictures go: their path without an ending, and the ending if it was given. A folder gets ``sample``."""
    path = Path(out)
    if path.is_dir():
        return path / "sample", ""
    if path.suffix not in ("", ".png", ".gif"):
        raise SettingError(f"--out {out} is no picture of clips; name it *.png or *.gif, or leave the ending out")
    return path.with_suffix(""), path.suffix


def _labels(model: Model, given: str | None) -> dict[str, int]:
    """The labels of that line by name, or all that the model knows; one that it has not learnt is refused."""
    from ..clips import labels_of

    known = labels_of(model)
    if given is None:
        return known
    if getattr(model.settings, "drop_label", 0):
        known["none"] = model.network.config.classes
    numbers = {str(number): name for name, number in known.items() if name != "none"}
    found = {}
    for part in (one.strip() for one in given.split(",")):
        name = part if part in known else numbers.get(part)
        if name is None:
            near = difflib.get_close_matches(part, known, 1, 0.6)
            remedy = f"did you mean {near[0]}?" if near else f"pass some of {', '.join(known)}"
            raise SettingError(f"the model knows no label {part!r}; {remedy}")
        found[name] = known[name]
    return found


def _steps(model: Model, frames: int | None) -> int:
    """Denoising steps of a clip."""
    layout: Any = model.parts.layout
    trained = getattr(model.settings, "frames", 1)
    length = layout.length // trained * (trained if frames is None else frames)
    return layout.units(length) * int(getattr(model.settings, "steps", 1))


def _valid(model: Model, clips: Tensor, labels: list[int]) -> list[bool | None]:
    """Whether every clip of moving shapes shows what its label says; of images, and without a label, None."""
    from ..clips import data_of
    from ..worlds.shapes import CLASSES, valid, verify

    data = data_of(model)
    if data is None or data.data != "shapes" or clips.shape[1] < 2:
        return [None] * len(labels)
    arrays = clips.numpy()
    return [None if n >= CLASSES else valid(verify(clip), n) for clip, n in zip(arrays, labels, strict=True)]
