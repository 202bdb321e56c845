"""The index in front of the clients that people install with."""

from __future__ import annotations

import functools
import hashlib
import http.server
import importlib.util
import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
import uv
from pypi_simple import ProjectPage, PyPISimple

from wheelyard.model.index_page import install_lines
from wheelyard.yard.index import write_index
from wheelyard.yard.store import store_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.yards import Made

    from wheelyard.yard.folder import Yard

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("pip") is None, reason="this Python has no pip"
)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a yard without a word, and remembers what was asked for."""

    asked: list[str]

    def __init__(self, *arguments: object, asked: list[str], directory: str) -> None:
        self.asked = asked
        super().__init__(*arguments, directory=directory)  # type: ignore[arg-type]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        self.asked.append(self.path)


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def served(yard: Yard, asked: list[str]) -> Iterator[str]:
    """The yard behind a static server that knows nothing of indexes."""
    handler = functools.partial(Handler, asked=asked, directory=str(yard.path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/index"
        server.shutdown()
        thread.join()


@pytest.fixture
def client(tmp_path: Path) -> Callable[..., str]:
    """Return a function that runs a client without any configuration of this machine's."""
    env = {
        "HOME": str(tmp_path / "home"),
        "PATH": os.environ["PATH"],
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "UV_NO_CONFIG": "1",
        "UV_CACHE_DIR": str(tmp_path / "uv-cache"),
    }

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def pip(*arguments: str | Path) -> tuple[str | Path, ...]:
    return (sys.executable, "-m", "pip", *arguments)


def uv_pip(*arguments: str | Path) -> tuple[str | Path, ...]:
    return (uv.find_uv_bin(), "pip", *arguments, "--python", sys.executable)


@pytest.fixture
def two_builds(yard: Yard, make: Callable[..., Made]) -> tuple[Made, Made]:
    """One wheel for each of two torch builds, in the index."""
    builds = (make(), make(torch="2.12.1+cu130", content=b"x = 2\n"))
    for made in builds:
        store_wheel(yard, made.path, made.record)
    write_index(yard)
    return builds


def test_pip_downloads_the_pinned_wheel_from_a_folder(
    yard: Yard, two_builds: tuple[Made, Made], client: Callable[..., str], tmp_path: Path
) -> None:
    for made in two_builds:
        out = tmp_path / made.record.sha256
        requirement = f"demo-ext=={made.record.version}"
        options = ("--no-deps", "--no-cache-dir", "--index-url", yard.index_url(), "--dest", out)
        client(*pip("download", *options, requirement))
        [wheel] = out.iterdir()
        assert wheel.name == made.path.name
        assert hashlib.sha256(wheel.read_bytes()).hexdigest() == made.record.sha256


def test_each_torch_build_has_one_answer(
    yard: Yard, two_builds: tuple[Made, Made], client: Callable[..., str], tmp_path: Path
) -> None:
    for made in two_builds:
        out = tmp_path / made.record.sha256
        url = yard.index_url(made.record.index_label)
        options = ("--no-deps", "--no-cache-dir", "--index-url", url, "--dest", out)
        client(*pip("download", *options, "demo-ext"))
        assert [path.name for path in out.iterdir()] == [made.path.name]


def test_uv_resolves_the_pinned_wheel_from_a_folder(
    yard: Yard, two_builds: tuple[Made, Made], client: Callable[..., str]
) -> None:
    for made in two_builds:
        requirement = f"demo-ext=={made.record.version}"
        options = ("--no-deps", "--dry-run", "--default-index", yard.index_url())
        output = client(*uv_pip("install", *options, requirement))
        assert f"demo-ext=={made.record.version}" in output


def test_client_resolves_over_http_with_metadata_alone(
    yard: Yard,
    served: str,
    make: Callable[..., Made],
    two_builds: tuple[Made, Made],
    client: Callable[..., str],
    asked: list[str],
    tmp_path: Path,
) -> None:
    made, _ = two_builds
    torch = make(name="torch", public="2.11.0")
    store_wheel(yard, torch.path, torch.record)
    write_index(yard)
    requirement = f"demo-ext=={made.record.version}"
    options = ("--dry-run", "--default-index", f"{served}/simple/")
    assert "torch==2.11.0" in client(*uv_pip("install", *options, requirement))
    quoted = made.path.name.replace("+", "%2B")
    assert f"/wheels/{quoted}.metadata" in asked
    assert f"/wheels/{quoted}" not in asked
    target = tmp_path / "target"
    into = ("--no-deps", "--target", target)
    client(*uv_pip("install", *into, "--default-index", f"{served}/simple/", requirement))
    assert (target / "demo_ext" / "__init__.py").read_bytes() == b"x = 1\n"


def test_pip_installs_over_http_with_required_hashes(
    served: str, two_builds: tuple[Made, Made], client: Callable[..., str], tmp_path: Path
) -> None:
    made, _ = two_builds
    locked = tmp_path / "requirements.txt"
    locked.write_text(
        f"demo-ext=={made.record.version} --hash=sha256:{made.record.sha256}\n", encoding="utf-8"
    )
    target = tmp_path / "target"
    options = ("--no-deps", "--no-cache-dir", "--require-hashes", "--target", target)
    client(*pip("install", *options, "--index-url", f"{served}/simple/", "-r", locked))
    assert (target / "demo_ext" / "__init__.py").read_bytes() == b"x = 1\n"


def test_build_tag_of_the_higher_revision_wins(
    yard: Yard, make: Callable[..., Made], client: Callable[..., str], tmp_path: Path
) -> None:
    for revision in (10, 9, 0):
        made = make(revision=revision, content=b"x = %d\n" % revision)
        store_wheel(yard, made.path, made.record)
    write_index(yard)
    options = ("--no-deps", "--no-cache-dir", "--target", tmp_path / "pip")
    client(*pip("install", *options, "--index-url", yard.index_url(), "demo-ext"))
    assert (tmp_path / "pip" / "demo_ext" / "__init__.py").read_bytes() == b"x = 10\n"
    into = ("--no-deps", "--target", tmp_path / "uv")
    client(*uv_pip("install", *into, "--default-index", yard.index_url(), "demo-ext"))
    assert (tmp_path / "uv" / "demo_ext" / "__init__.py").read_bytes() == b"x = 10\n"


def test_install_lines_get_the_wheel_where_another_index_has_a_namesake(
    yard: Yard, make: Callable[..., Made], client: Callable[..., str], tmp_path: Path
) -> None:
    made, namesake = make(), make(public="99.0", content=b"x = 'namesake'\n")
    store_wheel(yard, made.path, made.record)
    write_index(yard)
    public = tmp_path / "public" / "demo-ext"
    public.mkdir(parents=True)
    public.joinpath(namesake.path.name).write_bytes(namesake.path.read_bytes())
    link = f'<a href="{namesake.path.name.replace("+", "%2B")}">{namesake.path.name}</a>'
    public.joinpath("index.html").write_text(link)
    other = f"{public.parent.as_uri()}/"
    lines = install_lines(made.record, yard.index_url())
    words = lines.pip.split()[2:]
    options = ("--no-deps", "--no-cache-dir", "--index-url", other, "--target", tmp_path / "pip")
    client(*pip("install", *options, *words))
    assert (tmp_path / "pip" / "demo_ext" / "__init__.py").read_bytes() == b"x = 1\n"
    words = lines.uv.split()[3:]
    into = ("--no-deps", "--default-index", other, "--target", tmp_path / "uv")
    client(*uv_pip("install", *into, *words))
    assert (tmp_path / "uv" / "demo_ext" / "__init__.py").read_bytes() == b"x = 1\n"


def test_html_and_json_say_the_same_to_a_parser_of_both(
    yard: Yard, served: str, two_builds: tuple[Made, Made]
) -> None:
    with PyPISimple(f"{served}/simple/") as index:
        assert list(index.get_index_page().projects) == ["demo-ext"]
        html = index.get_project_page("demo-ext")
    document = json.loads((yard.index_dir / "simple/demo-ext/index.v1.json").read_text())
    page = ProjectPage.from_json_data(document, base_url=f"{served}/simple/demo-ext/")
    assert page.versions == [str(made.record.version) for made in two_builds]
    for packages in (html.packages, page.packages):
        for package, made in zip(packages, two_builds, strict=True):
            quoted = made.path.name.replace("+", "%2B")
            assert package.url == f"{served.removesuffix('/index')}/wheels/{quoted}"
            assert package.filename == made.path.name
            assert package.digests == {"sha256": made.record.sha256}
            assert package.metadata_digests == {"sha256": made.record.core_metadata_sha256}
            assert package.requires_python == "<4,>=3.9"
