"""The facts that ship with the package, against a table of what is true."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from wheelyard.errors import InputFileError, UnknownNameError
from wheelyard.model import releases
from wheelyard.model.cell import CudaVersion, GpuArch, Machine, TorchBuild
from wheelyard.model.releases import (
    FACTS_DIR,
    GccBounds,
    TorchRelease,
    cuda_release,
    default_torch_build,
    newest_torch_release,
    release_distance,
    torch_release,
    torch_releases,
)

if TYPE_CHECKING:
    from pathlib import Path


class _Truth(NamedTuple):
    """One row of both tables below."""

    version: str
    x86_64_default: str
    aarch64_default: str
    cudas: str
    pythons: str
    cpp_standard: str
    minimum_cpp_standard: str
    setuptools: str
    triton: str
    nccl: str
    cudnn: str


# release, default CUDA on x86_64 and aarch64, CUDA releases and Pythons on x86_64
_BUILDS = """
2.4.0   12.1  -     11.8,12.1,12.4  3.8,3.9,3.10,3.11,3.12
2.4.1   12.1  -     11.8,12.1,12.4  3.8,3.9,3.10,3.11,3.12
2.5.0   12.4  -     11.8,12.1,12.4  3.9,3.10,3.11,3.12,3.13
2.5.1   12.4  -     11.8,12.1,12.4  3.9,3.10,3.11,3.12,3.13
2.6.0   12.4  -     11.8,12.4,12.6  3.9,3.10,3.11,3.12,3.13
2.7.0   12.6  -     11.8,12.6,12.8  3.9,3.10,3.11,3.12,3.13,3.13t
2.7.1   12.6  -     11.8,12.6,12.8  3.9,3.10,3.11,3.12,3.13,3.13t
2.8.0   12.8  -     12.6,12.8,12.9  3.9,3.10,3.11,3.12,3.13,3.13t
2.9.0   12.8  -     12.6,12.8,13.0  3.10,3.11,3.12,3.13,3.13t,3.14,3.14t
2.9.1   12.8  -     12.6,12.8,13.0  3.10,3.11,3.12,3.13,3.13t,3.14,3.14t
2.10.0  12.8  -     12.6,12.8,13.0  3.10,3.11,3.12,3.13,3.13t,3.14,3.14t
2.11.0  13.0  13.0  12.6,12.8,13.0  3.10,3.11,3.12,3.13,3.13t,3.14,3.14t
2.12.0  13.0  13.0  12.6,13.0,13.2  3.10,3.11,3.12,3.13,3.13t,3.14,3.14t
2.12.1  13.0  13.0  12.6,13.0,13.2  3.10,3.11,3.12,3.13,3.14,3.14t
2.13.0  13.0  13.0  12.6,13.0,13.2  3.10,3.11,3.12,3.13,3.14,3.14t
2.14.0  13.0  13.0  12.6,13.0,13.2  3.10,3.11,3.12,3.13,3.14,3.14t
2.14.1  13.0  13.0  12.6,13.0,13.2  3.10,3.11,3.12,3.13,3.14,3.14t
2.15.0  13.2  13.2  13.0,13.2       3.11,3.12,3.13,3.14,3.14t,3.15,3.15t
"""

# C++ standard by default and at least, setuptools, triton, NCCL and cuDNN of the default build
_REQUIREMENTS = """
2.4.0   17  17  -         ==3.0.0  2.20.5  9.1.0.70
2.4.1   17  17  -         ==3.0.0  2.20.5  9.1.0.70
2.5.0   17  17  -         ==3.1.0  2.21.5  9.1.0.70
2.5.1   17  17  -         ==3.1.0  2.21.5  9.1.0.70
2.6.0   17  17  -         ==3.2.0  2.21.5  9.1.0.70
2.7.0   17  17  -         ==3.3.0  2.26.2  9.5.1.17
2.7.1   17  17  -         ==3.3.1  2.26.2  9.5.1.17
2.8.0   17  17  -         ==3.4.0  2.27.3  9.10.2.21
2.9.0   17  17  -         ==3.5.0  2.27.5  9.10.2.21
2.9.1   17  17  -         ==3.5.1  2.27.5  9.10.2.21
2.10.0  17  17  -         ==3.6.0  2.27.5  9.10.2.21
2.11.0  17  17  <82       ==3.6.0  2.28.9  9.19.0.56
2.12.0  20  17  <82       ==3.7.0  2.29.7  9.20.0.48
2.12.1  20  17  <82       ==3.7.1  2.29.7  9.20.0.48
2.13.0  20  17  >=77.0.3  ==3.7.1  2.29.7  9.20.0.48
2.14.0  20  20  >=77.0.3  ~=3.8.0  2.30.7  9.24.0.43
2.14.1  20  20  >=77.0.3  ~=3.8.0  2.30.7  9.24.0.43
2.15.0  20  20  >=77.0.3  ~=3.9.0  2.30.7  9.26.0.51
"""

TRUTH = [
    _Truth(*("" if word == "-" else word for word in (*builds.split(), *rest.split()[1:])))
    for builds, rest in zip(
        _BUILDS.strip().splitlines(), _REQUIREMENTS.strip().splitlines(), strict=True
    )
]

each_release = pytest.mark.parametrize("truth", TRUTH, ids=lambda truth: truth.version)


def _release(text: str) -> TorchRelease:
    return torch_release(Version(text))


def _build(version: Version, cuda: str) -> TorchBuild | None:
    return TorchBuild(version, CudaVersion.parse(cuda)) if cuda else None


def _join(values: tuple[object, ...]) -> str:
    return ",".join(map(str, values))


def test_exactly_the_releases_of_the_table_are_known_in_order() -> None:
    known = [str(release.version) for release in torch_releases()]
    assert known == [truth.version for truth in TRUTH]


@each_release
def test_pythons_of_x86_64(truth: _Truth) -> None:
    assert _join(_release(truth.version).pythons("x86_64")) == truth.pythons


@each_release
def test_pythons_of_aarch64_are_the_same_but_for_3_13_in_torch_2_5(truth: _Truth) -> None:
    pythons = truth.pythons.split(",")
    if truth.version.startswith("2.5."):
        pythons.remove("3.13")
    assert _join(_release(truth.version).pythons("aarch64")) == ",".join(pythons)


@each_release
def test_cudas_of_x86_64(truth: _Truth) -> None:
    assert _join(_release(truth.version).cudas("x86_64")) == truth.cudas


@each_release
def test_cudas_of_aarch64_are_the_index_default_alone(truth: _Truth) -> None:
    assert _join(_release(truth.version).cudas("aarch64")) == truth.aarch64_default


@each_release
def test_default_builds(truth: _Truth) -> None:
    version = Version(truth.version)
    assert default_torch_build(version, "x86_64") == _build(version, truth.x86_64_default)
    assert default_torch_build(version, "aarch64") == _build(version, truth.aarch64_default)


@each_release
def test_requirements_and_standards(truth: _Truth) -> None:
    release = _release(truth.version)
    default = release.build(CudaVersion.parse(truth.x86_64_default))
    assert str(release.cpp_standard) == truth.cpp_standard
    assert str(release.minimum_cpp_standard) == truth.minimum_cpp_standard
    assert (str(release.setuptools), str(release.triton)) == (truth.setuptools, truth.triton)
    assert (str(default.nccl), str(default.cudnn)) == (truth.nccl, truth.cudnn)


def test_cxx11_abi_belongs_to_the_build_and_not_to_the_release() -> None:
    without = {
        f"{release.version}+{build.cuda.label}"
        for release in torch_releases()
        for build in release.builds
        if not build.cxx11_abi
    }
    older = itertools.product(("2.4.0", "2.4.1", "2.5.0", "2.5.1"), ("cu118", "cu121", "cu124"))
    assert without == {"2.6.0+cu118", "2.6.0+cu124", *map("+".join, older)}


@pytest.mark.parametrize(
    ("release", "known", "unknown"),
    [
        pytest.param("2.5.1", "9.0a", "10.0", id="2.5"),
        pytest.param("2.6.0", "10.0", "12.0", id="2.6"),
        pytest.param("2.7.1", "12.0a", "10.3", id="2.7"),
        pytest.param("2.8.0", "10.1", "11.0", id="2.8"),
        pytest.param("2.9.0", "11.0", "10.1", id="2.9"),
        pytest.param("2.13.0", "12.1", "10.7", id="2.13"),
        pytest.param("2.14.0", "10.7a", "12.0f", id="2.14"),
    ],
)
def test_gpu_targets_that_cpp_extension_knows(release: str, known: str, unknown: str) -> None:
    assert _release(release).knows(GpuArch.parse(known))
    assert _release(release).knows(GpuArch.parse(f"{known}+PTX"))
    assert not _release(release).knows(GpuArch.parse(unknown))


@pytest.mark.parametrize(
    ("build", "bounds"),
    [
        pytest.param("2.10.0+cu128", None, id="2.10-only-warns"),
        pytest.param("2.11.0+cu128", (6, 14), id="2.11-is-stricter-than-nvcc"),
        pytest.param("2.11.0+cu130", (6, 16), id="2.11-cu130"),
        pytest.param("2.12.0+cu126", (6, 14), id="2.12-cu126"),
        pytest.param("2.12.0+cu132", None, id="13.2-is-not-listed"),
    ],
)
def test_gcc_bounds_that_cpp_extension_enforces(build: str, bounds: tuple[int, int] | None) -> None:
    torch = TorchBuild.parse(build)
    found = torch_release(torch.version).build(torch.cuda).gcc_bounds
    assert (found and (found.minimum_major, found.below_major)) == bounds


@pytest.mark.parametrize(("major", "inside"), [(5, False), (6, True), (13, True), (14, False)])
def test_gcc_bounds_hold_their_lower_end_only(major: int, *, inside: bool) -> None:
    assert (major in GccBounds(minimum_major=6, below_major=14)) is inside


@pytest.mark.parametrize(("release", "gcc"), [("2.11.0", 9), ("2.12.0", 10)])
def test_cpp_20_raises_the_oldest_gcc(release: str, gcc: int) -> None:
    assert _release(release).minimum_gcc == gcc


@pytest.mark.parametrize(
    ("cuda", "gcc", "clang_below", "driver", "first", "last"),
    [
        ("11.8", 11, 15, "450", "3.5", "9.0"),
        ("12.1", 12, 16, "525", "5.0", "9.0a"),
        ("12.4", 13, 18, "525", "5.0", "9.0a"),
        ("12.6", 13, 19, "525", "5.0", "9.0a"),
        ("12.8", 14, 20, "525", "5.0", "12.0a"),
        ("12.9", 14, 20, "525", "5.0", "12.1f"),
        ("13.0", 15, 21, "580", "7.5", "12.1f"),
        ("13.2", 15, 22, "580", "7.5", "12.1f"),
        ("13.5", 16, 23, "580", "7.5", "12.1f"),
    ],
)
def test_cuda_facts(
    cuda: str, gcc: int, clang_below: int, driver: str, first: str, last: str
) -> None:
    release = cuda_release(CudaVersion.parse(cuda))
    assert (release.maximum_gcc, release.clang_below) == (gcc, clang_below)
    assert release.minimum_driver == driver
    assert (str(release.gpu_archs[0]), str(release.gpu_archs[-1])) == (first, last)


@pytest.mark.parametrize(
    ("cuda", "arch", "possible"),
    [
        ("12.8", "10.1", True),
        ("12.8", "10.0f", False),
        ("12.9", "10.0f", True),
        ("13.0", "10.1", False),
        ("13.0", "8.8+PTX", True),
        ("13.3", "10.7", False),
        ("13.4", "10.7", True),
    ],
)
def test_cuda_compiles_for_what_ptxas_lists(cuda: str, arch: str, *, possible: bool) -> None:
    assert cuda_release(CudaVersion.parse(cuda)).compiles_for(GpuArch.parse(arch)) is possible


def test_complete_toolkit_comes_from_the_index_for_cuda_13_only() -> None:
    cudas = [CudaVersion.parse(text) for text in json.loads(_text("cuda.json"))]
    complete = {cuda for cuda in cudas if cuda_release(cuda).has_index_toolkit}
    assert complete == {cuda for cuda in cudas if cuda.major == 13}


def test_toolkit_is_asked_for_as_one_release_with_a_compiler_in_it() -> None:
    release = cuda_release(CudaVersion(13, 0))
    wanted = Requirement("cuda-toolkit[cccl,crt,cudart,nvcc,nvvm,profiler]==13.0.*")
    assert release.toolkit_requirement == wanted
    assert {"nvidia-cuda-nvcc", "nvidia-nvvm", "nvidia-cuda-crt"} <= set(release.toolkit_packages)


def test_every_cuda_that_torch_was_built_for_has_facts() -> None:
    cudas = {build.cuda for release in torch_releases() for build in release.builds}
    assert {cuda_release(cuda).cuda for cuda in cudas} == cudas


def test_every_default_is_one_of_the_builds_for_its_machine() -> None:
    machines: tuple[Machine, ...] = ("x86_64", "aarch64")
    for release in torch_releases():
        for machine in machines:
            default = release.default_cuda(machine)
            assert default is None or default in release.cudas(machine)


def test_every_entry_has_evidence() -> None:
    texts = [build.evidence for release in torch_releases() for build in release.builds]
    texts += [release.evidence for release in torch_releases()]
    texts += [
        cuda_release(CudaVersion.parse(text)).evidence for text in json.loads(_text("cuda.json"))
    ]
    assert all(len(text.split()) >= 5 for text in texts)


def test_what_nobody_verified_says_so() -> None:
    evidence = _release("2.15.0").build(CudaVersion(13, 0)).evidence
    assert "not verified" in evidence


@pytest.mark.parametrize("filename", ["torch.json", "cuda.json"])
def test_keys_are_sorted_at_every_level(filename: str) -> None:
    def refuse_disorder(pairs: list[tuple[str, object]]) -> dict[str, object]:
        keys = [key for key, _ in pairs]
        assert keys == sorted(set(keys))
        return dict(pairs)

    assert json.loads(_text(filename), object_pairs_hook=refuse_disorder)


def test_newest_release() -> None:
    assert newest_torch_release().version == Version("2.15.0")


def test_release_is_read_once() -> None:
    assert torch_release(Version("2.11.0")) is torch_release(Version("2.11"))


@pytest.mark.parametrize(
    ("version", "nearest"),
    [
        ("2.16.0", r"2\.15\.0, 2\.14\.1, 2\.14\.0"),
        ("2.10.1", r"2\.10\.0, 2\.11\.0, 2\.9\.1"),
        ("1.13.1", r"2\.4\.1, 2\.4\.0, 2\.5\.1"),
        ("3.0.0", r"2\.15\.0, 2\.14\.1, 2\.14\.0"),
    ],
)
def test_unknown_release_names_the_nearest_and_the_way_to_add_one(
    version: str, nearest: str
) -> None:
    message = rf"no facts about torch '{version}'.*({nearest}).*docs/facts\.md"
    with pytest.raises(UnknownNameError, match=message):
        _release(version)


def test_unknown_cuda_names_the_known() -> None:
    with pytest.raises(
        UnknownNameError, match=r"no facts about CUDA '12\.7'.*12\.6, 12\.8.*facts\.md"
    ):
        cuda_release(CudaVersion(12, 7))


def test_unknown_build_names_the_builds() -> None:
    with pytest.raises(
        UnknownNameError, match=r"2\.11\.0 .* '12\.4'; it was for 12\.6, 12\.8, 13\.0"
    ):
        _release("2.11.0").build(CudaVersion(12, 4))


def test_unknown_release_has_no_default_build() -> None:
    assert default_torch_build(Version("2.9.0a0"), "x86_64") is None


def test_patches_are_nearer_than_minors_and_newer_wins_a_tie() -> None:
    texts = ["2.9.0", "2.8.0", "2.10.0", "2.9.1", "2.8.1", "2.10.1", "1.9.0"]
    ordered = sorted(texts, key=lambda text: release_distance(Version("2.9.0"), Version(text)))
    assert ordered == ["2.9.0", "2.9.1", "2.10.1", "2.10.0", "2.8.1", "2.8.0", "1.9.0"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{", id="no-json"),
        pytest.param('{"13.0": {"maximum_gcc": 15}}', id="key-missing"),
        pytest.param(
            '{"13.0": {"clang_below": 1, "evidence": "", "gpu_archs": [], "maximum_gcc": 1,'
            ' "minimum_driver": "1", "toolkit_packages": [], "toolkit_requirement": null}}',
            id="evidence-empty",
        ),
    ],
)
def test_facts_that_cannot_be_used_name_their_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "cuda.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputFileError, match=r"cuda\.json cannot be used: "):
        releases._read(path, dict[str, releases._CudaEntry])


def _text(filename: str) -> str:
    return (FACTS_DIR / filename).read_text(encoding="utf-8")
