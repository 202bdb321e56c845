"""What a manifest may say, and the lock that is made of it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from wheelyard.errors import InputFileError, IntegrityError, UsageError
from wheelyard.model.cell import CudaVersion
from wheelyard.model.lock import Lock
from wheelyard.model.redistributables import (
    RedistFile,
    parse_redist_lock,
    parse_release,
    read_manifest,
    redist_lock_request,
    redist_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable

REQUEST = redist_lock_request("12.4.1")
ORIGIN = "https://mirror.example/redistrib_12.4.1.json"
SHA256 = "7ffba1ada0e4b8c17e451ac7a60d386aa2642ecd08d71202a0b100c98bd74681"


def _entry(component: str, platform: str) -> dict[str, object]:
    name = f"{component}-{platform}-12.4.131-archive.tar.xz"
    return {
        "relative_path": f"{component}/{platform}/{name}",
        "sha256": SHA256,
        "md5": "66486841dab183168d79684c74df1928",
        "size": "51184484",
    }


def _manifest() -> dict[str, dict[str, object]]:
    """Return a manifest as NVIDIA's are, with what nobody asked for beside the rest."""
    manifest: dict[str, object] = {
        "release_date": "2024-04-03",
        "release_label": "12.4.1",
        "release_product": "cuda",
        "driver_assistant": {"version": "0.20", "linux-all": {"relative_path": "../../x"}},
    }
    for name in ("cuda_cccl", "cuda_cudart", "cuda_nvcc", "cuda_profiler_api", "libcublas"):
        manifest[name] = {
            "name": name,
            "license": "CUDA Toolkit",
            "license_path": f"{name}/LICENSE.txt",
            "version": "12.4.131",
            **{
                platform: _entry(name, platform)
                for platform in ("linux-x86_64", "linux-sbsa", "linux-aarch64", "windows-x86_64")
            },
        }
    return manifest  # type: ignore[return-value]


def _read(manifest: object, *, release: str = "12.4.1") -> RedistFile:
    content = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    sha256 = hashlib.sha256(content).hexdigest()
    return read_manifest(content, redist_lock_request(release), sha256=sha256, origin=ORIGIN)


def _lock(text: str) -> Lock:
    return Lock(request=REQUEST, text=text)


def test_lock_asks_for_what_compiles_and_for_nothing_that_torch_brings() -> None:
    assert REQUEST.header == (
        "# wheelyard lock of: cuda_cccl, cuda_cudart, cuda_nvcc, cuda_profiler_api; aarch64, x86_64"
    )
    assert str(REQUEST.path) == "locks/redist/12.4.1.toml"


def test_cuda_13_has_its_compiler_in_more_parts() -> None:
    assert {"cuda_crt", "libnvvm"} <= set(redist_lock_request("13.0.2").requirements)


@pytest.mark.parametrize("text", ["12.4", "12.4.1.2", "cu124", "12.4.x", "../12.4.1", ""])
def test_release_without_patch_level_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not a CUDA release\. Write it .* as in 12\.4\.1"):
        parse_release(text)


def test_release_names_its_cuda() -> None:
    assert parse_release("12.4.1") == CudaVersion(12, 4)


def test_manifest_gives_the_wanted_archives_of_both_machines() -> None:
    file = _read(_manifest())
    assert [archive.component for archive in file.archives_for("x86_64")] == [*REQUEST.requirements]
    assert {archive.path.split("/")[1] for archive in file.archives_for("aarch64")} == {
        "linux-sbsa"
    }
    archive = file.archives_for("x86_64")[2]
    assert archive.filename == "cuda_nvcc-linux-x86_64-12.4.131-archive.tar.xz"
    assert (archive.sha256, archive.size, archive.version) == (SHA256, 51184484, "12.4.131")
    assert file.manifest.filename == "redistrib_12.4.1.json"


def test_size_may_be_a_number() -> None:
    manifest = _manifest()
    manifest["cuda_nvcc"]["linux-x86_64"]["size"] = 7  # type: ignore[index]
    assert _read(manifest).archives_for("x86_64")[2].size == 7


def test_archive_of_the_cuda_variant_is_taken() -> None:
    manifest = _manifest()
    entry = manifest["cuda_nvcc"]["linux-x86_64"]
    manifest["cuda_nvcc"]["linux-x86_64"] = {"cuda11": {"relative_path": "no"}, "cuda12": entry}
    assert _read(manifest).archives_for("x86_64") == _read(_manifest()).archives_for("x86_64")


def test_machine_that_the_release_does_not_have_is_left_out() -> None:
    manifest = _manifest()
    for component in REQUEST.requirements:
        del manifest[component]["linux-sbsa"]
    assert _read(manifest).archives_for("aarch64") == ()
    assert len(_read(manifest).archives_for("x86_64")) == 4


def _without(component: str, platform: str) -> Callable[[dict[str, dict[str, object]]], None]:
    def change(manifest: dict[str, dict[str, object]]) -> None:
        del manifest[component][platform]

    return change


def _with(key: str, value: object) -> Callable[[dict[str, dict[str, object]]], None]:
    def change(manifest: dict[str, dict[str, object]]) -> None:
        manifest["cuda_nvcc"]["linux-x86_64"][key] = value  # type: ignore[index]

    return change


def _put(name: str, value: object) -> Callable[[dict[str, dict[str, object]]], None]:
    def change(manifest: dict[str, object]) -> None:
        manifest[name] = value

    return change  # type: ignore[return-value]


PLACE = "cuda_nvcc/linux-x86_64"
NAME = "cuda_nvcc-linux-x86_64-12.4.131-archive.tar.xz"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(_with("relative_path", f"../{PLACE}/{NAME}"), "cuda_nvcc for", id="climbs"),
        pytest.param(
            _with("relative_path", f"{PLACE}/../{NAME}"), "cuda_nvcc for", id="climbs-inside"
        ),
        pytest.param(_with("relative_path", f"/{PLACE}/{NAME}"), "cuda_nvcc for", id="absolute"),
        pytest.param(
            _with("relative_path", f"https://other.example/{NAME}"), "cuda_nvcc for", id="url"
        ),
        pytest.param(_with("relative_path", f"{PLACE}/a?x=/{NAME}"), "cuda_nvcc for", id="query"),
        pytest.param(_with("relative_path", f"{PLACE}/{NAME}\n"), "cuda_nvcc for", id="line-break"),
        pytest.param(
            _with("relative_path", f"{PLACE}/%2e%2e/{NAME}"), "cuda_nvcc for", id="escaped"
        ),
        pytest.param(
            _with("relative_path", f"{PLACE}/cuda_nvcc.zip"), "cuda_nvcc for", id="no-tar-xz"
        ),
        pytest.param(
            _with("relative_path", f"cuda_cccl/linux-x86_64/{NAME}"),
            "not below cuda_nvcc/linux-x86_64/",
            id="other-component",
        ),
        pytest.param(
            _with("relative_path", f"cuda_nvcc/linux-sbsa/{NAME}"),
            "not below cuda_nvcc/linux-x86_64/",
            id="other-machine",
        ),
        pytest.param(
            _with("relative_path", f"{PLACE}/cuda_nvcc-linux-sbsa-12.4.131-archive.tar.xz"),
            "not below cuda_nvcc/linux-x86_64/",
            id="other-machine-in-the-name",
        ),
        pytest.param(_with("sha256", "abc"), "Expected `str` matching", id="short-digest"),
        pytest.param(_with("sha256", None), "Expected `str`, got `null`", id="no-digest"),
        pytest.param(_with("size", "many"), "Expected `int`", id="size-in-words"),
        pytest.param(_with("size", "0"), "Expected `int` >= 1", id="size-of-nothing"),
        pytest.param(_with("size", 1 << 40), "Expected `int` <= ", id="size-of-a-disk"),
        pytest.param(
            _without("cuda_cccl", "linux-x86_64"),
            "has no cuda_cccl for linux-x86_64",
            id="no-component-for-the-machine",
        ),
        pytest.param(_put("cuda_cccl", 7), "has no cuda_cccl for", id="component-is-a-number"),
        pytest.param(
            _put("release_label", "12.9.1"),
            "is the manifest of CUDA '12.9.1', wanted is '12.4.1'",
            id="other-release",
        ),
        pytest.param(
            _without("cuda_nvcc", "version"), "cuda_nvcc for linux-x86_64", id="no-version"
        ),
    ],
)
def test_manifest_is_refused(
    change: Callable[[dict[str, dict[str, object]]], None], message: str
) -> None:
    manifest = _manifest()
    change(manifest)
    with pytest.raises(IntegrityError) as caught:
        _read(manifest)
    assert message in str(caught.value)
    assert ORIGIN in str(caught.value)


def test_compiler_of_another_cuda_is_refused() -> None:
    manifest = _manifest()
    manifest["cuda_nvcc"]["version"] = "12.9.86"
    with pytest.raises(IntegrityError, match=r"names nvcc 12\.9\.86 for CUDA 12\.4\.1"):
        _read(manifest)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"<!DOCTYPE html><title>Sign in</title>", id="html"),
        pytest.param(b"", id="nothing"),
        pytest.param(b'{"cuda_nvcc": {', id="cut"),
        pytest.param(b"\xff\xfe{}", id="no-text"),
        pytest.param(b"[1]", id="list"),
    ],
)
def test_what_is_no_manifest_is_shown_by_how_it_begins(content: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"is no manifest .*; it begins with"):
        _read(content)


def test_manifest_without_a_compiler_makes_no_toolkit() -> None:
    with pytest.raises(IntegrityError, match=r"has no cuda_nvcc for linux-sbsa or linux-x86_64"):
        _read(b"{}")


def test_lock_is_read_as_it_was_written() -> None:
    file = _read(_manifest())
    text = redist_text(REQUEST, file)
    assert text.startswith(f"{REQUEST.header}\n")
    read = parse_redist_lock(_lock(text))
    assert read.manifest == file.manifest
    assert set(read.archives) == set(file.archives)
    assert redist_text(REQUEST, read) == text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param("cuda_nvcc/linux-x86_64/", "../x/", r"Expected `str` matching", id="climbs"),
        pytest.param(
            'path = "cuda_nvcc/linux-x86_64/',
            'path = "cuda_nvcc/linux-sbsa/',
            "by hand: 'cuda_nvcc/linux-sbsa/.*' is not cuda_nvcc for x86_64",
            id="other-machine",
        ),
        pytest.param(
            'release = "12.4.1"',
            'release = "12.4.0"',
            "by hand: it says release '12.4.0'",
            id="other-release",
        ),
        pytest.param(
            'component = "cuda_cccl"', 'component = "cuda_gdb"', "by hand", id="other-component"
        ),
        pytest.param("size = 51184484", "size = -1", "Expected `int`", id="size"),
        pytest.param("[manifest]", "[manifesto]", "manifesto", id="unknown-key"),
    ],
)
def test_lock_that_was_changed_is_refused(old: str, new: str, message: str) -> None:
    text = redist_text(REQUEST, _read(_manifest()))
    assert old in text
    with pytest.raises(InputFileError, match=message):
        parse_redist_lock(_lock(text.replace(old, new)))


def test_lock_that_lacks_a_component_is_refused() -> None:
    text = redist_text(REQUEST, _read(_manifest()))
    cut = text[: text.rindex("[[archives]]")]
    with pytest.raises(InputFileError, match=r"it has cuda_cccl.*update redist 12\.4\.1"):
        parse_redist_lock(_lock(cut))


def test_lock_of_nothing_is_refused() -> None:
    text = redist_text(REQUEST, _read(_manifest()))
    with pytest.raises(InputFileError, match=r"it has no archives"):
        parse_redist_lock(_lock(f"archives = []\n{text[: text.index('[[archives]]')]}"))
