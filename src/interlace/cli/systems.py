"""interlace systems"""

from __future__ import annotations

from typing import Any

from .command import command
from .console import print_json, table


@command(panel="Look")
def systems(json: bool) -> None:
    """List the published systems that are in the box."""
    from ..systems import systems as found

    rows: list[dict[str, Any]] = [
        {
            "name": s.name,
            "title": s.title,
            "family": s.family,
            "paper": s.paper,
            "summary": s.summary,
            "format": s.format,
            "settings": s.settings.model_dump(mode="json"),
            "claim": s.claim.paper if s.claim else None,
        }
        for s in found().values()
    ]
    if json:
        print_json(rows)
    else:
        table(
            ["name", "family", "paper", "what it is"],
            [[r["name"], r["family"], r["paper"], r["summary"]] for r in rows],
        )
