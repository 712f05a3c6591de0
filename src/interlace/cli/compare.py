"""interlace compare"""

from __future__ import annotations

from typing import Any

from ..errors import SettingError
from .command import Setting, command
from .console import print_json, say, table
from .evaluate import MEASURING, show


@command(
    *MEASURING,
    Setting("out", str, "the page with the plot of the frontier and the table", "compare.html", panel="Run"),
    panel="Measure",
)
def compare(models: list[str], out: str, json: bool, **options: Any) -> None:
    """Put models side by side: quality, tokens per forward, tokens per second and memory, as a table and a plot.

    The models may be of different systems. Each is swept over the dial of its own:
    the threshold of confidence, WeDLM's bound of entropy; autoregression and TiDAR
    have one point. All get the same texts, prompts and holes.

    [bold]Examples[/bold]
      interlace compare base twin
      interlace compare base sdar-out tidar-out wedlm-out --prompts 96 --out frontier.html
      interlace compare base twin --holes 0 --texts 0 --json > points.jsonl

    With --json every model is an object, as of interlace evaluate.
    """
    if not out.endswith(".html"):
        raise SettingError(f"--out {out} is no page; name it *.html")
    from .measuring import measure

    found, asked = measure(models, **options, each=print_json if json else None)
    from ..report.comparison import comparison_page, memory
    from ..report.files import write_whole

    if not json:
        show(found, asked)
        print()
        head, rows = memory(found)
        table(["model", *head], [[one["model"], *row] for one, row in zip(found, rows, strict=True)], "memory and work")
    page = write_whole(out, comparison_page(found, options["length"], options["batch_rows"]))
    say(f"{page} shows the frontier")
