"""Building and loading the C kernel, once a machine: half a second with gcc 12, a millisecond from then on.

The library is kept in the user's cache folder (``$XDG_CACHE_HOME/hf_momo``, else ``~/.cache/hf_momo``) under a name
that says what it was made from: source, flags, compiler and the processor's instruction set, as one home folder may
serve machines of several kinds. Processes that start together each build their own and the last one's stays.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).with_name("measure.c")
COMPILERS = ("cc", "gcc", "clang")
# Sums are reordered where the source says so and nowhere else, and a NaN stays a NaN: -ffast-math would undo both.
FLAGS = ("-O3", "-std=c11", "-fPIC", "-shared", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math")
TIMEOUT = 120.0


class NoCompilerError(RuntimeError):
    """No C compiler builds the kernel; the message says which were tried."""


@functools.cache
def load_library() -> ctypes.CDLL:
    """Return the kernel as a library, built where it is not yet in the cache.

    Raises:
        NoCompilerError: If there is no compiler or it fails.
    """
    command = find_compiler()
    name = f"measure-{_fingerprint(command)}.so"
    for folder in _folders():
        path = folder / name
        if not path.is_file():
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                _build(command, path)
            except OSError:
                continue  # a read-only home: the next folder is this process's own
        try:
            return ctypes.CDLL(str(path))
        except OSError as error:
            raise NoCompilerError(f"{path}, built by {shlex.join(command)}, does not load: {error}") from error
    raise NoCompilerError("no folder to build in: neither the user's cache folder nor a temporary one is writable")


def find_compiler() -> list[str]:
    """Return the compiler as a command: ``$CC`` where it is set, else the first of ``COMPILERS`` that is installed.

    Raises:
        NoCompilerError: If there is none.
    """
    chosen = os.environ.get("CC", "").strip()
    if chosen:
        command = shlex.split(chosen)
        if shutil.which(command[0]) is None:
            raise NoCompilerError(f"CC={chosen}: there is no such program")
        return command
    for name in COMPILERS:
        if shutil.which(name) is not None:
            return [name]
    raise NoCompilerError(f"no C compiler ({', '.join(COMPILERS)}) on PATH, and CC is not set")


def _build(command: list[str], path: Path) -> None:
    handle, scratch = tempfile.mkstemp(suffix=".so", dir=path.parent)
    os.close(handle)
    try:
        for native in (["-march=native"], ["-mcpu=native"], []):  # some compilers know one of the first two
            arguments = [*command, *FLAGS, *native, str(SOURCE), "-lm", "-o"]
            done = subprocess.run([*arguments, scratch], capture_output=True, text=True, timeout=TIMEOUT, check=False)
            if done.returncode == 0:
                os.replace(scratch, path)
                return
        raise NoCompilerError(
            f"{shlex.join([*arguments, str(path)])} failed: {done.stderr.strip() or done.returncode}"
        )
    except subprocess.TimeoutExpired as error:
        raise NoCompilerError(f"{shlex.join(command)} took more than {TIMEOUT:g} s") from error
    finally:
        Path(scratch).unlink(missing_ok=True)


def _fingerprint(command: list[str]) -> str:
    program = Path(shutil.which(command[0]) or command[0]).resolve()
    about = [SOURCE.read_text(), *FLAGS, *command, str(program), str(program.stat().st_mtime_ns), _processor()]
    return hashlib.sha256("\0".join(about).encode()).hexdigest()[:16]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    return f"{platform.system()} {platform.machine()} {features}"


def _folders() -> Iterator[Path]:
    cache = os.environ.get("XDG_CACHE_HOME")
    with contextlib.suppress(RuntimeError):  # a user without a home
        yield (Path(cache) if cache else Path.home() / ".cache") / "hf_momo"
    yield Path(_own_folder().name)


@functools.cache
def _own_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="hf_momo-")
