"""A wheel is read once for each digest, and only its libraries are."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest

from wheelyard.abi.elf import ElfError, ElfFile
from wheelyard.abi.symbol_table import hash_name
from wheelyard.abi.wheel_symbols import WheelSymbols, is_library, read_library, read_wheel
from wheelyard.errors import IntegrityError
from wheelyard.network.indexes import IndexSettings
from wheelyard.network.session import open_session
from wheelyard.network.wheel_index import list_wheels

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("torch/lib/libc10.so", True),
        ("torch/lib/libgomp-a34b3233.so.1", True),
        ("nvidia/cudnn/lib/libcudnn.so.9", True),
        ("nvidia/cu13/lib/libcublas.so.13", True),
        ("cusparselt/lib/libcusparseLt.so.0", True),
        ("torch.libs/libopenblas.so.0", True),
        ("torch/_C.cpython-312-x86_64-linux-gnu.so", False),
        ("torch/lib/libunbox_lib.a", False),
        ("nvidia/cu13/lib/libcudadevrt.a", False),
        ("nvidia/cu13/lib/deeper/libx.so", False),
        ("triton/_C/libtriton.so", False),
    ],
)
def test_libraries_are_known_by_their_place(path: str, expected: bool) -> None:  # noqa: FBT001
    assert is_library(path) is expected


@pytest.mark.parametrize(
    "path", ["nvidia/cusparselt/lib/libcusparseLt.so.0", "torch/lib/libcusparseLt-f80c68d1.so.0"]
)
def test_private_names_of_cusparselt_are_left_out(link_c: Callable[..., Path], path: str) -> None:
    names = ["cusparseLtInit", "_ZN7cutlass4gemmEv", "sm90_xmma_sparse_kernel"]
    elf = ElfFile.open(link_c("libcusparseLt.so.0", defines=names))
    assert list(read_library(elf, PurePosixPath(path)).named) == [hash_name("cusparseLtInit")]
    other = read_library(elf, PurePosixPath("torch/lib/libc10.so"))
    assert sorted(other.named) == sorted(map(hash_name, names))


@pytest.fixture
def make_cuda_wheel(make_wheel: Callable[..., Path], link_c: Callable[..., Path]) -> Path:
    library = link_c("libdemo.so.1", defines=["demoInit"], version="V_1")
    return make_wheel(
        name="nvidia-demo",
        tag="py3-none-manylinux_2_28_x86_64",
        requires=["nvidia-other==1.0", "numpy"],
        files={
            "nvidia/demo/lib/libdemo.so.1": library.read_bytes(),
            "nvidia/demo/lib/libscript.so": b"INPUT(libdemo.so.1)\n",
            "nvidia/demo/include/demo.h": b"#define DEMO\n",
        },
    )


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., tuple[WheelSymbols, list[str]]]:
    """Return a function that reads the one wheel in a folder, or of an index in one."""

    def run(place: Path | str, **options: object) -> tuple[WheelSymbols, list[str]]:
        said: list[str] = []
        settings = IndexSettings(no_index=True, find_links=(str(place),))
        with open_session(settings, {}) as session:
            (wheel,) = list_wheels("nvidia-demo", settings=settings, session=session)
            found = read_wheel(wheel, session=session, kept=tmp_path / "kept", say=said.append)
        return found, said

    return run


def _page(tmp_path: Path, wheel: Path, sha256: str) -> Path:
    page = tmp_path / "page.html"
    page.write_text(f'<a href="{wheel.as_uri()}#sha256={sha256}">{wheel.name}</a>')
    return page


def test_libraries_requirements_and_digest_of_a_wheel_are_read(
    make_cuda_wheel: Path, read: Callable[..., tuple[WheelSymbols, list[str]]]
) -> None:
    found, said = read(make_cuda_wheel.parent)
    assert said == [f"reading {make_cuda_wheel.name}"]
    assert found.source.filename == make_cuda_wheel.name
    assert found.source.sha256 == hashlib.sha256(make_cuda_wheel.read_bytes()).hexdigest()
    assert [str(one) for one in found.requires] == ["nvidia-other==1.0", "numpy"]
    (library,) = found.libraries
    assert str(library.library.path) == "nvidia/demo/lib/libdemo.so.1"
    assert library.library.soname == "libdemo.so.1"
    assert hash_name("demoInit") in library.named
    assert hash_name("demoInit@V_1") in library.versioned
    assert hash_name("demoInit") not in library.serving_any


def test_wheel_of_a_known_digest_is_not_read_again(
    make_cuda_wheel: Path, read: Callable[..., tuple[WheelSymbols, list[str]]], tmp_path: Path
) -> None:
    digest = hashlib.sha256(make_cuda_wheel.read_bytes()).hexdigest()
    page = _page(tmp_path, make_cuda_wheel, digest)
    first, said = read(page)
    assert said
    make_cuda_wheel.write_bytes(b"gone")
    again, said = read(page)
    assert not said
    assert again == first


def test_what_was_kept_and_is_damaged_is_read_again(
    make_cuda_wheel: Path, read: Callable[..., tuple[WheelSymbols, list[str]]], tmp_path: Path
) -> None:
    digest = hashlib.sha256(make_cuda_wheel.read_bytes()).hexdigest()
    page = _page(tmp_path, make_cuda_wheel, digest)
    first, _ = read(page)
    (kept,) = (tmp_path / "kept").iterdir()
    kept.write_bytes(kept.read_bytes()[:-20])
    again, said = read(page)
    assert said
    assert again == first


def test_wheel_with_other_bytes_is_refused_and_not_kept(
    make_cuda_wheel: Path, read: Callable[..., tuple[WheelSymbols, list[str]]], tmp_path: Path
) -> None:
    with pytest.raises(IntegrityError, match="is not the file that its index lists"):
        read(_page(tmp_path, make_cuda_wheel, "ab" * 32))
    assert not (tmp_path / "kept").exists()


def test_damaged_library_is_named(
    make_wheel: Callable[..., Path], read: Callable[..., tuple[WheelSymbols, list[str]]]
) -> None:
    wheel = make_wheel(
        name="nvidia-demo", files={"nvidia/demo/lib/libbad.so": b"\x7fELF" + bytes(9)}
    )
    with pytest.raises(ElfError, match=r"lib/libbad\.so in nvidia_demo"):
        read(wheel.parent)
