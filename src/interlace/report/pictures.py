"""Pictures of the two things that a system is known by: its path over the grid, and who sees whom.

Both as a figure (matplotlib, without its global state, so that it works in a server, in tests and in notebooks) and as
text for a terminal. Figures stand on a white card and can be read on light and dark pages.
"""

from __future__ import annotations

import io
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import SettingError
from ..grid import Schedule, walk
from ..schedules import schedule_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..attention.patterns import Tags

__all__ = ["draw_mask", "draw_path", "draw_similarity", "figure_svg", "mask_text", "path_text"]

INK, SOFT, FAINT = "#30353d", "#7b8492", "#eef0f3"
# Early to late; every colour is dark enough for white numbers.
ORDER = ("#6a4cd9", "#2f74d6", "#0f8892", "#3d8b45", "#ae7614", "#c6532c")
# What a query sees, by the key: (copy is noisy, in the query's own unit) -> colour and name.
SEEN = {
    (False, True): ("#2f74d6", "clean, own unit"),
    (False, False): ("#9dbff0", "clean, other units"),
    (True, True): ("#d9662f", "noisy, own unit"),
    (True, False): ("#f2bd9f", "noisy, other units"),
}


def draw_path(schedule: Schedule, units: int, ax: Axes | None = None, clean: int = 0) -> Axes:
    """The path over the grid: units from left to right, levels from 1 (noise) down to 0 (clean).

    A cell is one step of one unit; its number is the move that takes it, its colour runs from the first move to the
    last. Cells of one number are computed together. The first ``clean`` units are a prompt. More than 400 cells have
    colours only.
    """
    from matplotlib.patches import FancyBboxPatch

    if units < 1:
        raise SettingError(f"a path over {units} units has no picture; pass 1 or more")
    moves = [move for _, move in walk(schedule, units, clean)]
    steps = max((move.of for move in moves), default=1)
    high = min(max(steps, 4), 12)  # the height of a column, in widths of a column
    if ax is None:
        cell = min(0.38, 12 / max(units, 1))
        ax = _card(max(units * cell, 1.4) + 1.0, high * cell + 1.0)
    ax.set(xlim=(0, units), ylim=(0, high), aspect="equal")
    points = _points(ax)

    def box(unit: int, low: float, top: float, colour: str) -> None:
        pad, height = 0.06, (top - low) * high
        pad = min(pad, 0.12 * height)
        corner = min(0.16, (height - 2 * pad) / 2.5)
        place, size = (unit + pad, low * high + pad), (1 - 2 * pad, height - 2 * pad)
        style = f"round,pad=0,rounding_size={corner}"
        ax.add_patch(FancyBboxPatch(place, *size, boxstyle=style, facecolor=colour, edgecolor="none"))

    for unit in range(clean):
        box(unit, 0.0, 1.0, "#e3e6ea")
    if clean:
        turn = 90 if clean * points < 36 else 0
        ax.text(clean / 2, high / 2, "prompt", color=INK, fontsize=8.5, rotation=turn, ha="center", va="center")
    for number, move in enumerate(moves):
        colour = _colour(number / max(len(moves) - 1, 1))
        for unit, frm, to in zip(move.units, move.frm, move.to, strict=True):
            box(unit, to, frm, colour)
            size = min(9.0, 0.62 * points * high / move.of, 1.15 * points / len(str(number + 1)))
            if size > 3 and units * steps <= 400:
                label: dict[str, Any] = {"color": "white", "fontsize": size, "fontweight": "bold"}
                ax.text(unit + 0.5, (to + frm) / 2 * high, str(number + 1), **label, **_CENTRE)
    marks = range(0, steps + 1, max(1, -(-steps // 8)))
    words = {0: "0 clean", steps: "1 noise"}
    ax.set_yticks([m * high / steps for m in marks], [words.get(m, f"{m / steps:.3g}") for m in marks])
    each = max(1, -(-units // 24))
    ax.set_xticks([u + 0.5 for u in range(0, units, each)], [str(u) for u in range(0, units, each)])
    ax.set_xlabel("unit", color=SOFT, fontsize=8.5)
    ax.set_title(schedule_text(schedule), color=INK, fontsize=10, fontweight="bold", pad=19)
    note: dict[str, Any] = {"textcoords": "offset points", "color": SOFT, "fontsize": 8.5}
    ax.annotate(f"{units} units, {len(moves)} moves", (0.5, 1), (0, 7), xycoords="axes fraction", ha="center", **note)
    _quiet(ax)
    return ax


def draw_mask(matrix: Any, ax: Axes | None = None, tags: Tags | None = None) -> Axes:
    """An attention matrix [queries, keys], True = may see; a query is a row, a key a column.

    With the ``tags`` of the tokens (1-D) the units, copies and documents are marked, and the colour tells what is seen:
    a clean or a noisy token, of the query's own unit or of another one.
    """
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    seen = _matrix(matrix)
    n, m = seen.shape
    names: dict[int, str] = {}
    if tags is None:
        colours, codes = {1: SEEN[False, True][0]}, seen.astype(int)
    else:
        unit, document, copy = (np.asarray(t) for t in (tags.unit, tags.document, tags.copy))
        if not n == m == len(unit):
            raise SettingError(f"{len(unit)} tags for a matrix of {n} x {m}; pass the tags of its rows and columns")
        own = (unit[:, None] == unit) & (document[:, None] == document)
        codes = np.where(seen, 1 + 2 * (copy > 0) + ~own, 0)
        kinds = {1 + 2 * noisy + (not mine): look for (noisy, mine), look in SEEN.items()}
        colours = {code: look[0] for code, look in kinds.items()}
        names = {code: look[1] for code, look in kinds.items() if (codes == code).any()}
        if not (copy > 0).any():
            names = {code: name.removeprefix("clean, ") for code, name in names.items()}
    if ax is None:
        cell = min(0.26, max(4.2 / max(n, m), 0.02))
        ax = _card(m * cell + 1.3, n * cell + 1.3)
    ax.set(xlim=(0, m), ylim=(n, 0), aspect="equal")
    ax.add_patch(Rectangle((0, 0), m, n, facecolor=FAINT, edgecolor="none"))
    for code, colour in colours.items():
        boxes = [Rectangle((x, y), w, h) for x, y, w, h in _rectangles(codes == code)]
        ax.add_collection(PatchCollection(boxes, facecolor=colour, edgecolor="none", antialiased=False))
    points = _points(ax)
    if points > 5:  # lines between the cells
        ax.vlines(range(1, m), 0, n, color="white", linewidth=0.05 * points)
        ax.hlines(range(1, n), 0, m, color="white", linewidth=0.05 * points)
    _quiet(ax)
    ax.set_xticks([])
    ax.set_yticks([])
    if tags is not None:
        _units(ax, unit, document, copy, points)
        _legend(ax, [(colours[code], name) for code, name in names.items()], m * points, n * points)
    if tags is None or len(_stretches(document, copy)) == 1:
        gap = 4 if tags is None else 14
        note: dict[str, Any] = {"textcoords": "offset points", "color": INK, "fontsize": 8.5}
        ax.annotate("keys", (0.5, 1), (0, gap), xycoords="axes fraction", ha="center", va="bottom", **note)
        note |= {"ha": "right", "va": "center", "rotation": 90}
        ax.annotate("queries", (0, 0.5), (-gap, 0), xycoords="axes fraction", **note)
    return ax


def draw_similarity(matrix: Any, ax: Axes | None = None) -> Axes:
    """A square matrix of cosines as a heat map: row and column 0 are the embeddings, l is what leaves block l."""
    values = np.asarray(matrix, dtype=float)
    ax = ax or _card(4.6, 4.0)
    drawn = ax.imshow(values, cmap="viridis", vmin=min(0.0, values.min()), vmax=1.0)
    ax.figure.colorbar(drawn, ax=ax, shrink=0.85).outline.set_visible(False)
    ax.set_xlabel("layer", color=SOFT, fontsize=9)
    ax.set_ylabel("layer", color=SOFT, fontsize=9)
    _quiet(ax)
    return ax


def path_text(schedule: Schedule, units: int, clean: int = 0, limit: int = 48) -> str:
    """The path for a terminal, a line a move: the level of every unit before it, and the units that it moves.

    A level is one of ``█▓▒░·`` (noise to clean). A path of more than ``limit`` moves is cut in the middle.

    >>> from interlace.schedules import Diagonal
    >>> print(path_text(Diagonal(steps=3, window=3, lag=1), units=4))
    diagonal:steps=3,window=3,lag=1, 4 units, 6 moves
     move  level  moves
        1  ████   ↓
        2  ▓███   ↓↓
        3  ░▓██   ↓↓↓
        4  ·░▓█    ↓↓↓
        5  ··░▓     ↓↓
        6  ···░      ↓
    clean  ····
    """
    path = list(walk(schedule, units, clean))
    wide = max(units, 5)
    lines = []
    for number, (levels, move) in enumerate(path, 1):
        arrows = "".join("↓" if unit in set(move.units) else " " for unit in range(units))
        lines.append(f"{number:5}  {_bar(levels.value):<{wide}}  {arrows}".rstrip())
    if len(lines) > limit:
        head = limit // 2
        lines[head : len(lines) - (limit - head)] = [f"{'⋮':>5}  ({len(lines) - limit} moves more)"]
    title = f"{schedule_text(schedule)}, {units} units, {len(path)} moves"
    return "\n".join([title, f" move  {'level':<{wide}}  moves", *lines, f"clean  {'·' * units}"])


def mask_text(matrix: Any) -> str:
    """An attention matrix for a terminal: a row a query, ``■`` where it sees the key, ``·`` where it does not.

    >>> print(mask_text(np.tri(3)))
    ■ · ·
    ■ ■ ·
    ■ ■ ■
    """
    return "\n".join(" ".join("■" if entry else "·" for entry in row) for row in _matrix(matrix))


def figure_svg(figure: Figure) -> str:
    """A figure as one ``<svg>`` element that needs nothing else: letters are outlines, equal figures equal strings."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "interlace"}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", bbox_inches="tight", pad_inches=0.12, metadata=nothing)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


_CENTRE: dict[str, Any] = {"ha": "center", "va": "center_baseline"}


def _card(width: float, height: float) -> Axes:
    """Axes on a white figure of that many inches, without pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def _quiet(ax: Axes) -> None:
    """No frame, no tick marks, soft labels."""
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, colors=SOFT, labelsize=8)


def _points(ax: Axes) -> float:
    """The side of a cell of the axes, in points."""
    ax.apply_aspect()
    (left, right), extent = ax.get_xlim(), ax.get_window_extent()
    return float(extent.width / abs(right - left or 1) * 72 / ax.get_figure().dpi)  # type: ignore[union-attr]


def _colour(place: float) -> str:
    """The colour of a place in 0..1 along ``ORDER``."""
    stops = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in ORDER])
    mixed = [np.interp(place * (len(ORDER) - 1), range(len(ORDER)), stops[:, channel]) for channel in range(3)]
    return "#" + "".join(f"{round(float(channel)):02x}" for channel in mixed)


def _bar(value: np.ndarray) -> str:
    """A glyph per level: five of them, the outer two for exactly 1 and exactly 0."""
    return "".join("·" if v <= 0 else "█" if v >= 1 else "░▒▓"[min(max(round(v * 4), 1), 3) - 1] for v in value)


def _matrix(matrix: Any) -> np.ndarray:
    seen = np.asarray(matrix).astype(bool)
    seen = seen.reshape(seen.shape[-2:]) if seen.ndim > 2 and seen.size == np.prod(seen.shape[-2:]) else seen
    if seen.ndim != 2:
        raise SettingError(f"an attention matrix of shape {list(seen.shape)}; pass one of [queries, keys]")
    return seen


def _rectangles(seen: np.ndarray) -> list[tuple[int, int, int, int]]:
    """(x, y, width, height) of boxes that cover exactly the true cells: runs of a row, equal runs of rows joined."""
    done: list[tuple[int, int, int, int]] = []
    open_: dict[tuple[int, int], int] = {}  # (x, width) of a run -> the row where it began
    for y in range(len(seen) + 1):
        runs: set[tuple[int, int]] = set()
        if y < len(seen):
            edges = np.flatnonzero(np.diff(np.r_[0, seen[y].astype(int), 0])).tolist()
            runs = {(left, right - left) for left, right in zip(edges[::2], edges[1::2], strict=True)}
        for run in [run for run in open_ if run not in runs]:
            start = open_.pop(run)
            done.append((run[0], start, run[1], y - start))
        for run in runs:
            open_.setdefault(run, y)
    return sorted(done)


def _stretches(*labels: np.ndarray) -> list[tuple[int, int, tuple[int, ...]]]:
    """(start, end, labels) of the stretches in which all labels stay the same."""
    rows = [tuple(int(label[i]) for label in labels) for i in range(len(labels[0]))]
    found, start = [], 0
    for key, group in groupby(rows):
        end = start + sum(1 for _ in group)
        found.append((start, end, key))
        start = end
    return found


def _units(ax: Axes, unit: np.ndarray, document: np.ndarray, copy: np.ndarray, points: float) -> None:
    """Mark units (white lines, numbers), and copies and documents (dark lines, names) on both sides of a mask."""
    n = len(unit)
    units, copies = _stretches(document, copy, unit), _stretches(document, copy)
    borders = [start for start, _, _ in units[1:]]
    ax.vlines(borders, 0, n, color="white", linewidth=min(2.2, 0.25 * points))
    ax.hlines(borders, 0, n, color="white", linewidth=min(2.2, 0.25 * points))
    for (_, start, (before, _)), (_, _, (after, _)) in pairwise(copies):
        ax.axvline(start, color=INK, linewidth=0.9 if before == after else 1.8)
        ax.axhline(start, color=INK, linewidth=0.9 if before == after else 1.8)
    several, noisy = len(set(document.tolist()) - {-1}) > 1, len(set(copy.tolist()) - {0})
    label: dict[str, Any] = {"textcoords": "offset points", "color": INK, "fontsize": 8.5}
    above, beside = {**label, "ha": "center"}, {**label, "ha": "right", "va": "center"}
    for start, end, (which, kind) in copies:
        name = "padding" if which < 0 else "clean" if kind == 0 else f"noisy {kind}" if noisy > 1 else "noisy"
        if several and which >= 0:
            name += f" {'abcdefghijklmnopqrstuvwxyz'[which]}" if which < 26 else f" #{which}"
        if len(copies) > 1 and (end - start) * points > 4.6 * len(name):
            middle = (start + end) / 2
            ax.annotate(name, (middle, 1), (0, 14), xycoords=("data", "axes fraction"), va="bottom", **above)
            ax.annotate(name, (0, middle), (-14, 0), xycoords=("axes fraction", "data"), rotation=90, **beside)
    narrow = min((end - start for start, end, _ in units), default=n) * points < 7
    shown = [] if narrow else [((start + end) / 2, str(key[2])) for start, end, key in units if key[0] >= 0]
    ax.set_xticks([place for place, _ in shown], [name for _, name in shown])
    ax.set_yticks([place for place, _ in shown], [name for _, name in shown])
    ax.tick_params(labelsize=7.5, top=False, bottom=False, labeltop=True, labelbottom=False, pad=1.5)


def _legend(ax: Axes, entries: list[tuple[str, str]], width: float, height: float) -> None:
    """Name the colours of a mask under it; width and height of the axes in points."""
    from matplotlib.patches import Patch

    handles = [Patch(color=colour, label=name) for colour, name in entries]
    look: dict[str, Any] = {"frameon": False, "fontsize": 8, "labelcolor": SOFT, "columnspacing": 1.4}
    look |= {"handlelength": 0.9, "handleheight": 0.9, "ncols": max(1, min(len(entries), int(width / 95)))}
    look |= {"loc": "upper center", "bbox_to_anchor": (0.5, -4 / height)}
    legend = ax.legend(handles=handles, title="a query (row) sees", title_fontproperties={"size": 8}, **look)
    legend.get_title().set_color(SOFT)
