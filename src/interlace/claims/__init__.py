"""The claims of the papers, checked at small scale: one file per system, found by itself.

A file ``NAME.py`` in this folder with a function ``check(say, seed) -> Findings`` is the check of the system NAME.
``protocol`` says what a check gives back and runs it.
"""

from .protocol import Arm, Findings, Record, Say, checks, reproduce

__all__ = ["Arm", "Findings", "Record", "Say", "checks", "reproduce"]
