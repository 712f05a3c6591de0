"""Clips and images from end to end: train a continuous system, sample from it, write what it made.

A clip is [frames, height, width, channels] in [-1, 1]; an image is a clip of one frame.

>>> model = train_clips(TrainSettings(out="runs/clips"), ClipData(data="digits"))      # doctest: +SKIP
>>> clips = sample_clips(load("runs/clips"), labels=[3, 1, 4], guidance=2.0)           # doctest: +SKIP
>>> write_grid("digits.png", clips)                                                    # doctest: +SKIP
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from .attention.positions import Rope
from .checkpoints import Checkpoint, save
from .errors import CheckpointError, DataError, SettingError
from .generation import Event, collect
from .guidance import ClassifierFree
from .layouts import Layout, Squares
from .model import Model
from .nn import Transformer, TransformerConfig
from .systems import Parts, find
from .systems.system import Settings
from .training.batch import TensorRows
from .training.loop import train
from .training.objectives import Objective
from .training.parallel import start
from .training.settings import TrainSettings
from .training.state import cannot_write, latest, write_text
from .worlds.digits import digits
from .worlds.shapes import CLASSES, COLOURS, MOTIONS, SHAPES, Shapes, names_of

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "ClipData",
    "ClipShape",
    "clips_of",
    "data_of",
    "labels_of",
    "sample_clips",
    "to_clips",
    "to_tokens",
    "train_clips",
    "write_gif",
    "write_grid",
]


class ClipData(BaseModel):
    """Where clips come from: moving shapes, of which the world can be made smaller, or handwritten digits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Literal["shapes", "digits"] = Field("shapes", description="moving shapes 16x16x3, or digits 8x8x1")
    samples: int = Field(4096, ge=1, description="clips of moving shapes that are drawn for training")
    seed: int = Field(0, ge=0, description="seed of the moving shapes")
    shapes: tuple[str, ...] = Field(SHAPES, description="shapes that occur")
    motions: tuple[str, ...] = Field(MOTIONS, description="directions that occur")
    colours: tuple[str, ...] = Field(tuple(COLOURS), description="colours that occur")
    speeds: tuple[float, float] = Field((0.8, 1.2), description="lowest and highest speed, pixels per frame")

    @property
    def classes(self) -> int:
        return CLASSES if self.data == "shapes" else 10

    @property
    def labels(self) -> dict[str, int]:
        """The classes that occur, by name: digits ``0`` to ``9``, shape and motion such as ``circle-east``."""
        if self.data == "digits":
            return {str(label): label for label in range(10)}
        return {"-".join(names_of(label)): label for label in self.world().labels}

    def world(self, frames: int = 16) -> Shapes:
        return Shapes(frames, 16, self.seed, self.shapes, self.motions, self.colours, self.speeds)


class ClipShape(BaseModel):
    """The shape of a new network."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden_size: int = Field(128, ge=8, description="channels between the blocks")
    num_layers: int = Field(4, ge=1, description="blocks")
    num_heads: int = Field(4, ge=1, description="heads of the attention")

    def config(self, layout: Layout, sides: Sequence[int], features: int, classes: int) -> TransformerConfig:
        """``sides``: positions along every axis of the layout, which decide the bases of its rotary positions."""
        size = self.hidden_size
        if size % self.num_heads:
            raise SettingError(f"hidden_size {size} cannot be cut into {self.num_heads} heads; pass a multiple")
        # ACDiT: base 100 * ceil(8 L / (100 pi)) for L positions, and a quarter of the head for time
        bases = tuple(100.0 * math.ceil(8 * n / (100 * math.pi)) for n in sides)
        rope = Rope(bases, (2, 3, 3) if layout.axes == 3 else ())
        return TransformerConfig(
            features=features,
            levels=True,
            classes=classes,
            hidden_size=size,
            intermediate_size=4 * size,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            num_kv_heads=self.num_heads,
            head_dim=size // self.num_heads,
            rope=rope,
            qkv_bias=True,
            gated_mlp=False,
        )


def clips_of(data: ClipData, split: str = "train", count: int | None = None, frames: int = 16) -> tuple[Tensor, Tensor]:
    """Clips [n, frames, height, width, channels] and labels [n]; ``count`` of them (shapes: ``samples`` if None).

    Held-out shapes are drawn from indices behind those of training.
    """
    if data.data == "digits":
        images, labels = digits(split)  # type: ignore[arg-type]
        return torch.from_numpy(images[:count]).unsqueeze(1), torch.from_numpy(labels[:count])
    first = 0 if split == "train" else data.samples
    clips, labels = data.world(frames).batch(range(first, first + (data.samples if count is None else count)))
    return torch.from_numpy(clips), torch.from_numpy(labels)


def train_clips(
    training: TrainSettings,
    data: ClipData | None = None,
    shape: ClipShape | None = None,
    system: str = "acdit",
    objective: Callable[[Parts], Objective] | None = None,
    on_log: Callable[[dict[str, Any]], None] | None = None,
    on_start: Callable[[Model], None] | None = None,
    **settings: Any,
) -> Model:
    """Train a new network on clips or images; the finished model lies in ``training.out`` and opens with ``load``.

    Height and width in tokens follow from the data and ``patch``; other ``settings`` are those of the system.
    ``objective`` makes another objective of the system's parts, for comparisons. ``on_start`` is shown the model before
    the first step.

    Raises ``SettingError`` for a system that does not generate clips, for a patch that does not divide the data, and
    where ``training.out`` holds a run on other clips or of another network.
    """
    data, shape, chosen = data or ClipData(), shape or ClipShape(), find(system)
    if chosen.family == "text":
        raise SettingError(f"{system} generates text; train_clips takes systems of images and video, such as acdit")
    made = _settings_for(chosen.settings, data, settings)
    clips, labels = clips_of(data, frames=made.frames)
    if "mean" not in settings and "deviation" not in settings:
        made = made.but(mean=round(float(clips.mean()), 4), deviation=round(float(clips.std()), 4))
    parts = chosen.parts(made)
    tokens = to_tokens(parts.layout, clips, made)
    sides = [made.frames, made.height, made.width][-parts.layout.axes :]
    config = shape.config(parts.layout, sides, tokens.shape[-1], data.classes)
    generator = torch.Generator().manual_seed(training.seed)
    network = _awake(Transformer(config).initialise(generator), generator)
    rows = TensorRows(tokens, labels, training.seed)
    held_clips, held_labels = clips_of(data, "heldout", training.evaluate_rows, made.frames)
    held_out = TensorRows(to_tokens(parts.layout, held_clips, made), held_labels)
    learnt = parts.objective if objective is None else objective(parts)
    model = Model(Checkpoint(network, extra=_named(system, made, data)), chosen, made)
    accelerator = start()
    about = {"system": system} | made.model_dump() | data.model_dump() | shape.model_dump()
    _claim(training.out / "training", about, accelerator.is_main_process)
    if on_start is not None:
        on_start(model)
    train(network, learnt, rows, training, held_out, on_log=on_log, accelerator=accelerator)
    return _finish(model, training.out)


def data_of(model: Model) -> ClipData | None:
    """The clips that a model was trained on; None where its config.json does not say."""
    found = model.checkpoint.extra.get("config", {}).get("data")
    try:
        return None if found is None else ClipData(**found)
    except (TypeError, ValidationError):
        raise CheckpointError(
            f"{model.checkpoint.source}/config.json: data is {found!r}, no world of clips; correct the file"
        ) from None


def labels_of(model: Model) -> dict[str, int]:
    """The labels that a model has learnt, by name; where it does not say on what it was trained, by number."""
    data = data_of(model)
    return {str(label): label for label in range(model.network.config.classes)} if data is None else data.labels


def _settings_for(defaults: Settings, data: ClipData, given: dict[str, Any]) -> Any:
    """The system's settings, with the sizes that the data has."""
    known = type(defaults).model_fields
    missing = {"frames", "height", "width", "patch", "side"} - set(known)
    if missing:
        raise SettingError(f"the system knows no {', '.join(sorted(missing))}; pass one of images or video")
    size, still = (16, False) if data.data == "shapes" else (8, True)
    small = {"frames": 1, "frames_per_unit": 1, "patch": 2, "side": 0 if "frames_per_unit" in given else 2}
    patch = given.get("patch", 2 if still else 4)
    if size % patch:
        raise SettingError(f"patch {patch} does not divide the {size} pixels of {data.data}; pass one that does")
    return defaults.but(**((small if still else {}) | {"height": size // patch, "width": size // patch} | given))


def _awake(network: Transformer, generator: torch.Generator) -> Transformer:
    """A start for short runs: levels and labels are heard, and noisy tokens pass the blocks, from the first step on.

    adaLN-Zero starts with closed gates and nearly silent embeddings, which takes thousands of steps to change.
    """
    assert network.time is not None
    with torch.no_grad():
        for linear in (network.time.hidden, network.time.out):
            linear.weight.normal_(0.0, linear.in_features**-0.5, generator=generator)
        if network.time.label is not None:
            network.time.label.weight.normal_(0.0, 0.5, generator=generator)
        for block in network.blocks:
            gates = block.modulation.bias.unflatten(0, (6, -1))  # type: ignore[union-attr,operator]
            gates[2], gates[5] = 1.0, 1.0
    return network


def _named(system: str, settings: Settings, data: ClipData) -> dict[str, Any]:
    """What config.json says of the system, so that ``load`` finds it, and of the data, so that labels have names."""
    chosen, drawn = (one.model_dump(mode="json") for one in (settings, data))
    return {"config": {"system": system, "settings": chosen, "data": drawn}}


def _claim(folder: Path, mine: dict[str, Any], main: bool) -> None:
    """Keep what a run is made of, or check that it is the same: weights of another network or data would be taken."""
    file, mine = folder / "clips.json", json.loads(json.dumps(mine))
    if file.exists() and latest(folder / "checkpoints") is not None:
        try:
            there = dict(json.loads(file.read_text()))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{file} is damaged ({error}); remove it to resume with these settings") from None
        free = {"steps", "solver"}  # of sampling alone
        differing = [k for k in mine if k not in free and there.get(k) != mine[k]]
        if differing:
            what = ", ".join(f"{k} {there.get(k)} -> {mine[k]}" for k in differing)
            raise SettingError(
                f"{folder.parent} holds a run with other settings ({what}); pass the same settings to resume it, or "
                "another --out"
            )
    if main:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(folder, error) from error
        write_text(file, json.dumps(mine, indent=1))


def _finish(model: Model, out: Path) -> Model:
    """Save from the main process; return the model, ready for sampling."""
    from accelerate import PartialState

    model.network.eval()
    state = PartialState()
    if state.is_main_process:
        save(model.checkpoint, out)
    state.wait_for_everyone()
    return model


def to_tokens(layout: Layout, clips: Tensor, settings: Any) -> Tensor:
    """Clips [n, frames, height, width, channels] as the rows of tokens [n, length, features] that a network reads.

    ``settings`` are the system's: its ``mean`` is taken off, and the rest divided by its ``deviation``.
    """
    clips = (clips - settings.mean) / settings.deviation
    if isinstance(layout, Squares):
        if clips.shape[1] != 1:
            raise SettingError(f"squares cut single images, not clips of {clips.shape[1]} frames; pass side=0")
        return layout.patchify(clips[:, 0])
    return layout.patchify(clips)  # type: ignore[attr-defined]


def to_clips(layout: Layout, tokens: Tensor, settings: Any) -> Tensor:
    """The inverse of ``to_tokens``."""
    tokens = tokens * settings.deviation + settings.mean
    if isinstance(layout, Squares):
        return layout.unpatchify(tokens).unsqueeze(1)
    return layout.unpatchify(tokens)  # type: ignore[attr-defined]


def sample_clips(
    model: Model,
    labels: Sequence[int],
    frames: int | None = None,
    guidance: float = 1.0,
    beginning: Tensor | None = None,
    seed: int = 0,
    at_once: int = 64,
    memory: str = "exact",
    on_event: Callable[[Event], None] | None = None,
) -> Tensor:
    """A clip of every label, float [n, frames, height, width, channels]; clip i is a function of (label, seed + i).

    Args:
        labels: a class each; the number of classes stands for none.
        frames: how long; by default as trained. A longer clip simply goes on (images have one frame).
        guidance: how much the label counts; 1 takes the network's word, above 1 exaggerates it.
        beginning: known first frames [n, t, height, width, channels], whole units.
        at_once: clips that share a forward. memory: "exact", or "none" to recompute the past at every step.
        on_event: shown every step of every unit; ``Event.row`` is the number of the clip.
    Raises ``SettingError`` as ``generate`` does, for a number of frames that ends inside a unit, and for guidance of a
    network that was never trained without a label.
    """
    if not len(labels):
        raise SettingError("there are no labels; pass one for every clip")
    if not math.isfinite(guidance):
        raise SettingError(f"guidance is {guidance}; pass a finite number, 1 for none")
    if guidance != 1 and getattr(model.settings, "drop_label", 1) == 0:
        raise SettingError(
            f"guidance is {guidance:g}, but the model was trained with drop_label 0, so it knows nothing to be guided "
            "away from; pass 1, or train it with drop_label 0.1"
        )
    layout, config = model.parts.layout, model.network.config
    whole = layout.length  # type: ignore[attr-defined]
    length = whole
    if frames is not None:
        trained = getattr(model.settings, "frames", 1)
        length = frames * (whole // trained)
        if trained == 1 and frames != 1:
            raise SettingError(f"the model makes images, not clips of {frames} frames; leave frames out")
        if frames < 1 or length % layout.size:
            raise SettingError(f"{frames} frames are no whole units of {layout}; pass a multiple")
    known = torch.zeros(len(labels), 0, config.features)
    if beginning is not None:
        known = to_tokens(layout, beginning, model.settings)
        length -= known.shape[1]
    guide = None if guidance == 1 else ClassifierFree(guidance, config.classes)
    options: dict[str, Any] = {"guide": guide, "memory": memory, "drafts": on_event is not None}
    made = []
    for first in range(0, len(labels), at_once):
        chosen = list(range(first, min(first + at_once, len(labels))))
        prompts = [known[i] for i in chosen]
        rows = {"label": [labels[i] for i in chosen], "seed": [seed + i for i in chosen]}
        events = model.stream(prompts, length, **rows, **options)
        if on_event is not None:
            events = _shown(events, first, on_event)
        made += [result.row for result in collect(events, prompts, length)]
    return to_clips(layout, torch.stack(made), model.settings)


def _shown(events: Iterator[Event], first: int, on_event: Callable[[Event], None]) -> Iterator[Event]:
    """The same events, each shown under the number of its clip, where the first row is that of clip ``first``."""
    for event in events:
        on_event(replace(event, row=first + event.row))
        yield event


def write_gif(path: str | Path, clips: Tensor, scale: int = 8, frames_per_second: float = 8.0) -> Path:
    """Clips [n, frames, height, width, channels] in a square as one animated GIF that repeats for ever."""
    sheet = _squared(_bytes(clips))
    frames = [_picture(sheet[:, :, t], scale) for t in range(sheet.shape[2])]
    buffer = io.BytesIO()
    duration = round(1000 / frames_per_second)
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=duration, loop=0)
    return _write(path, buffer)


def write_grid(path: str | Path, clips: Tensor, scale: int = 4) -> Path:
    """Clips as one PNG: a row each, their frames from left to right; images of one frame are laid out as a square."""
    sheet = _bytes(clips)
    if sheet.shape[1] == 1:
        sheet = _squared(sheet).squeeze(2)
    buffer = io.BytesIO()
    _picture(sheet, scale).save(buffer, "PNG")
    return _write(path, buffer)


def _bytes(clips: Tensor) -> Tensor:
    """[-1, 1] to 0..255, always three colours."""
    if clips.dim() != 5 or not clips.numel() or clips.shape[-1] not in (1, 3):
        raise SettingError(f"clips are {list(clips.shape)}; pass [n, frames, height, width, 1 or 3]")
    values = ((clips.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return values.expand(*values.shape[:-1], 3)


def _squared(sheet: Tensor) -> Tensor:
    """[n, ...] as rows of about as many: [down, across, ...], with black behind the last."""
    across = math.ceil(math.sqrt(len(sheet)))
    blank = sheet.new_zeros(-len(sheet) % across, *sheet.shape[1:])
    return torch.cat((sheet, blank)).unflatten(0, (-1, across))


def _picture(sheet: Tensor, scale: int) -> Image:
    """Tiles [down, across, height, width, 3], one pixel apart, each pixel ``scale`` wide."""
    from PIL import Image

    down, across, high, wide, _ = sheet.shape
    canvas = torch.full((down * (high + 1) - 1, across * (wide + 1) - 1, 3), 64, dtype=torch.uint8)
    for i in range(down):
        for j in range(across):
            canvas[i * (high + 1) : i * (high + 1) + high, j * (wide + 1) : j * (wide + 1) + wide] = sheet[i, j]
    picture = Image.fromarray(canvas.numpy())
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def _write(path: str | Path, buffer: io.BytesIO) -> Path:
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(buffer.getvalue())
    except OSError as error:
        raise DataError(f"{target} cannot be written ({error.strerror or error}); pass another path") from None
    return target
