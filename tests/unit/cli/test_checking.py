"""The command that inspects wheels."""

from __future__ import annotations

import functools
import json
import platform
import sysconfig
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from subprocess import CompletedProcess

    from wheelyard.model.cell import PythonVersion

    Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """Serve the folder ``served`` of this test, and return its URL."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_check_shows_a_report_of_every_wheel(
    wheelyard: Run, make_wheel: Callable[..., Path]
) -> None:
    wheels = [make_wheel(name=name, version="1.0+cu130.torch2.11.0") for name in ("one", "two")]
    done = wheelyard("check", *wheels)
    reports = [line for line in done.stdout.splitlines() if line[:1].strip()]
    assert reports == [*(f"{wheel.name}: passed" for wheel in wheels), "2 of 2 wheels passed"]


def test_check_of_a_bad_wheel_ends_with_its_exit_code_after_looking_at_all(
    wheelyard: Run, make_wheel: Callable[..., Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad-1.0-py3-none-any.whl"
    bad.write_bytes(b"no archive")
    good = make_wheel(name="good")
    done = wheelyard("check", bad, good)
    assert done.returncode == 12
    assert f"1 of 2 wheels must not be used: {bad.name}" in done.stderr
    assert good.name in done.stdout


def test_check_says_the_same_to_programs(wheelyard: Run, make_wheel: Callable[..., Path]) -> None:
    done = wheelyard("check", make_wheel(), "--json")
    (report,) = json.loads(done.stdout)["reports"]
    assert report["filename"] == "demo-1.0-py3-none-any.whl"


def test_check_holds_wheels_against_the_torch_that_is_named(
    wheelyard: Run,
    make_wheel: Callable[..., Path],
    make_torch_site: Callable[..., Path],
    link_c: Callable[..., Path],
    running_python: PythonVersion,
) -> None:
    site = make_torch_site()
    needed = site / "torch" / "lib" / "libc10.so"
    extension = link_c("demo.so", asks=["_ZN3c107missingEv"], needs=[needed])
    wheel = make_wheel(
        tag=f"{running_python.python_tag}-{running_python.abi_tag}-linux_{platform.machine()}",
        files={f"demo{sysconfig.get_config_var('EXT_SUFFIX')}": extension.read_bytes()},
    )
    done = wheelyard("check", wheel, "--torch-site", site)
    assert "missing-symbol" in done.stdout
    assert "c10::missing()" in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["gone.whl"], "There is no wheel gone.whl.", id="no-wheel"),
        pytest.param(
            ["{wheel}", "--torch-site", "nowhere"],
            "There is no torch in nowhere. Give the folder that holds `torch`.",
            id="no-torch",
        ),
    ],
)
def test_check_of_what_is_not_there_is_a_usage_error(
    wheelyard: Run, make_wheel: Callable[..., Path], words: list[str], expected: str
) -> None:
    wheel = str(make_wheel())
    done = wheelyard("check", *(word.replace("{wheel}", wheel) for word in words))
    assert done.returncode == 2
    assert expected in done.stderr


def test_check_looks_into_folders(
    wheelyard: Run, make_wheel: Callable[..., Path], tmp_path: Path
) -> None:
    for name in ("one", "two"):
        make_wheel(name=name)
    done = wheelyard("check", tmp_path / "wheels", "--jobs", "2")
    assert "2 of 2 wheels passed" in done.stdout
    (tmp_path / "empty").mkdir()
    assert "There is no wheel in" in wheelyard("check", tmp_path / "empty").stderr


def test_check_downloads_a_wheel_and_every_wheel_of_an_index(
    wheelyard: Run, make_wheel: Callable[..., Path], tmp_path: Path, served: str
) -> None:
    for name in ("one", "two"):
        wheel = make_wheel(name=name)
        page = tmp_path / "served" / "simple" / name / "index.html"
        page.parent.mkdir(parents=True)
        page.write_text(f'<a href="../../{wheel.name}">{wheel.name}</a>')
        wheel.rename(tmp_path / "served" / wheel.name)
    root = tmp_path / "served" / "simple" / "index.html"
    root.write_text('<a href="one/">one</a><a href="two/">two</a>')
    assert "2 of 2 wheels passed" in wheelyard("check", f"{served}/simple/").stdout
    of_project = wheelyard("check", f"{served}/simple/two/").stdout
    assert "two-1.0-py3-none-any.whl: passed" in of_project
    assert "one-1.0" not in of_project
    of_file = wheelyard("check", f"{served}/one-1.0-py3-none-any.whl").stdout
    assert "one-1.0-py3-none-any.whl: passed" in of_file
    gone = wheelyard("check", f"{served}/elsewhere/")
    assert gone.returncode == 7
    assert "is no index" in gone.stderr


def test_check_for_a_gpu_that_the_wheel_has_no_code_for_fails(
    wheelyard: Run,
    make_wheel: Callable[..., Path],
    link_c: Callable[..., Path],
    make_fatbin: Callable[..., bytes],
) -> None:
    extension = link_c("demo_cuda.so", gpu_code=make_fatbin(cubins=[80]))
    wheel = make_wheel(
        tag=f"py3-none-linux_{platform.machine()}",
        files={"demo_cuda.so": extension.read_bytes()},
    )
    assert wheelyard("check", wheel, "--gpu", "8.6").returncode == 0
    done = wheelyard("check", wheel, "--gpu", "9.0")
    assert done.returncode == 12
    assert "H100" in done.stdout


def test_check_of_a_torch_without_its_cuda_takes_the_build_of_the_index(
    wheelyard: Run, make_wheel: Callable[..., Path]
) -> None:
    (report,) = json.loads(wheelyard("check", make_wheel(), "--torch", "2.6.0", "--json").stdout)[
        "reports"
    ]
    assert report["torch"] == "2.6.0+cu124"
    done = wheelyard("check", make_wheel(), "--torch", "2.99.0")
    assert done.returncode != 0
    assert "2.99.0" in done.stderr


def test_check_here_needs_a_torch_and_says_which_python_has_none(
    wheelyard: Run, make_wheel: Callable[..., Path], tmp_path: Path
) -> None:
    done = wheelyard("check", make_wheel(), "--here", "--python", tmp_path / "python")
    assert done.returncode == 6
    assert str(tmp_path / "python") in done.stderr
