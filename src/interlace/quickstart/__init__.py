"""The main job in three acts: adapt an autoregressive model, compare what came out, fill holes.

Everything is measured in the run; it leaves OUT/model (the adapted model), OUT/report.html and OUT/report.json.
Torch is imported when a run starts.
"""

from .run import quickstart
from .settings import QuickstartSettings

__all__ = ["QuickstartSettings", "quickstart"]
