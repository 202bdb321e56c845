"""Which CUDA toolkit is taken, and how one is assembled from wheels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import MachineError
from wheelyard.model.cell import CudaVersion
from wheelyard.model.lock import Lock, LockRequest
from wheelyard.toolchain.toolkit import Provider, provide_toolkit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wheelyard.toolchain.interpreters import Interpreter
    from wheelyard.toolchain.values import Toolkit

CUDA = CudaVersion(13, 0)
TREE = "nvidia/cu13"
FILES = {
    **dict.fromkeys(
        (f"{TREE}/bin/{name}" for name in ("nvcc", "ptxas", "cudafe++", "fatbinary")), b""
    ),
    f"{TREE}/nvvm/bin/cicc": b"",
    f"{TREE}/lib/libcudart.so.13": b"",
    f"{TREE}/lib/libcudadevrt.a": b"",
}


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Write an installed toolkit, CUDA 13.0."""
    path = tmp_path / "cuda-13.0"
    (path / "bin").mkdir(parents=True)
    (path / "include").mkdir()
    (path / "include" / "cuda_runtime.h").touch()
    (path / "bin" / "nvcc").touch()
    (path / "version.json").write_text('{"cuda": {"version": "13.0.2"}}', encoding="ascii")
    return path


def _lock(text: str) -> Lock:
    request = LockRequest(
        kind="toolkit", name="13.0", requirements=(), python="3.9", machines=("x86_64",)
    )
    return Lock(request=request, text=text)


@pytest.fixture
def provide(
    tmp_path: Path, interpreter: Interpreter, uv_env: dict[str, str]
) -> Callable[..., Toolkit]:
    def run(
        lock: str | None = None,
        *,
        provider: Provider = "auto",
        prefer_installed: bool = False,
        cuda: CudaVersion = CUDA,
        **env: str,
    ) -> Toolkit:
        return provide_toolkit(
            cuda,
            provider=provider,
            prefer_installed=prefer_installed,
            lock=None if lock is None else _lock(lock),
            interpreter=interpreter,
            cache=tmp_path / "cache",
            env={"PATH": "", **env},
            uv_env=uv_env,
        )

    return run


@pytest.fixture
def wheels(lock_wheel: Callable[..., str]) -> str:
    """Return the lock of a whole toolkit."""
    return lock_wheel("nvidia-cuda-all", files=FILES)


def test_toolkit_of_the_index_is_one_tree_with_the_names_that_linkers_look_for(
    provide: Callable[..., Toolkit], wheels: str
) -> None:
    toolkit = provide(wheels)
    assert toolkit.provider == "index"
    assert toolkit.cuda == CUDA
    assert toolkit.digest == f"sha256:{_lock(wheels).sha256}"
    assert (toolkit.path / "bin" / "nvcc").is_file()
    assert (toolkit.path / "lib64" / "libcudadevrt.a").is_file()
    assert (toolkit.path / "lib64" / "libcudart.so").resolve().name == "libcudart.so.13"


def test_toolkit_of_the_index_is_assembled_once(
    provide: Callable[..., Toolkit], wheels: str
) -> None:
    path = provide(wheels).path
    (path / "mark").touch()
    assert provide(wheels).path == path
    assert (path / "mark").exists()


def test_toolkit_that_is_not_complete_is_refused_and_not_kept(
    provide: Callable[..., Toolkit], lock_wheel: Callable[..., str], tmp_path: Path
) -> None:
    lacking = {name: content for name, content in FILES.items() if "cicc" not in name}
    with pytest.raises(MachineError, match=r"toolkit/13\.0\.txt is not complete: no nvvm/bin/cicc"):
        provide(lock_wheel("nvidia-cuda-all", files=lacking))
    toolkits = tmp_path / "cache" / "toolkits"
    assert not [path for path in toolkits.iterdir() if path.suffix != ".lock"]


def test_wheels_without_a_toolkit_are_refused(
    provide: Callable[..., Toolkit], lock_wheel: Callable[..., str]
) -> None:
    with pytest.raises(MachineError, match=r"made no nvidia/cuNN tree"):
        provide(lock_wheel("nvidia-cuda-all", files={"nvidia/cudnn/lib/x": b""}))


@pytest.mark.parametrize("variable", ["CUDA_HOME", "CUDA_PATH"])
def test_toolkit_that_the_user_names_is_taken_before_the_index(
    provide: Callable[..., Toolkit], wheels: str, installed: Path, variable: str
) -> None:
    toolkit = provide(wheels, **{variable: str(installed)})
    assert (toolkit.path, toolkit.provider) == (installed, "installed")
    assert toolkit.digest == "13.0.2"


def test_named_toolkit_may_be_a_link(
    provide: Callable[..., Toolkit], wheels: str, installed: Path, tmp_path: Path
) -> None:
    (tmp_path / "cuda").symlink_to(installed)
    toolkit = provide(wheels, CUDA_HOME=str(tmp_path / "cuda"))
    assert (toolkit.path, toolkit.provider) == (installed, "installed")


def test_named_toolkit_of_another_cuda_is_passed_over(
    provide: Callable[..., Toolkit], wheels: str, installed: Path
) -> None:
    (installed / "version.json").write_text('{"cuda": {"version": "12.4.1"}}', encoding="ascii")
    assert provide(wheels, CUDA_HOME=str(installed)).provider == "index"


def test_index_comes_before_a_toolkit_that_merely_is_there(
    provide: Callable[..., Toolkit], wheels: str, installed: Path
) -> None:
    (installed / "bin" / "nvcc").chmod(0o755)
    assert provide(wheels, PATH=str(installed / "bin")).provider == "index"


@pytest.mark.parametrize(
    "words",
    [
        pytest.param({"provider": "installed"}, id="asked-for"),
        pytest.param({"prefer_installed": True}, id="beside-a-foreign-torch"),
        pytest.param({"lock": None}, id="index-has-none"),
    ],
)
def test_toolkit_that_is_there_is_taken_when(
    provide: Callable[..., Toolkit], wheels: str, installed: Path, words: dict[str, object]
) -> None:
    (installed / "bin" / "nvcc").chmod(0o755)
    given: dict[str, object] = {"lock": wheels, **words}
    assert provide(**given, PATH=str(installed / "bin")).path == installed


def test_index_is_taken_when_it_is_asked_for(
    provide: Callable[..., Toolkit], wheels: str, installed: Path
) -> None:
    toolkit = provide(wheels, provider="index", CUDA_HOME=str(installed))
    assert toolkit.provider == "index"


def test_missing_toolkit_is_told_with_what_was_found_and_what_to_do(
    provide: Callable[..., Toolkit], installed: Path
) -> None:
    with pytest.raises(MachineError) as caught:
        provide(cuda=CudaVersion(12, 4), CUDA_HOME=str(installed))
    message = str(caught.value)
    assert f"No CUDA toolkit 12.4 is installed (found: 13.0 at {installed}" in message
    assert "The index has no complete toolkit of this CUDA." in message
    assert "make it with `wheelyard update redist 12.4.1`." in message
    assert "Or install CUDA 12.4 and set CUDA_HOME to its folder." in message


def test_missing_installed_toolkit_is_told_that_the_index_has_one(
    provide: Callable[..., Toolkit], wheels: str
) -> None:
    with pytest.raises(MachineError, match="leave out --toolkit installed"):
        provide(wheels, provider="installed", cuda=CudaVersion(13, 9))
