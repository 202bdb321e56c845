"""`fill --engine github` against a double of GitHub's API: start, find again, follow, tell."""

from __future__ import annotations

import dataclasses
import http.server
import json
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from subprocess import CompletedProcess

    Run = Callable[..., CompletedProcess[str]]

ROOT = "/repos/someone/wheels/actions"


@dataclasses.dataclass
class Github:
    """The workflow's runs: as many rounds as are wanted, each looked at three times."""

    url: str = ""
    rounds: int = 1
    conclusions: tuple[str, ...] = ("success",)
    dispatched: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    tokens: set[str | None] = dataclasses.field(default_factory=set)
    looked: dict[int, int] = dataclasses.field(default_factory=dict)
    refuses: int = 0
    starts: bool = True

    def get(self, path: str, words: dict[str, list[str]]) -> dict[str, Any] | None:
        if path == f"{ROOT}/workflows/farm.yml/runs":
            return {"workflow_runs": self._runs()}
        if path.startswith(f"{ROOT}/runs/") and path.endswith("/jobs"):
            page = int(words["page"][0])
            jobs = [self._job(number) for number in range(130)]
            return {"jobs": jobs[100 * (page - 1) : 100 * page]}
        if path.startswith(f"{ROOT}/runs/"):
            return self._run(int(path.rpartition("/")[2]))
        return None

    def _runs(self) -> list[dict[str, Any]]:
        if not self.dispatched or not self.starts:
            return []
        ticket = self.dispatched[0]["inputs"]["ticket"]
        over = sum(self.looked.get(number, 0) > 2 for number in range(self.rounds))
        others = [{"id": 900, "display_title": "farm other round 0", "html_url": "x"}]
        return others + [
            {
                "id": number,
                "display_title": f"farm {ticket} round {number}",
                "html_url": f"https://github.example/runs/{number}",
            }
            for number in range(min(over + 1, self.rounds))
        ]

    def _run(self, number: int) -> dict[str, Any]:
        self.looked[number] = self.looked.get(number, 0) + 1
        over = self.looked[number] > 2
        conclusion = self.conclusions[min(number, len(self.conclusions) - 1)]
        return {
            "id": number,
            "status": "completed" if over else "in_progress",
            "conclusion": conclusion if over else None,
            "html_url": f"https://github.example/runs/{number}",
        }

    def _job(self, number: int) -> dict[str, Any]:
        failed = number == 120 and "failure" in self.conclusions
        conclusion = "failure" if failed else "success"
        return {"name": f"group-{number}", "status": "completed", "conclusion": conclusion}


@pytest.fixture
def github() -> Iterator[Github]:
    one = Github()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            one.tokens.add(self.headers["Authorization"])
            parts = urlsplit(self.path)
            answer = one.get(parts.path, parse_qs(parts.query))
            self._send(200 if answer is not None else 404, answer or {})

        def do_POST(self) -> None:
            one.tokens.add(self.headers["Authorization"])
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if one.refuses:
                self._send(one.refuses, {"message": "Workflow does not exist"})
                return
            assert self.path == f"{ROOT}/workflows/farm.yml/dispatches"
            one.dispatched.append(body)
            self._send(204, None)

        def _send(self, status: int, document: object) -> None:
            body = b"" if document is None else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    one.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield one
    server.shutdown()
    server.server_close()


@pytest.fixture
def fill(wheelyard: Run, probe_farm: Path, github: Github, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return the command line, with the double for GitHub and a token."""
    monkeypatch.setenv("GITHUB_API_URL", github.url)
    monkeypatch.setenv("GH_TOKEN", "token")
    words = ("--engine", "github", "--repository", "someone/wheels", "--poll", "0.05")

    def run(*more: str) -> CompletedProcess[str]:
        return wheelyard("fill", *words, "--farm", probe_farm, *more)

    return run


def test_workflow_is_started_with_the_digest_of_the_plan(
    fill: Run, wheelyard: Run, probe_farm: Path, github: Github
) -> None:
    done = fill("probe-1.1-*", "--deadline", "3h")
    assert done.returncode == 0, done.stderr
    words = ("plan", "--missing", "--engine", "github", "--farm", probe_farm)
    plan = json.loads(wheelyard(*words, "probe-1.1-*").stdout)
    (body,) = github.dispatched
    inputs = body["inputs"]
    assert body["ref"] == "main"
    assert (inputs["digest"], inputs["select"]) == (plan["digest"], "probe-1.1-*")
    assert (inputs["deadline"], inputs["round"]) == ("3h", "0")
    assert inputs["ticket"].startswith(plan["digest"][:16])
    assert set(inputs) <= _inputs_of_the_workflow()
    assert github.tokens == {"Bearer token"}
    assert "round 0: success https://github.example/runs/0" in done.stdout
    assert "in_progress: 130 of 130 jobs over" in done.stderr
    # the plan of the workflow is refused when it is another one
    assert wheelyard(*words, "--digest", inputs["digest"]).returncode == 2
    assert wheelyard(*words, "probe-1.1-*", "--digest", inputs["digest"]).returncode == 0


def _inputs_of_the_workflow() -> set[str]:
    from pathlib import Path  # noqa: PLC0415

    import yaml  # noqa: PLC0415

    path = Path(__file__).parents[3] / ".github" / "workflows" / "farm.yml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return set(document[True]["workflow_dispatch"]["inputs"])


def test_rounds_that_the_workflow_starts_by_itself_are_followed(fill: Run, github: Github) -> None:
    github.rounds = 3
    done = fill("--json")
    assert done.returncode == 0, done.stderr
    rounds = json.loads(done.stdout)["rounds"]
    assert [(one["round"], one["conclusion"]) for one in rounds] == [
        (0, "success"),
        (1, "success"),
        (2, "success"),
    ]


def test_failed_jobs_are_named_from_every_page(fill: Run, github: Github) -> None:
    github.conclusions = ("failure",)
    done = fill()
    assert done.returncode == 17
    assert "  failed: group-120" in done.stdout
    assert "Its page has the logs: https://github.example/runs/0" in done.stderr


def test_workflow_that_does_not_start_is_told(
    fill: Run, github: Github, monkeypatch: pytest.MonkeyPatch
) -> None:
    github.starts = False
    monkeypatch.setattr("wheelyard.cli.filling_github.APPEAR", 0.2)
    done = fill()
    assert done.returncode == 7
    assert "GitHub started no run of farm.yml" in done.stderr


def test_refusal_of_github_is_passed_on(fill: Run, github: Github) -> None:
    github.refuses = 404
    done = fill()
    assert done.returncode == 7
    assert "404" in done.stderr
    assert "Workflow does not exist" in done.stderr
    assert "Bearer" not in done.stderr


def test_detached_fill_only_starts(fill: Run, github: Github) -> None:
    done = fill("--detach")
    assert done.returncode == 0
    assert len(github.dispatched) == 1
    assert not github.looked


@pytest.mark.parametrize(
    ("change", "message"),
    [("GH_TOKEN", "without a token: set GH_TOKEN"), ("", "is no repository")],
)
def test_what_is_lacking_is_told_before_anything_is_started(
    fill: Run, github: Github, monkeypatch: pytest.MonkeyPatch, change: str, message: str
) -> None:
    if change:
        monkeypatch.delenv(change)
    done = fill(*(() if change else ("--repository", "someone")))
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert not github.dispatched
