"""A row whose stop text was found takes no further move, whatever its batch does."""

from __future__ import annotations

from collections.abc import Sequence

from interlace.model import Model, load
from interlace.writing import Writing, unwritten, write

PROMPTS = ["def area(width, height):\n    return", "import os\n", "class Stack:\n    def push", "for i in range("]
STOPS = ["(", "\n", ")", "never written"]


def written(model: Model, which: Sequence[int]) -> tuple[list[Writing], int]:
    """The rows, and the events of their moves."""
    ids = [model.encode(PROMPTS[i]) for i in which]
    rows = unwritten(model, ids, [[STOPS[i]] for i in which])
    moves: list[int] = []
    network, head = model.network, model.network.head

    def counted(hidden):  # type: ignore[no-untyped-def]
        moves.append(hidden.shape[0])
        return head(hidden)

    network.head = counted
    try:
        for _ in write(model, ids, 48, rows):
            pass
    finally:
        del network.head
    return rows, sum(moves)


def test_a_row_that_a_stop_text_ended_is_computed_no_more() -> None:
    model = load("base", dtype="float32")
    together, moves = written(model, range(4))
    alone = [written(model, [i]) for i in range(4)]
    assert [row.text for row in together] == [rows[0].text for rows, _ in alone]
    assert any(row.stopped for row in together) and not all(row.stopped for row in together)
    assert moves == sum(alone_moves for _, alone_moves in alone)
