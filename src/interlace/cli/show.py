"""interlace show"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, SettingError
from .command import Setting, command
from .console import print_json

if TYPE_CHECKING:
    from ..attention.patterns import Pattern, Tags
    from ..grid import Schedule
    from ..systems import Parts, System


@command(
    Setting("what", str, "a system, an attention pattern or a schedule, with its settings", place=True, required=True),
    Setting("units", int, "units of the row", shown="4, of a schedule 6"),
    Setting("block_size", int, "tokens per unit in a mask", 2),
    Setting("clean", int, "units that are given at the start of the path: the prompt", 0),
    Setting("documents", int, "documents packed in one row of a mask", 1),
    Setting("out", str, "draw a picture into this file: *.svg, *.png or *.pdf"),
    panel="Look",
)
def show(
    what: str, units: int | None, block_size: int, clean: int, documents: int, out: str | None, json: bool
) -> None:
    """Draw a path over the grid, an attention mask, or the parts, mask and path of a system.

    Settings follow a colon. Schedules: token-by-token, block-by-block:steps=N,
    all-at-once:steps=N, diagonal:steps=N,window=N,lag=N, level-by-level:steps=N.
    Patterns: causal, bidirectional, block-causal, prefix-bidirectional:prefix=N,
    two-copy. Systems: see interlace systems.

    [bold]Examples[/bold]
      interlace show diagonal:steps=4,window=3,lag=2 --units 6
      interlace show two-copy --units 3 --block-size 2 --documents 2
      interlace show sdar
      interlace show acdit:frames_per_unit=2,steps=6 --out acdit.svg
    """
    if block_size < 1 or documents < 1 or (units is not None and units < 1) or clean < 0:
        raise SettingError("--units, --block-size and --documents are 1 or more, --clean 0 or more; correct them")
    name = what.partition(":")[0].strip()
    from ..schedules import parse_schedule
    from ..systems import systems

    if name in systems():
        _system(systems()[name], what, units or 4, block_size, clean, documents, out, json)
    elif name in _patterns():
        pattern = _settled(_patterns()[name], what)
        tags = _tags(pattern, units or 4, block_size, documents)
        seen = _seen(pattern, tags)
        if json:
            print_json({"pattern": repr(pattern), **_tag_lists(tags), "sees": seen.int().tolist()})
        else:
            print(_titled(repr(pattern), _mask(seen, tags)))
        _draw(out, lambda axes: _draw_mask(pattern, seen, tags, axes))
    else:
        try:
            schedule = parse_schedule(what)
        except SettingError as error:
            if str(error).startswith("unknown schedule"):
                known = [*systems(), *_patterns(), *_schedules()]
                raise SettingError(f"{name!r} is not known; pass one of {', '.join(known)}") from None
            raise
        if json:
            print_json(_path(schedule, units or 6, clean))
        else:
            from ..report.pictures import path_text

            print(path_text(schedule, units or 6, clean))
        _draw(out, lambda axes: _draw_path(schedule, units or 6, clean, axes))


def _system(
    system: System, what: str, units: int, block_size: int, clean: int, documents: int, out: str | None, json: bool
) -> None:
    """A system: its parts, the mask that it is trained under, the path that it walks."""
    from ..report.pictures import path_text

    parts = system.parts(_system_settings(system, what))
    pattern = getattr(parts.objective, "pattern", parts.pattern)
    size = min(parts.layout.size, block_size)
    tags = _tags(pattern, units, size, documents)
    seen = _seen(pattern, tags)
    if json:
        print_json(
            {
                "name": system.name,
                "title": system.title,
                "paper": system.paper,
                "settings": _system_settings(system, what).model_dump(),
                "parts": _words(parts),
                "training_mask": {"pattern": repr(pattern), **_tag_lists(tags), "sees": seen.int().tolist()},
                "path": _path(parts.schedule, units, clean),
            }
        )
    else:
        print(_titled(f"{system.title} {f'({system.paper})' if system.paper else ''}".strip(), system.summary))
        if system.claim:
            print(f"\nclaim          {system.claim.paper}\nreproduced if  {system.claim.reproduced_if}")
        print()
        for name, text in _words(parts).items():
            print(f"{name:<10} {text}")
        drawn = "" if size == parts.layout.size else f", {size} of {parts.layout.size} tokens a unit"
        print("\n" + _titled(f"training: {pattern!r}{drawn}", _mask(seen, tags)))
        print("\n" + _titled("sampling", path_text(parts.schedule, units, clean)))

    def both(axes: Any) -> Any:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11, 5), facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        _draw_mask(pattern, seen, tags, left)
        _draw_path(parts.schedule, units, clean, right)
        figure.suptitle(system.title, fontweight="bold")
        return left

    _draw(out, both)


def _words(parts: Parts) -> dict[str, str]:
    """Every part by its name; of the objective, what it does not share with the sampling parts."""
    found = {name: repr(getattr(parts, name)) for name in ("layout", "pattern", "process", "schedule")}
    known = (parts.layout, parts.process)
    own = [f for f in fields(parts.objective) if getattr(parts.objective, f.name) not in known]  # type: ignore[arg-type]
    settings = ", ".join(f"{f.name}={getattr(parts.objective, f.name)!r}" for f in own)
    return found | {"memory": parts.memory, "objective": f"{type(parts.objective).__name__}({settings})"}


def _path(schedule: Schedule, units: int, clean: int) -> dict[str, Any]:
    from ..grid import walk
    from ..schedules import schedule_text

    moves = [
        {"units": move.units, "steps": move.step, "of": move.of, "from": move.frm, "to": move.to}
        for _, move in walk(schedule, units, clean)
    ]
    return {"schedule": schedule_text(schedule), "units": units, "clean": clean, "moves": moves}


def _patterns() -> dict[str, type]:
    """Every attention pattern by its name on the command line."""
    from ..attention import patterns

    found = [getattr(patterns, name) for name in patterns.__all__]
    kinds = [
        one for one in found if isinstance(one, type) and one.__dict__.get("horizon") and one is not patterns.Pattern
    ]
    return {re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower(): kind for kind in kinds}


def _schedules() -> list[str]:
    from .. import schedules

    kinds = [one for one in map(schedules.__dict__.get, schedules.__all__) if isinstance(one, type)]
    return [re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower() for kind in kinds]


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


def _system_settings(system: System, what: str) -> Any:
    return system.settings.but(**_pairs(what))


def _tags(pattern: Pattern, units: int, size: int, documents: int) -> Tags:
    """Tokens of packed documents of ``units`` units in all; a pattern that tells copies apart is given two."""
    import torch

    from ..attention.patterns import Tags, TwoCopy
    from ..layouts import Blocks

    if documents > units:
        raise SettingError(f"{documents} documents do not fit into {units} units; pass fewer, or more --units")
    shares = [units // documents + (d < units % documents) for d in range(documents)]
    layout = Blocks(size)
    copies = (1, 0) if isinstance(pattern, TwoCopy) else (0,)
    found = [layout.tags(share * size, d, copy) for copy in copies for d, share in enumerate(shares)]
    return Tags(*(torch.cat(one) for one in zip(*found, strict=True)))


def _seen(pattern: Pattern, tags: Tags) -> Any:
    from ..attention.patterns import dense

    return dense(pattern, tags)


def _tag_lists(tags: Tags) -> dict[str, list[int]]:
    return {name: getattr(tags, name).tolist() for name in ("index", "unit", "document", "copy")}


def _mask(seen: Any, tags: Tags) -> str:
    """The mask with its units on both sides: a query is a row, a key a column."""
    from ..report.pictures import mask_text

    names = [f"{'~' if copy else ' '}{unit}" for unit, copy in zip(tags.unit.tolist(), tags.copy.tolist(), strict=True)]
    wide = max(map(len, names))
    head = " ".join(str(unit % 10) for unit in tags.unit.tolist())
    note = "rows see columns; the numbers are units" + (", ~ is the noisy copy" if bool((tags.copy > 0).any()) else "")
    rows = [f"{name:>{wide}}  {row}" for name, row in zip(names, mask_text(seen).splitlines(), strict=True)]
    return "\n".join([f"{note}\n{' ' * wide}  {head}", *rows])


def _titled(title: str, text: str) -> str:
    return f"{title}\n{text}"


def _draw_mask(pattern: Pattern, seen: Any, tags: Tags, axes: Any) -> Any:
    from ..report.pictures import draw_mask

    return draw_mask(seen, axes, tags)


def _draw_path(schedule: Schedule, units: int, clean: int, axes: Any) -> Any:
    from ..report.pictures import draw_path

    return draw_path(schedule, units, axes, clean)


def _draw(out: str | None, draw: Callable[[Any], Any]) -> None:
    """Write the picture, if one is asked for."""
    if out is None:
        return
    if Path(out).suffix not in (".svg", ".png", ".pdf"):
        raise SettingError(f"--out {out} is no picture; name it *.svg, *.png or *.pdf")
    figure = draw(None).get_figure()
    if out.endswith(".svg"):
        from ..report.files import write_whole
        from ..report.pictures import figure_svg

        write_whole(out, figure_svg(figure))
    else:
        try:
            figure.savefig(out, dpi=200, bbox_inches="tight", pad_inches=0.12)
        except OSError as error:
            raise DataError(f"{out} cannot be written ({error.strerror}); pass a path that you may write to") from None
    print(f"{out} holds the picture")
