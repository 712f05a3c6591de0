"""C++ sources beside the parts that use them: compiled at their first use, in seconds, and kept in the user's cache.

Without a compiler, or with ``INTERLACE_NATIVE=0`` in the environment, everything runs as plain PyTorch.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import shlex
import shutil
import subprocess
import sys
import warnings
from hashlib import blake2b
from pathlib import Path

__all__ = ["compiled"]

_FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fPIC", "-shared")
_HEADER = Path(__file__).with_name("vectors.h")


@functools.cache
def compiled(source: Path) -> ctypes.CDLL | None:
    """The functions of a source, which may include ``vectors.h``; or None where nothing can be compiled."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if os.environ.get("INTERLACE_NATIVE", "1") == "0" or compiler is None or sys.platform == "win32":
        return None
    key = blake2b(digest_size=8)
    texts = compiler, _processor(), " ".join(_FLAGS)
    for part in (source.read_bytes(), _HEADER.read_bytes(), *(text.encode() for text in texts)):
        key.update(len(part).to_bytes(8, "big") + part)
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        built = root / "interlace" / f"{source.stem}-{key.hexdigest()}.so"
        if not built.exists():
            _compile(compiler, source, built)
        return ctypes.CDLL(str(built))
    except (OSError, subprocess.SubprocessError, RuntimeError) as error:
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        _tell(cause)
        return None


@functools.cache
def _tell(cause: str) -> None:
    """Once, however many sources cannot be compiled for the same cause."""
    warnings.warn(f"the compiled blocks cannot be used ({cause}); PyTorch's run instead, slower", stacklevel=4)


def _processor() -> str:
    """What ``-march=native`` depends on: a home folder may serve several machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())


def _compile(compiler: str, source: Path, out: Path) -> None:
    """Under another name, then renamed: two processes may do it at once."""
    out.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        # libgomp is found by its name, and PyTorch has loaded one: two pools of threads would fight for the processor
        for threads in (["-fopenmp"], []):
            where = ["-I", str(_HEADER.parent), "-o", str(partial), str(source)]
            command = [*shlex.split(compiler), *_FLAGS, *threads, *where]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            if done.returncode == 0:
                os.replace(partial, out)
                return
        raise RuntimeError(f"{compiler}: {done.stderr.strip() or done.returncode}")
    finally:
        partial.unlink(missing_ok=True)
