"""Which way over the grid: a file per path, each a pure function from the current levels to the next move.

A new file is found by itself (``schedules``); the names below are those of the paths in the box, for typed imports.
"""

from .all_at_once import AllAtOnce
from .behind_prompt import BehindPrompt
from .block_by_block import BlockByBlock
from .diagonal import Diagonal
from .level_by_level import LevelByLevel
from .parsing import parse_schedule, schedule_text, schedules
from .seeded import Seeded
from .streaming import Streaming
from .successive import Successive
from .token_by_token import TokenByToken

__all__ = [
    "AllAtOnce",
    "BehindPrompt",
    "BlockByBlock",
    "Diagonal",
    "LevelByLevel",
    "Seeded",
    "Streaming",
    "Successive",
    "TokenByToken",
    "parse_schedule",
    "schedule_text",
    "schedules",
]
