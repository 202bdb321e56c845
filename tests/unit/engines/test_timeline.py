"""A fill drawn over time."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from wheelyard.engines.timeline import draw, to_html, write_timeline
from wheelyard.scheduling import events

if TYPE_CHECKING:
    from pathlib import Path

ONE, OTHER = "probe-1.1-cp312", "probe-1.1-cp313"


def _unit(*, ended: float | None, status: int | None = 0) -> events.Unit:
    return events.Unit(
        time=ended or 104.0,
        job=ONE,
        name="csrc/</script>.cu",
        kind="device",
        asked=102.0,
        started=104.0,
        ended=ended,
        memory=2**30,
        cores=1,
        status=status,
        fresh=False,
    )


HAPPENED: tuple[events.AnyEvent, ...] = (
    events.FillStarted(
        time=100.0,
        cores=2,
        memory=2**34,
        jobs=(
            events.Expected(job=ONE, group="g", leader=True, seconds=50.0),
            events.Expected(job=OTHER, group="g", leader=False, seconds=20.0),
            events.Expected(job="never", group="h", leader=True, seconds=20.0),
        ),
    ),
    events.JobStarted(time=101.0, job=ONE, log="/a/log"),
    events.Stage(time=101.5, job=ONE, name="build", state="begin"),
    _unit(ended=None, status=None),
    events.Usage(time=105.0, cores=1.5, memory=2**31, jobs={ONE: 2**31}),
    events.JobStarted(time=106.0, job=OTHER, log="/a/log"),
    events.Stage(time=107.0, job=OTHER, name="fetch", state="begin"),
    events.Stage(time=108.0, job=OTHER, name="fetch", state="end"),
    _unit(ended=110.0),
    events.Found(time=111.0, job=ONE, units=("csrc/a.cu",)),
    events.Failed(time=112.0, job=ONE, stage="build", message="no", exit_code=10, log="/a/log"),
    events.Cut(time=113.0, job=OTHER, reason="interrupted", was_running=True),
    events.Cut(time=113.0, job="never", reason="interrupted", was_running=False),
)


def test_jobs_become_rows_with_their_stages_and_compiles() -> None:
    picture = draw(HAPPENED)
    one, other = picture.lines
    assert (picture.start, picture.end, picture.cores) == (100.0, 113.0, 2)
    assert (one.job, one.state, one.start, one.end) == (ONE, "failed", 101.0, 112.0)
    assert [(bar.name, bar.start, bar.end) for bar in one.stages] == [("build", 101.5, 112.0)]
    assert [(unit["asked"], unit["ended"]) for unit in one.units] == [(102.0, 110.0)]
    assert one.cached == ["csrc/a.cu"]
    assert (other.job, other.state, other.leader) == (OTHER, "cut", False)
    assert [(bar.name, bar.end) for bar in other.stages] == [("fetch", 108.0)]
    assert picture.usage == [(105.0, 1.5, 2**31)]


def test_page_asks_nobody_for_anything_and_no_name_ends_its_script() -> None:
    page = to_html(draw(HAPPENED))
    assert page.count("</script>") == 1
    assert not re.search(r"<link|<img|@import|url\(|fetch\(", page.replace('"name":"fetch"', ""))
    addresses = set(re.findall(r"https?://[^\"' ]+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}
    data = re.search(r"^const fill = (.*);$", page, re.MULTILINE)
    assert data is not None
    assert json.loads(data[1])["lines"][0]["units"][0]["name"] == "csrc/</script>.cu"


def test_page_knows_light_and_dark() -> None:
    assert "prefers-color-scheme: dark" in to_html(draw(HAPPENED))


def test_events_that_were_cut_off_are_drawn_as_far_as_they_go(tmp_path: Path) -> None:
    text = b"".join(map(events.encode, HAPPENED[:3]))
    (tmp_path / "events.jsonl").write_bytes(text + b'{"event":"st')
    write_timeline(tmp_path / "events.jsonl", tmp_path / "timeline.html")
    assert '"state":"running"' in (tmp_path / "timeline.html").read_text(encoding="utf-8")
