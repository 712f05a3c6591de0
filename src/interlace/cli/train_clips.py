"""interlace train-clips"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .command import Setting, command, leader
from .runs import announce, finished, resumable
from .settings import CLIP_DATA, CLIP_SHAPE, CLIPS, TRAINING

if TYPE_CHECKING:
    from ..model import Model

# A network of this size on pixels learns in hundreds of steps with these.
_BETTER = {"optimizer": "muon", "learning_rate": 1e-2, "ema": 0.97, "weight_decay": 0.01, "warmup": 20}


@command(
    Setting("system", str, "what to train: an image or video system of `interlace systems`", "acdit", short="-s"),
    *(replace(s, default=_BETTER.get(s.name, s.default)) for s in TRAINING),
    *CLIP_DATA,
    *CLIPS,
    *CLIP_SHAPE,
    panel="Train",
    name="train-clips",
)
def train_clips(system: str, json: bool, **settings: Any) -> None:
    """Train a new model of images or clips: handwritten digits, or moving shapes.

    Both are in the box. An image is generated square by square, a clip some
    frames at a time (--frames-per-unit), each by several steps of denoising. The
    labels are digits, or shape and motion; interlace sample generates by them.

    A run that was stopped, killed or that met a full disk goes on when the same
    command is given again.

    [bold]Examples[/bold]
      interlace train-clips --data digits --out digits --steps 300
      interlace train-clips --out clips --shapes circle,cross --patch 16
      interlace train-clips --out clips --print-config > clips.toml
      interlace train-clips --config clips.toml --frames-per-unit 1
    """
    from ..clips import ClipData, ClipShape
    from ..clips import train_clips as run
    from ..training.settings import TrainSettings
    from .config import make

    for name in ("shapes", "motions", "colours"):
        settings[name] = [part.strip() for one in settings[name] for part in one.split(",")]
    if settings["predicts"] is None and settings["noise"] != "gaussian":
        settings["predicts"] = "clean"  # pixels are easier to give than their velocity; DDPM has no such choice
    training, shape = make(TrainSettings, settings), make(ClipShape, settings)
    data = make(ClipData, settings | {"seed": None})  # the world stays the same: another seed is another run in it
    chosen = {s.name: settings[s.name] for s in CLIPS if settings[s.name] is not None}

    def begin(model: Model) -> None:
        if not leader():
            return
        layout: Any = model.parts.layout
        about = {
            "new model": f"{shape.num_layers} layers of {shape.hidden_size}",
            "parameters": sum(p.numel() for p in model.network.parameters()),
            "system": f"{model.system.title}, {model.system.paper}",
            "units": f"{layout.units(layout.length)} of {layout.size} tokens",
        }
        known = f"{data.data}, {len(data.labels)} labels"
        announce(about, training, known + (f", {data.samples:,} clips" if data.data == "shapes" else ""), layout.length)

    with resumable(training.out):
        model = run(training, data, shape, system, on_start=begin, **chosen)
    finished(model, training, json)
