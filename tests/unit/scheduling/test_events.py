"""Events as JSON lines: written, read, and read when something was cut off."""

from __future__ import annotations

import io
import json
import os
from typing import TYPE_CHECKING

import pytest

from wheelyard.progress import PlainProgress
from wheelyard.scheduling import events

if TYPE_CHECKING:
    from pathlib import Path

JOB = "probe-1.1-cp312-torch2.11.0-cu130-x86_64"


def test_event_is_one_line_of_json_that_comes_back_the_same() -> None:
    event = events.Failed(
        time=1.5, job=JOB, stage="build", message="two\nlines", exit_code=10, log="/a/log"
    )
    line = events.encode(event)
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "event": "failed",
        "exit_code": 10,
        "job": JOB,
        "log": "/a/log",
        "message": "two\nlines",
        "stage": "build",
        "time": 1.5,
    }
    assert events.decode(line) == event


@pytest.mark.parametrize("line", [b"", b"{}", b"not JSON", b'{"event":"new","time":1.0}'])
def test_anything_else_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        events.decode(line)


def test_progress_of_a_build_becomes_events() -> None:
    stream = io.BytesIO()
    progress = events.EventProgress(JOB, events.EventWriter(stream), beside=PlainProgress())
    with progress.stage("build"):
        progress.say("a remark")
        progress.step(3, 8)
        progress.found(["csrc/a.cu"])
    happened = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event.pop("event") for event in happened] == [
        "stage",
        "remark",
        "step",
        "found",
        "stage",
    ]
    assert {event.pop("job") for event in happened} == {JOB}
    assert all(event.pop("time") > 0 for event in happened)
    assert happened == [
        {"name": "build", "state": "begin"},
        {"text": "a remark"},
        {"done": 3, "total": 8},
        {"units": ["csrc/a.cu"]},
        {"name": "build", "state": "end"},
    ]


def test_stage_that_fails_never_ends() -> None:
    stream = io.BytesIO()
    progress = events.EventProgress(JOB, events.EventWriter(stream), beside=PlainProgress())
    with pytest.raises(OSError, match="broken"), progress.stage("check"):
        raise OSError("broken")  # noqa: EM101
    assert progress.current_stage == "check"
    assert stream.getvalue().count(b"\n") == 1


def test_writer_goes_on_when_nobody_reads() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as stream:
        writer = events.EventWriter(stream)
        for _ in range(2):
            writer.write(events.Remark(time=1.0, job=JOB, text="nobody hears"))


def test_file_is_read_up_to_where_it_was_cut_off(tmp_path: Path) -> None:
    first = events.Step(time=1.0, job=JOB, done=1, total=2)
    path = tmp_path / "events.jsonl"
    path.write_bytes(events.encode(first) + events.encode(first)[:20])
    assert list(events.read_events(path)) == [first]


def test_lines_are_put_together_from_what_a_pipe_gives() -> None:
    buffer = bytearray()
    assert list(events.lines_of(buffer, b"one\ntw")) == [b"one"]
    assert list(events.lines_of(buffer, b"o\n")) == [b"two"]
    assert not buffer
