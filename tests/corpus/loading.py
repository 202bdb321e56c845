"""Load shared objects one by one after ``import torch``; runs inside a torch environment.

Reads lines ``{"members": [...], "beside": {...}, "modules": [...]}`` and writes a line of JSON for
each member and module, and an empty object at the end of each answer. It imports nothing of
wheelyard: the interpreter may be as old as torch's oldest.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 180
POLL_SECONDS = 0.005
# Of the C kind: what is missing of torch or Python is not looked for elsewhere.
UNDEFINED = re.compile(r"undefined symbol: (?!_Z|_?Py|torch_|aoti_)(\w+)")
ENDED = "ended by signal"
MISSING = re.compile(r"(\S+): cannot open shared object file")


def main() -> None:
    """Answer for every member and module, each in a fork of its own."""
    # Whatever a package prints while it is imported must not get among the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    torch = importlib.import_module("torch")
    say(answers, torch=torch.__version__)
    for line in sys.stdin:
        asked = json.loads(line)
        importlib.invalidate_caches()
        for path in asked["members"]:
            say(answers, member=path, result=in_fork(load, path, asked["beside"]))
        for name in asked["modules"]:
            say(answers, module=name, result=in_fork(load_module, name, {}))
        say(answers)


def say(answers: IO[str], **answer: str) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def load(path: str, beside: dict[str, str]) -> str:
    """Open as the interpreter opens an extension, but resolve every symbol at once.

    Where a library is not found that lies beside the file or torch, or a symbol that one of them
    has, that library is loaded first: packages do so whose files do not say what they need.
    """
    loaded_first: list[str] = []
    waiting = [path]
    while waiting:
        try:
            ctypes.CDLL(waiting[-1], mode=os.RTLD_NOW | os.RTLD_LOCAL)
        except OSError as error:
            missing = MISSING.match(str(error))
            undefined = UNDEFINED.search(str(error))
            other = beside.get(missing[1]) if missing else None
            if other is not None and other not in waiting:
                waiting.append(other)
                continue
            other = find_provider(undefined[1], beside, but=path) if undefined else None
            if other is None or f"{Path(other).name} for all" in loaded_first:
                raise
            ctypes.CDLL(other, mode=os.RTLD_NOW | os.RTLD_GLOBAL)
            loaded_first.append(f"{Path(other).name} for all")
        else:
            loaded_first.append(Path(waiting.pop()).name)
    names = ", ".join(loaded_first[:-1])
    return f"ok after {names}" if names else "ok"


def find_provider(symbol: str, beside: dict[str, str], *, but: str) -> str | None:
    """Return a library that has the symbol; not torch's, which are all loaded already."""
    for library in beside.values():
        if library != but and "/torch/lib/" not in library:
            command = ["nm", "--dynamic", "--defined-only", "--format=posix", library]
            lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout
            if re.search(rf"^{symbol}\b", lines, re.MULTILINE):
                return library
    return None


def load_module(name: str, _: dict[str, str]) -> str:
    importlib.import_module(name)
    return "ok"


def in_fork(action: Callable[[str, dict[str, str]], str], name: str, beside: dict[str, str]) -> str:
    """Return the action's answer, its error's words, or how the fork ended."""
    reading, writing = os.pipe()
    printed = tempfile.TemporaryFile()  # noqa: SIM115 - the fork writes to it, too
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.dup2(printed.fileno(), 2)
        signal.alarm(SECONDS)
        try:
            text = action(name, beside)
        except BaseException as error:  # noqa: BLE001 - a package may raise what it likes
            kind = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
            text = f"{kind}{error}" or type(error).__name__
        os.write(writing, text.encode("utf-8", "replace")[:4000])
        os._exit(0)
    os.close(writing)
    text = os.read(reading, 4000).decode("utf-8", "replace")
    os.close(reading)
    status = wait(child)
    with printed:
        printed.seek(0)
        lines = printed.read().decode("utf-8", "replace").splitlines()
    said = [line for line in lines if "what()" in line] or lines[-1:]
    return text or " ".join([f"{ENDED} {status & 0x7F}", *said])


def wait(child: int) -> int:
    """Wait for the fork; kill it when its alarm does not reach it."""
    deadline = time.monotonic() + SECONDS + 10
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main()
