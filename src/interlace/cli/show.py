"""interlace show"""

from __future__ import annotations

from .command import Setting, command


@command(
    Setting("what", str, "a system, an attention pattern, or a schedule", place=True, required=True, file=False),
    Setting("units", int, "units to show", 4),
    panel="Look",
    json=False,
)
def show(what: str, units: int) -> None:
    """Draw a path over the grid, an attention mask, or both of a system."""
    from ..report.pictures import path_text
    from ..schedules import parse_schedule

    print(path_text(parse_schedule(what), units))
