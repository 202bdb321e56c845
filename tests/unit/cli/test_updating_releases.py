"""`update releases` against an index and a git repository on this machine."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from wheelyard.cli import updating_releases
from wheelyard.farm import load_farm
from wheelyard.model.cell import TorchBuild
from wheelyard.upstreams.torches import write_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from subprocess import CompletedProcess

    Run = Callable[..., CompletedProcess[str]]

SDIST_RECIPE = """\
[[versions]]
version = "1.1"
python = ">=3.10"
[versions.sdist]
filename = "probe-1.1.tar.gz"
sha256 = "2222222222222222222222222222222222222222222222222222222222222222"
size = 1000

"""
METADATA = """\
Metadata-Version: 2.4
Name: torch
Version: 2.99.0
Requires-Dist: cuda-toolkit[cublas,cudart]==13.2.1; platform_system == "Linux"
Requires-Dist: nvidia-cudnn-cu13==9.99.0.1; platform_system == "Linux"
Requires-Dist: triton~=3.10.0; platform_system == "Linux"
"""


class Index:
    """Projects with their files; torch's wheels serve their metadata too."""

    def __init__(self) -> None:
        self.url = ""
        self.files: dict[str, list[dict[str, object]]] = {"probe": [], "torch": []}
        self.bodies: dict[str, bytes] = {}

    def add(self, name: str, filename: str, *, size: int | None = 123, **words: object) -> None:
        file: dict[str, object] = {
            "filename": filename,
            "hashes": {"sha256": "a" * 64},
            "url": f"{self.url}/files/{filename}",
            **({} if size is None else {"size": size}),
            **words,
        }
        self.files[name].append(file)

    def answer(self, path: str) -> tuple[bytes, str] | None:
        parts = path.strip("/").split("/")
        if parts[0] == "simple" and parts[-1] in self.files:
            page = {
                "meta": {"api-version": "1.0"},
                "name": parts[-1],
                "files": self.files[parts[-1]],
            }
            return json.dumps(page).encode(), "application/vnd.pypi.simple.v1+json"
        body = self.bodies.get(path)
        return None if body is None else (body, "application/octet-stream")


@pytest.fixture
def index() -> Iterator[Index]:
    one = Index()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = one.answer(self.path)
            self.send_response(404 if found is None else 200)
            body, kind = found or (b"", "text/plain")
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    one.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield one
    server.shutdown()
    server.server_close()


@pytest.fixture
def facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the facts about torch be a copy."""
    path = tmp_path / "torch.json"
    shutil.copy(updating_releases.FACTS, path)
    monkeypatch.setattr(updating_releases, "FACTS", path)
    return path


@pytest.fixture
def farm(write_farm: Callable[..., Path], recipe_text: str, matrix_text: str) -> Path:
    head = recipe_text.partition("[[versions]]")[0].partition("[[patches]]")[0]
    old = SDIST_RECIPE.replace("1.1", "1.0")
    return write_farm(probe=head + SDIST_RECIPE + old.rstrip() + "\n", matrix=matrix_text)


@pytest.fixture
def update(
    wheelyard: Run, farm: Path, index: Index, facts: Path, monkeypatch: pytest.MonkeyPatch
) -> Run:
    def run(*words: str) -> CompletedProcess[str]:
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"{index.url}/simple/")
        return wheelyard("update", "releases", *words, "--farm", farm)

    return run


def _torch_wheels(index: Index, version: str, *pythons: str) -> None:
    for python in pythons:
        name = f"torch-{version}-{python.rstrip('t')}-{python}-manylinux_2_28_x86_64.whl"
        index.add("torch", name, **{"core-metadata": True})
        index.bodies[f"/files/{name}.metadata"] = METADATA.encode()


def test_nothing_new_changes_nothing(update: Run, farm: Path, index: Index, facts: Path) -> None:
    index.add("probe", "probe-1.1.tar.gz")
    before = {path: path.read_bytes() for path in (*farm.rglob("*.toml"), facts)}
    done = update()
    assert (done.returncode, done.stdout) == (0, "nothing new for the 1 recipes and torch\n")
    assert {path: path.read_bytes() for path in before} == before


def test_newest_sdist_is_added_with_its_hash_and_the_conditions_of_the_last_one(
    update: Run, farm: Path, index: Index, facts: Path
) -> None:
    index.add("probe", "probe-1.2.tar.gz")
    index.add("probe", "probe-1.3.tar.gz")
    index.add("probe", "probe-2.0rc1.tar.gz")
    index.add("probe", "probe-1.9.tar.gz", yanked=True)
    index.add("probe", "probe-1.8-cp312-cp312-linux_x86_64.whl")
    done = update("probe")
    assert done.stdout == "new: probe 1.3 (sdist probe-1.3.tar.gz)\n"
    recipe = load_farm(farm).recipe("probe")
    assert [str(item.version) for item in recipe.versions] == ["1.3", "1.1", "1.0"]
    newest = recipe.versions[0]
    assert (newest.source.filename, newest.source.sha256) == ("probe-1.3.tar.gz", "a" * 64)  # type: ignore[union-attr]
    assert newest.conditions == recipe.versions[1].conditions
    assert update("probe").stdout.startswith("nothing new")


def test_size_is_asked_for_where_the_index_does_not_say_it(
    update: Run, farm: Path, index: Index
) -> None:
    index.add("probe", "probe-1.2.tar.gz", size=None)
    index.bodies["/files/probe-1.2.tar.gz"] = b"x" * 77
    update("probe")
    assert load_farm(farm).recipe("probe").versions[0].source.size == 77  # type: ignore[union-attr]


def test_git_tag_is_added_with_the_commit_behind_it(
    update: Run, farm: Path, tmp_path: Path
) -> None:
    upstream = tmp_path / "upstream"
    git = ["git", "-C", str(upstream), "-c", "user.name=A", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q", str(upstream)], check=True)
    for words in (
        ["commit", "-q", "--allow-empty", "-m", "one"],
        ["tag", "v1.1"],
        ["commit", "-q", "--allow-empty", "-m", "two"],
        ["tag", "-a", "v1.2", "-m", "annotated"],
        ["tag", "nightly-9"],
    ):
        subprocess.run([*git, *words], check=True, env={"PATH": os.environ["PATH"]})
    commit = subprocess.run(
        [*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    path = farm / "recipes" / "probe.toml"
    text = path.read_text().partition("[[versions]]")[0]
    table = f'[versions.git]\nurl = "{upstream.as_uri()}"\ncommit = "{"0" * 40}"\n'
    path.write_text(f'{text}[[versions]]\nversion = "1.1"\nrevision = 3\n{table}')
    done = update("probe")
    assert done.stdout.startswith("new: probe 1.2 (tag v1.2 of "), done.stderr
    newest = load_farm(farm).recipe("probe").versions[0]
    assert newest.source.commit == commit  # type: ignore[union-attr]
    assert newest.revision == 0


def test_new_torch_gets_facts_to_be_verified_and_the_last_place_in_the_matrix(
    update: Run, farm: Path, index: Index, facts: Path
) -> None:
    _torch_wheels(index, "2.99.0", "cp312", "cp313", "cp314t")
    done = update("torch")
    assert done.returncode == 0, done.stderr
    assert "new: torch 2.99.0+cu132 (facts to be verified)" in done.stdout
    entry = json.loads(facts.read_text())["2.99.0"]
    assert entry["pythons"] == {"x86_64": ["3.12", "3.13", "3.14t"]}
    assert entry["builds"]["13.2"]["cudnn"] == "9.99.0.1"
    assert "not verified" in entry["evidence"]
    assert entry["triton"] == "~=3.10.0"
    text = (farm / "matrix.toml").read_text()
    assert 'torch = ["2.11.0+cu130", "2.8.0+cu128", "2.99.0+cu132"]' in text
    assert facts.read_text() == write_facts(json.loads(facts.read_text()))


def test_new_python_of_a_known_torch_is_noted(
    update: Run, farm: Path, index: Index, facts: Path
) -> None:
    _torch_wheels(index, "2.15.0", "cp312", "cp316")
    done = update("torch")
    assert "new: torch 2.15.0 for Python 3.16 on x86_64" in done.stdout
    assert "3.16" in json.loads(facts.read_text())["2.15.0"]["pythons"]["x86_64"]
    assert '"3.16"' in (farm / "matrix.toml").read_text()


def test_new_cuda_is_left_to_people(update: Run, farm: Path, index: Index) -> None:
    _torch_wheels(index, "2.99.0", "cp312")
    for path, body in index.bodies.items():
        index.bodies[path] = body.replace(b"==13.2.1", b"==14.9.1")
    before = (farm / "matrix.toml").read_text()
    done = update("torch")
    assert "by hand: CUDA 14.9 is new" in done.stdout
    assert (farm / "matrix.toml").read_text() == before


def test_torch_list_of_several_lines_keeps_its_comments(
    update: Run, farm: Path, index: Index
) -> None:
    path = farm / "matrix.toml"
    lines = '[\n  "2.11.0+cu130", # the best\n  "2.8.0+cu128",\n]'
    text = path.read_text().replace('["2.11.0+cu130", "2.8.0+cu128"]', lines)
    path.write_text(text)
    _torch_wheels(index, "2.99.0", "cp312")
    update("torch")
    assert load_farm(farm).matrix.torches[-1] == TorchBuild.parse("2.99.0+cu132")
    assert '  "2.11.0+cu130", # the best\n' in path.read_text()


def test_index_that_does_not_answer_is_an_error_and_changes_nothing(
    update: Run, farm: Path, index: Index, facts: Path
) -> None:
    del index.files["torch"], index.files["probe"]
    before = facts.read_bytes()
    done = update()
    assert done.returncode == 7
    assert "No index tells the versions of probe" in done.stderr
    assert facts.read_bytes() == before
