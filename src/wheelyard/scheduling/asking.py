"""Read what a compiler wrapper says when it asks the budget."""

from __future__ import annotations

from pathlib import PurePosixPath

import msgspec

from wheelyard.scheduling.budget import Ask, Kind
from wheelyard.toolchain.units import (
    is_device_source,
    source_of,
    takes_resources,
    threads_of,
    unit_digest,
)


class _Memory(msgspec.Struct):
    device: int
    host: int


class _About(msgspec.Struct):
    group: str
    job: str
    memory: _Memory
    share: str


class _Line(msgspec.Struct):
    about: _About
    kind: str
    command: list[str]


def read_ask(line: bytes, *, number: int, cores: int) -> Ask:
    """Decode one line of a wrapper; raise ``ValueError`` for anything else."""
    # a command line may hold any bytes, JSON must be UTF-8
    said = msgspec.json.decode(line.decode("utf-8", "replace"), type=_Line)
    about, command = said.about, said.command
    kind = _kind(said)
    takes = {"device": about.memory.device, "host": about.memory.host, "question": 0}
    return Ask(
        number=number,
        job=about.job,
        group=about.group,
        share=about.share,
        unit=unit_digest(command) if source_of(command) else "",
        kind=kind,
        memory=max(0, takes[kind]),
        cores=0 if kind == "question" else threads_of(command, cores=cores),
        name=_name(command),
        begins=said.kind == "begin",
    )


def _kind(said: _Line) -> Kind:
    if not takes_resources(said.command):
        return "question"
    return "device" if is_device_source(source_of(said.command)) else "host"


def _name(command: list[str]) -> str:
    """Return the source below the job's tree, or what is linked."""
    source = source_of(command)
    if source:
        return source.rpartition("/source/")[2]
    outputs = [PurePosixPath(word).name for word in command if word.endswith(".so")]
    return f"link {outputs[0]}" if outputs else ""
