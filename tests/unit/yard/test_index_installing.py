"""Real clients install from the served index, beside a public index that has a namesake.

Each client comes from the Python index that is configured here.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, NamedTuple

import pytest
import uv

from wheelyard.files import file_sha256
from wheelyard.model.index_page import install_lines
from wheelyard.yard.index import write_index
from wheelyard.yard.store import store_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.yards import Made

    from wheelyard.yard.folder import Yard

pytestmark = [pytest.mark.network, pytest.mark.heavy]

TORCHES = ("2.11.0", "2.12.1")
CLIENTS = {"pip-oldest": "pip==22.0.4", "pip-newest": "pip>=25", "poetry": "poetry>=2.1", "uv": ""}
OWN = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL")


class Served(NamedTuple):
    """A web server over a folder, and what it was asked for."""

    url: str
    asked: list[str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Path], Served]]:
    """Return a function that serves a folder as any static server does."""
    running: list[http.server.ThreadingHTTPServer] = []

    def start(folder: Path) -> Served:
        asked: list[str] = []

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                asked.append(self.path)

        handler = functools.partial(Handler, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return Served(f"http://127.0.0.1:{server.server_port}", asked)

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def ours(yard: Yard, make: Callable[..., Made], serve: Callable[[Path], Served]) -> Served:
    """Our index, with a wheel for each of two torch builds."""
    for torch in TORCHES:
        made = make(torch=f"{torch}+cu130", content=f"built_for = {torch!r}\n".encode())
        store_wheel(yard, made.path, made.record)
    write_index(yard)
    return serve(yard.path)


@pytest.fixture
def public(
    tmp_path: Path, make_wheel: Callable[..., Path], serve: Callable[[Path], Served]
) -> Served:
    """A public index that has both torch releases, and a newer namesake of our project."""
    folder = tmp_path / "wheels"
    for name, version in (*(("torch", torch) for torch in TORCHES), ("demo-ext", "99.0")):
        module = f"{name.replace('-', '_')}/__init__.py"
        content = f"built_for = 'nobody'\n__version__ = {version!r}\n".encode()
        filename = f"simple/{name}/{name.replace('-', '_')}-{version}-py3-none-any.whl"
        make_wheel(name=name, version=version, files={module: content}, filename=filename)
    for page in (folder / "simple").iterdir():
        links = "".join(
            f'<a href="{wheel.name}#sha256={file_sha256(wheel)}">{wheel.name}</a>'
            for wheel in sorted(page.glob("*.whl"))
        )
        (page / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")
    return serve(folder)


class Shell:
    """Runs clients without the configuration of this machine, except to install themselves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        plain = {name: value for name, value in os.environ.items() if name not in OWN}
        self.env = plain | {
            "HOME": str(folder / "home"),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "POETRY_CACHE_DIR": str(folder / "poetry-cache"),
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
            "UV_CACHE_DIR": str(folder / "uv-cache"),
            "UV_NO_CONFIG": "1",
        }

    def environment(self, name: str, *requirements: str) -> Path:
        """Make a fresh environment, with these requirements from the configured index."""
        path = self.folder / name
        options = ("--quiet", "--python", sys.executable)
        self.run(uv.find_uv_bin(), "venv", *options, path, env=os.environ)
        if requirements:
            python = path / "bin" / "python"
            install = (uv.find_uv_bin(), "pip", "install", "--quiet", "--python", python)
            self.run(*install, *requirements, env=os.environ)
        return path

    def run(self, *words: str | Path, cwd: Path | None = None, env: object = None) -> str:
        done = subprocess.run(
            words,
            env=self.env if env is None else dict(os.environ),
            cwd=cwd or self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    (tmp_path / "home").mkdir()
    return Shell(tmp_path)


def install(
    shell: Shell, client: str, environment: Path, *, line: str, public: str, project: Path
) -> None:
    """Let a client do what the printed line says; the public index is its ordinary one."""
    python = environment / "bin" / "python"
    _, _, option, url, requirement = line.split()
    match client:
        case "pip-oldest" | "pip-newest":
            indexes = ("--no-cache-dir", "--index-url", public, option, url)
            shell.run(python, "-m", "pip", "install", *indexes, requirement)
        case "uv":
            options = ("--python", python, "--default-index", public, "--index", url)
            shell.run(uv.find_uv_bin(), "pip", "install", *options, requirement)
        case _:
            project.mkdir()
            minor = (sys.version_info.major, sys.version_info.minor)
            pythons = f">={minor[0]}.{minor[1]},<{minor[0]}.{minor[1] + 1}"
            name, _, version = requirement.partition("==")
            (project / "pyproject.toml").write_text(
                f'[project]\nname = "uses-it"\nversion = "1"\nrequires-python = "{pythons}"\n'
                "[tool.poetry]\npackage-mode = false\n[tool.poetry.dependencies]\n"
                f'{name} = {{ version = "=={version}", source = "ours" }}\n'
                f'[[tool.poetry.source]]\nname = "public"\nurl = "{public}"\n'
                f'[[tool.poetry.source]]\nname = "ours"\nurl = "{url}"\npriority = "explicit"\n'
            )
            shell.env["VIRTUAL_ENV"] = str(environment)
            poetry = environment / "bin" / "poetry"
            shell.run(poetry, "install", "--no-interaction", cwd=project)


def installed(shell: Shell, environment: Path) -> tuple[str, str, str]:
    code = (
        "import json, torch, demo_ext; from importlib.metadata import version; "
        "print(json.dumps([torch.__version__, demo_ext.built_for, version('demo-ext')]))"
    )
    torch, built_for, version = json.loads(shell.run(environment / "bin" / "python", "-c", code))
    return torch, built_for, version


@pytest.mark.parametrize("client", CLIENTS)
def test_each_torch_build_gets_its_wheel_side_by_side(
    client: str, yard: Yard, ours: Served, public: Served, shell: Shell
) -> None:
    for torch in TORCHES:
        needed = [CLIENTS[client]] if CLIENTS[client] else []
        environment = shell.environment(f"{client}-{torch}", *needed)
        record = next(item for item in yard.records() if item.torch == f"{torch}+cu130")
        url = f"{ours.url}/index/{record.index_label}/simple/"
        install(
            shell,
            client,
            environment,
            line=install_lines(record, url).pip,
            public=f"{public.url}/simple/",
            project=shell.folder / f"project-{torch}",
        )
        assert installed(shell, environment) == (torch, torch, f"1.0+cu130.torch{torch}")


@pytest.mark.parametrize("client", ["pip-oldest", "pip-newest", "uv"])
def test_hashes_are_required_and_hold(
    client: str, yard: Yard, ours: Served, public: Served, shell: Shell
) -> None:
    for torch in TORCHES:
        needed = [CLIENTS[client]] if CLIENTS[client] else []
        environment = shell.environment(f"{client}-{torch}", *needed)
        record = next(item for item in yard.records() if item.torch == f"{torch}+cu130")
        [wheel] = (shell.folder / "wheels" / "simple" / "torch").glob(f"torch-{torch}-*.whl")
        requirements = shell.folder / f"{torch}.txt"
        requirements.write_text(
            f"{record.name}=={record.version} --hash=sha256:{record.sha256}\n"
            f"torch=={torch} --hash=sha256:{file_sha256(wheel)}\n"
        )
        python = environment / "bin" / "python"
        command: tuple[str | Path, ...] = (python, "-m", "pip", "install", "--no-cache-dir")
        if client == "uv":
            command = (uv.find_uv_bin(), "pip", "install", "--python", python)
        shell.run(
            *command,
            *("--require-hashes", "--index-url", f"{public.url}/simple/"),
            *("--extra-index-url", f"{ours.url}/index/simple/", "-r", requirements),
        )
        assert installed(shell, environment) == (torch, torch, f"1.0+cu130.torch{torch}")


def test_namesake_wins_without_the_pin(ours: Served, public: Served, shell: Shell) -> None:
    """Why the lines pin: this is what pip does with an extra index."""
    environment = shell.environment("unpinned", CLIENTS["pip-newest"])
    indexes = ("--index-url", f"{public.url}/simple/", "--extra-index-url")
    url = f"{ours.url}/index/torch2.11.0-cu130/simple/"
    python = environment / "bin" / "python"
    shell.run(python, "-m", "pip", "install", "torch==2.11.0", *indexes, url, "demo-ext")
    assert installed(shell, environment) == ("2.11.0", "nobody", "99.0")


def test_project_of_uv_takes_the_explicit_index(
    yard: Yard, ours: Served, public: Served, shell: Shell
) -> None:
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    for record in yard.records():
        project = shell.folder / f"project-{record.torch}"
        project.mkdir()
        url = f"{ours.url}/index/{record.index_label}/simple/"
        head, _, rest = install_lines(record, url).project.partition("\n")
        (project / "pyproject.toml").write_text(
            f'{head}\nname = "uses-it"\nversion = "1"\nrequires-python = "=={minor}.*"\n{rest}'
            "[tool.uv]\nenvironments = [\"sys_platform == 'linux'\"]\n"
        )
        sync = ("sync", "--quiet", "--python", sys.executable)
        shell.run(uv.find_uv_bin(), *sync, "--default-index", f"{public.url}/simple/", cwd=project)
        torch = record.torch.partition("+")[0]
        assert installed(shell, project / ".venv") == (torch, torch, str(record.version))


@pytest.mark.parametrize("client", ["pip-newest", "uv"])
def test_resolving_downloads_metadata_only(
    client: str, yard: Yard, ours: Served, public: Served, shell: Shell
) -> None:
    environment = shell.environment("resolving", *([CLIENTS[client]] if CLIENTS[client] else []))
    python = environment / "bin" / "python"
    record = yard.records()[0]
    indexes = ("--index-url", f"{public.url}/simple/", "--extra-index-url")
    command: tuple[str | Path, ...] = (python, "-m", "pip", "install", "--no-cache-dir")
    if client == "uv":
        command = (uv.find_uv_bin(), "pip", "install", "--python", python)
    words = ("--dry-run", *indexes, f"{ours.url}/index/simple/")
    shell.run(*command, *words, f"demo-ext=={record.version}")
    of_wheels = [path for path in ours.asked if "/wheels/" in path]
    assert of_wheels
    assert all(path.endswith(".metadata") for path in of_wheels)
