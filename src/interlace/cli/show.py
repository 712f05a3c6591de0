"""interlace show"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, SettingError
from .command import Setting, command
from .console import print_json, say

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..attention.patterns import Pattern
    from ..grid import Schedule
    from ..systems import Parts, System


@command(
    Setting("what", str, "a system, an attention pattern or a schedule, with its settings", place=True),
    Setting("units", int, "units of the row", shown="4, of a schedule 6"),
    Setting("block_size", int, "tokens per unit in a mask", 2),
    Setting("clean", int, "units that are given at the start of the path: the prompt", 0),
    Setting("documents", int, "documents packed in one row of a mask", 1),
    Setting("out", str, "draw a picture into this file: *.svg, *.png or *.pdf"),
    panel="Look",
)
def show(
    what: str | None, units: int | None, block_size: int, clean: int, documents: int, out: str | None, json: bool
) -> None:
    """Draw a path over the grid, an attention mask, or the parts, mask and path of a system.

    Settings follow a colon. Schedules: token-by-token, block-by-block:steps=N,
    diagonal:steps=N,window=N,lag=N and others. Patterns: causal, two-copy,
    prefix-bidirectional:prefix=N and others. Systems: see interlace systems.
    Without a name, all that can be drawn is named.

    [bold]Examples[/bold]
      interlace show diagonal:steps=4,window=3,lag=2 --units 6
      interlace show two-copy --units 3 --block-size 2 --documents 2
      interlace show sdar
      interlace show acdit:frames_per_unit=2,steps=6 --out acdit.svg
    """
    if block_size < 1 or documents < 1 or (units is not None and units < 1) or clean < 0:
        raise SettingError("--units, --block-size and --documents are 1 or more, --clean 0 or more; correct them")
    if out is not None and Path(out).suffix not in (".svg", ".png", ".pdf"):
        raise SettingError(f"--out {out} is no picture; name it *.svg, *.png or *.pdf")
    from ..schedules import parse_schedule, schedules
    from ..systems import systems

    what = what or ""
    name = what.partition(":")[0].strip()
    if name in systems():
        found = _system(systems()[name], what, units or 4, block_size, clean, documents)
    elif name in _patterns():
        found = _mask(_settled(_patterns()[name], what), units or 4, block_size, documents)
    elif name in schedules():
        found = _path(parse_schedule(what), units or 6, clean)
    else:
        known = [*systems(), *_patterns(), *schedules()]
        wrong = f"{name!r} is not known" if name else "WHAT is missing"
        raise SettingError(f"{wrong}; pass one of {', '.join(known)}")
    if json:
        print_json(found.value)
    else:
        print(found.text)
    if out is not None:
        _write(out, found.draw)


@dataclass(frozen=True)
class Shown:
    """One thing in the three forms in which it can be shown: data, text, and a drawing on given axes or on new ones."""

    value: dict[str, Any]
    text: str
    draw: Callable[[Axes | None], Axes]


def _path(schedule: Schedule, units: int, clean: int) -> Shown:
    """The moves of a schedule."""
    from ..grid import walk
    from ..report.pictures import draw_path, path_text
    from ..schedules import schedule_text

    moves = [
        {"units": move.units, "steps": move.step, "of": move.of, "from": move.frm, "to": move.to}
        for _, move in walk(schedule, units, clean)
    ]
    value = {"schedule": schedule_text(schedule), "units": units, "clean": clean, "moves": moves}
    return Shown(value, path_text(schedule, units, clean), lambda axes: draw_path(schedule, units, axes, clean))


def _mask(pattern: Pattern, units: int, size: int, documents: int) -> Shown:
    """A pattern over packed documents of ``units`` units in all; one that tells copies apart is given two."""
    import torch

    from ..attention.patterns import Tags, TwoCopy, dense
    from ..layouts import Blocks
    from ..report.pictures import draw_mask, mask_text

    if documents > units:
        raise SettingError(f"{documents} documents do not fit into {units} units; pass fewer, or more --units")
    shares = [units // documents + (d < units % documents) for d in range(documents)]
    copies = (1, 0) if isinstance(pattern, TwoCopy) else (0,)
    each = [Blocks(size).tags(share * size, d, copy) for copy in copies for d, share in enumerate(shares)]
    tags = Tags(*(torch.cat(one) for one in zip(*each, strict=True)))
    sees = dense(pattern, tags)

    unit, copy = tags.unit.tolist(), tags.copy.tolist()
    names = [f"{'~' if noisy else ' '}{number}" for number, noisy in zip(unit, copy, strict=True)]
    wide = max(map(len, names))
    note = "rows see columns; the numbers are units" + (", ~ the noisy copy" if any(copy) else "")
    rows = [f"{name:>{wide}}  {row}" for name, row in zip(names, mask_text(sees).splitlines(), strict=True)]
    text = "\n".join([repr(pattern), note, f"{'':{wide}}  {' '.join(str(number % 10) for number in unit)}", *rows])
    value = {"pattern": repr(pattern)} | {f: getattr(tags, f).tolist() for f in Tags._fields}
    return Shown(value | {"sees": sees.int().tolist()}, text, lambda axes: draw_mask(sees, axes, tags))


def _system(system: System, what: str, units: int, block_size: int, clean: int, documents: int) -> Shown:
    """A system: its parts, the mask that it is trained under, the path that it walks."""
    settings = system.settings.but(**_pairs(what))
    parts = system.parts(settings)
    size = min(parts.layout.size, block_size)
    mask = _mask(getattr(parts.objective, "pattern", parts.pattern), units, size, documents)
    path = _path(parts.schedule, units, clean)
    lines = [f"{system.title}{f' ({system.paper})' if system.paper else ''}", system.summary, ""]
    if system.claim:
        lines += [f"claim          {system.claim.paper}", f"reproduced if  {system.claim.reproduced_if}", ""]
    lines += [f"{name:<11} {words}" for name, words in _words(parts).items()]
    lines += ["", "settings (--set NAME=VALUE):"]
    for name, told in type(settings).model_fields.items():
        lines.append(f"  {name:<18} {getattr(settings, name)!s:<10} {told.description or ''}".rstrip())
    drawn = "" if size == parts.layout.size else f", drawn with {size} of {parts.layout.size} tokens a unit"
    lines += ["", f"the mask in training{drawn}:", mask.text, "", "the path in sampling:", path.text]

    def draw(axes: Axes | None) -> Axes:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11, 5), facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        figure.suptitle(system.title, fontweight="bold")
        path.draw(right)
        return mask.draw(left)

    value = {
        "name": system.name,
        "title": system.title,
        "paper": system.paper,
        "settings": settings.model_dump(mode="json"),
        "parts": _words(parts),
        "training_mask": mask.value,
        "path": path.value,
    }
    return Shown(value, "\n".join(lines), draw)


def _words(parts: Parts) -> dict[str, str]:
    """Every part by its name; of the objective, what it does not share with the sampling parts."""
    found = {
        f.name: repr(one)
        for f in fields(parts)
        if f.name not in ("memory", "objective") and (one := getattr(parts, f.name)) is not None
    }
    known = (parts.layout, parts.process)
    own = [f for f in fields(parts.objective) if getattr(parts.objective, f.name) not in known]  # type: ignore[arg-type]
    settings = ", ".join(f"{f.name}={getattr(parts.objective, f.name)!r}" for f in own)
    return found | {"memory": parts.memory, "objective": f"{type(parts.objective).__name__}({settings})"}


def _patterns() -> dict[str, type]:
    """Every attention pattern by its name on the command line."""
    from ..attention.patterns import Pattern
    from ..discovery import parts

    return parts("interlace.attention", Pattern)


def _pairs(what: str) -> dict[str, str]:
    """The settings behind the colon of ``name:setting=value,...``."""
    rest = what.partition(":")[2]
    found = {}
    for part in rest.split(",") if rest.strip() else []:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key:
            raise SettingError(f"{part.strip()!r} is no setting; write name:setting=value,...")
        found[key] = value
    return found


def _settled(kind: Any, what: str) -> Pattern:
    """A pattern with the whole numbers that the line gives it."""
    known = {f.name: f for f in fields(kind) if f.type in ("int", int)}
    given = {}
    for key, value in _pairs(what).items():
        if key not in known or not value.isdigit():
            have = f"it has {', '.join(known)}=N" if known else "it has none"
            raise SettingError(f"{key}={value} is no setting of the pattern {what.partition(':')[0]}; {have}")
        given[key] = int(value)
    missing = [name for name, f in known.items() if f.default is MISSING and name not in given]
    if missing:
        raise SettingError(f"the pattern {what} lacks {', '.join(missing)}; write {what}:{missing[0]}=1")
    pattern: Pattern = kind(**given)
    return pattern


def _write(out: str, draw: Callable[[Axes | None], Axes]) -> None:
    """Write the picture."""
    figure: Any = draw(None).get_figure()
    if out.endswith(".svg"):
        from ..report.files import write_whole
        from ..report.pictures import figure_svg

        write_whole(out, figure_svg(figure))
    else:
        try:
            figure.savefig(out, dpi=200, bbox_inches="tight", pad_inches=0.12)
        except OSError as error:
            raise DataError(f"{out} cannot be written ({error.strerror}); pass a path that you may write to") from None
    say(f"{out} holds the picture")
