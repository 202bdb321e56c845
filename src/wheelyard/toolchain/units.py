"""What one compile is, read from its command line: its name, and what other Pythons share of it."""

from __future__ import annotations

import hashlib
import itertools
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_OF_ONE_PYTHON = re.compile(r"(?<![A-Za-z])(python|cpython-|cp)3[.]?\d{1,2}t?(?![\d.])")
_DEVICE = frozenset({".cu"})
_HOST = frozenset({".c", ".cc", ".cpp", ".cxx", ".c++", ".C"})
_TARGETS = ("-gencode", "--generate-code")
_THREADS = re.compile(r"^(?:--threads|-t)(?:=?(\d+))?$")


def source_of(command: Sequence[str]) -> str:
    """Return the file that the command compiles, empty for a link or a question."""
    sources = (word for word in command if PurePosixPath(word).suffix in _DEVICE | _HOST)
    return next((word for word in sources if not word.startswith("-")), "")


def is_device_source(source: str) -> bool:
    return PurePosixPath(source).suffix in _DEVICE


def takes_resources(command: Sequence[str]) -> bool:
    """Whether it compiles or links, rather than asking the compiler what it is."""
    inputs = _DEVICE | _HOST | {".o", ".a", ".s", ".S", ".ptx", ".cubin"}
    return any(PurePosixPath(word).suffix in inputs for word in command[1:] if word[:1] != "-")


def threads_of(command: Sequence[str], *, cores: int) -> int:
    """Return how many cores nvcc can put to use: its threads, but one for each GPU target."""
    return min(_wanted_threads(command, cores=cores), max(1, _targets_of(command)))


def _wanted_threads(command: Sequence[str], *, cores: int) -> int:
    """Return what ``--threads`` says; 0 says to nvcc that all cores are its own."""
    for word, following in zip(command, (*command[1:], ""), strict=True):
        match = _THREADS.match(word)
        if match is not None:
            number = match[1] or following
            return (int(number) or cores) if number.isdigit() else 1
    return 1


def _targets_of(command: Sequence[str]) -> int:
    return sum(word.startswith(_TARGETS) for word in command)


def for_any_python(word: str) -> str:
    """Take the Python's version out, for example of ``-I/wy/python/include/python3.12``."""
    return _OF_ONE_PYTHON.sub(r"\g<1>3", word)


def unit_digest(command: Sequence[str]) -> str:
    """Digest what makes this unit the same one in every job that shares its device code.

    That is its source and its object. Torch builds differ in flags, such as ``-std``, and still
    come to the same device code.
    """
    source, output = source_of(command), _output_of(command)
    words = [source, output] if source and output else command
    text = "\0".join(for_any_python(word) for word in words)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _output_of(command: Sequence[str]) -> str:
    for word, following in itertools.pairwise(command):
        if word in {"-o", "--output-file"}:
            return following
    return ""
