"""Recipes: what is refused and how it is told, and what the values say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from packaging.version import Version

from wheelyard.errors import ImpossibleCellError, InputFileError, UnknownNameError
from wheelyard.model.cell import (
    Cell,
    CudaVersion,
    PythonVersion,
    TorchBuild,
    parse_gpu_archs,
)
from wheelyard.model.recipe import find_recipe, source_to_json
from wheelyard.model.source import FolderSource, GitSource, SdistSource, UrlSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.model.recipe import Recipe


def _cell(python: str, torch: str) -> Cell:
    return Cell(PythonVersion.parse(python), TorchBuild.parse(torch), "x86_64")


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        pytest.param(
            'name = "probe"',
            'name = "Pro_be"',
            "'Pro_be' is not a normalized name; write 'pro-be' - at `$.name`",
            id="unnormalized-name",
        ),
        pytest.param(
            'version = "1.1"',
            'version = "one"',
            "Invalid version: 'one' - at `$.versions[1].version`",
            id="bad-version",
        ),
        pytest.param(
            'python = ">=3.10"',
            'python = "3.10 or later"',
            "Invalid specifier: '3.10 or later' - at `$.versions[1].python`",
            id="bad-specifier",
        ),
        pytest.param(
            'torch = ">=2.10"',
            'torch = "new"',
            "Invalid specifier: 'new' - at `$.patches[1].torch`",
            id="bad-specifier-of-a-patch",
        ),
        pytest.param(
            '"setuptools>=77"',
            '"ninja", "setuptools >= 77 or so"',
            "given 'setuptools >= 77 or so' - at `$.build.requires[1]`",
            id="bad-build-requirement",
        ),
        pytest.param(
            'requires = ["packaging"]',
            'requires = ["pack aging"]',
            "given 'pack aging' - at `$.wheel.requires[0]`",
            id="bad-requirement",
        ),
        pytest.param(
            'version = "1.1"',
            'version = "1.0.0"',
            "Version '1.0.0' is given twice - at `$.versions[1].version`",
            id="repeated-version",
        ),
        pytest.param(
            'versions = ">=1.1"',
            'versions = ">=2"',
            "'>=2' of patch '0001-first.patch' matches no version of 1.0, 1.1 - at "
            "`$.patches[0].versions`",
            id="patch-that-matches-no-version",
        ),
        pytest.param(
            'path = "../source"',
            'path = "../source"\n[versions.git]\nurl = "u"\ncommit = "' + "a" * 40 + '"',
            "Give exactly one of sdist, url, git, folder; there are 2 - at `$.versions[1]`",
            id="two-sources",
        ),
        pytest.param(
            '[versions.folder]\npath = "../source"',
            "",
            "Give exactly one of sdist, url, git, folder; there are 0 - at `$.versions[1]`",
            id="no-source",
        ),
        pytest.param(
            '["8.0", "9.0"]',
            '["8.0", "sm_90"]',
            "'sm_90' is not a GPU target. Write compute capabilities, as in 9.0 or 12.0+PTX. - at "
            "`$.gpu-archs.'12.0'`",
            id="bad-gpu-target",
        ),
        pytest.param(
            '["8.0", "9.0"]',
            "[]",
            "The list of GPU targets is empty - at `$.gpu-archs.'12.0'`",
            id="no-gpu-target",
        ),
        pytest.param(
            '"12.8" =',
            "twelve =",
            "is not a CUDA version. Write it as 13.0 or cu130. - at `$.gpu-archs.'twelve'`",
            id="bad-cuda",
        ),
    ],
)
def test_refusal_names_file_key_path_and_value(
    parse_text: Callable[[str], Recipe], recipe_text: str, right: str, wrong: str, expected: str
) -> None:
    assert right in recipe_text
    with pytest.raises(InputFileError) as caught:
        parse_text(recipe_text.replace(right, wrong, 1))
    assert str(caught.value).endswith(f"{expected} in probe.toml")
    assert "\n" not in str(caught.value)


def test_recipe_without_versions_is_refused(
    parse_text: Callable[[str], Recipe], recipe_text: str
) -> None:
    text = recipe_text.partition("[[patches]]")[0]
    with pytest.raises(InputFileError, match=r"at least one version - at `\$\.versions`"):
        parse_text(f"versions = []\n{text}")


def test_recipe_without_gpu_targets_has_no_device_code(
    parse_text: Callable[[str], Recipe], recipe_text: str
) -> None:
    text = recipe_text.replace('"12.0" = ["8.0", "9.0"]\n"12.8" = ["9.0", "8.0", "12.0"]\n', "")
    assert parse_text(text).version(None).default_gpu_archs(CudaVersion(13, 0)) == ()


def test_requirement_may_follow_the_cuda_major(
    parse_text: Callable[[str], Recipe], recipe_text: str
) -> None:
    text = recipe_text.replace('["packaging"]', '["packaging", "core-cu{cuda-major}==1.1"]')
    contents = parse_text(text).version("1.1").contents
    assert contents.depends_on_cuda
    for cuda in (CudaVersion(12, 8), CudaVersion(13, 0)):
        names = [str(item) for item in contents.requires_with(cuda)]
        assert names == ["packaging", f"core-cu{cuda.major}==1.1"]


def test_requirement_may_follow_the_version(
    parse_text: Callable[[str], Recipe], recipe_text: str
) -> None:
    text = recipe_text.replace('["packaging"]', '["core-cu{cuda-major}=={version}"]')
    for version in parse_text(text).versions:
        (found,) = version.contents.requires_with(CudaVersion(12, 8))
        assert str(found) == f"core-cu12=={version.version}"


def test_what_runs_beside_the_wheel_is_not_what_it_requires(
    parse_text: Callable[[str], Recipe], recipe_text: str
) -> None:
    text = recipe_text.replace('["packaging"]', '["packaging"]\nbeside = ["core=={version}"]')
    contents = parse_text(text).version("1.1").contents
    cuda = CudaVersion(13, 0)
    assert [str(item) for item in contents.requires_with(cuda)] == ["packaging"]
    assert [str(item) for item in contents.runs_with(cuda)] == ["packaging", "core==1.1"]


def test_libraries_that_are_loaded_first_are_of_what_is_there(
    parse_text: Callable[[str], Recipe], recipe_text: str
) -> None:
    first = 'loads-first = ["Core_cu{cuda-major}"]'
    text = recipe_text.replace('["packaging"]', f'["core-cu{{cuda-major}}"]\n{first}')
    contents = parse_text(text).version("1.1").contents
    assert contents.loads_before(CudaVersion(13, 0)) == {"core-cu13"}
    alone = recipe_text.replace('["packaging"]', f'["packaging"]\n{first}')
    with pytest.raises(InputFileError, match=r"names core-cu12 - at `\$\.wheel\.loads-first`"):
        parse_text(alone)


def test_newest_version_comes_first_whatever_the_order_of_the_file(probe: Recipe) -> None:
    assert [str(item.version) for item in probe.versions] == ["1.1", "1.0"]
    assert probe.version(None).version == Version("1.1")
    assert probe.version("1.0").version == Version("1.0")


def test_unknown_version_gets_the_known_ones(probe: Recipe) -> None:
    with pytest.raises(UnknownNameError, match=r"probe has no version '2\.0'; it has 1\.1, 1\.0\."):
        probe.version("2.0")


@pytest.mark.parametrize("name", ["probe", "Probe", "PROBE"])
def test_recipe_is_found_in_every_spelling_of_its_name(probe: Recipe, name: str) -> None:
    assert find_recipe([probe], name) is probe


def test_unknown_recipe_gets_the_nearest_name(probe: Recipe) -> None:
    expected = r"no recipe 'prob'\. Did you mean 'probe'\? Known: probe\."
    with pytest.raises(UnknownNameError, match=expected):
        find_recipe([probe], "prob")


def test_sources_are_told_apart(parse_text: Callable[[str], Recipe], recipe_text: str) -> None:
    commit = "c" * 40
    git = f'[versions.git]\nurl = "https://example.org/p.git"\ncommit = "{commit}"\n'
    git += 'submodules = ["third/party"]\n'
    text = recipe_text + f'[[versions]]\nversion = "2.0"\n{git}'
    sources = [item.source for item in parse_text(text).versions]
    assert sources == [
        GitSource(url="https://example.org/p.git", commit=commit, submodules=("third/party",)),
        FolderSource(path="../source"),
        SdistSource(name="probe", filename="probe-1.0.tar.gz", sha256="1" * 64, size=1000),
    ]
    # what stands in the plan fingerprint
    assert [source_to_json(source) for source in sources] == [
        {"commit": commit, "kind": "git", "submodules": ["third/party"]},
        {"kind": "folder", "path": "../source"},
        {"kind": "sdist", "sha256": "1" * 64},
    ]


def test_environment_of_a_version_wins_over_that_of_the_recipe(probe: Recipe) -> None:
    assert probe.version("1.0").build.environment == (("DEPTH", "1"), ("PROBE", "recipe"))
    assert probe.version("1.1").build.environment == (("DEPTH", "1"), ("PROBE", "version"))


def test_requirements_of_a_version_replace_those_of_the_recipe(
    parse_text: Callable[[str], Recipe], recipe_text: str
) -> None:
    text = recipe_text.replace('version = "1.0"', 'version = "1.0"\nrequires = ["einops"]')
    recipe = parse_text(text)
    assert [str(item) for item in recipe.version("1.0").contents.requires] == ["einops"]
    assert [str(item) for item in recipe.version("1.1").contents.requires] == ["packaging"]


def test_contents_of_a_version_replace_those_of_the_recipe(
    parse_text: Callable[[str], Recipe], recipe_text: str
) -> None:
    keys = 'version = "1.0"\nextensions = ["core"]\ntop-levels = ["core", "probe"]'
    recipe = parse_text(recipe_text.replace('version = "1.0"', keys))
    contents, usual = recipe.version("1.0").contents, recipe.version("1.1").contents
    assert contents.extensions == ("core",)
    assert contents.top_levels == {"core", "probe"}
    assert usual.extensions == ("probe_cuda",)
    assert usual.top_levels == {"probe", "probe_cuda"}


def test_platform_of_a_recipe_is_a_manylinux_policy(
    parse_text: Callable[[str], Recipe], recipe_text: str
) -> None:
    line = "memory-per-job = 2.0\n"
    text = recipe_text.replace(line, f'{line}platform = "manylinux_2_34"\n')
    assert str(parse_text(text).version(None).build.floor) == "manylinux_2_34"
    assert parse_text(recipe_text).version(None).build.floor is None
    with pytest.raises(InputFileError, match=r"at `\$\.build\.platform`"):
        parse_text(text.replace("manylinux_2_34", "RHEL 9"))


def test_memory_per_job_is_given_in_gibibytes(probe: Recipe) -> None:
    assert probe.version(None).build.memory_per_job == 2 * 2**30


@pytest.mark.parametrize(
    ("cuda", "expected"),
    [
        pytest.param("12.0", ["8.0", "9.0"], id="the-first"),
        pytest.param("12.6", ["8.0", "9.0"], id="between"),
        pytest.param("12.8", ["8.0", "9.0", "12.0"], id="the-next-sorted"),
        pytest.param("13.2", ["8.0", "9.0", "12.0"], id="after-the-last"),
    ],
)
def test_default_gpu_targets_are_those_of_the_newest_cuda_not_after(
    probe: Recipe, cuda: str, expected: list[str]
) -> None:
    archs = probe.version(None).default_gpu_archs(CudaVersion.parse(cuda))
    assert [str(arch) for arch in archs] == expected


def test_cuda_before_the_first_gpu_targets_is_impossible(probe: Recipe) -> None:
    expected = r"probe-1\.1 has GPU targets from CUDA 12\.0 on, not for CUDA 11\.8"
    with pytest.raises(ImpossibleCellError, match=expected):
        probe.version(None).default_gpu_archs(CudaVersion(11, 8))


def test_version_says_every_condition_that_a_cell_does_not_meet(probe: Recipe) -> None:
    reasons = probe.version("1.1").conditions.reasons_against(_cell("3.9", "2.6.0+cu124"))
    assert reasons == (
        "needs Python >=3.10, the cell has 3.9",
        "needs torch >=2.7, the cell has 2.6.0",
        "needs CUDA >=12.6, the cell has 12.4",
    )


def test_version_has_nothing_against_a_cell_that_meets_all(probe: Recipe) -> None:
    # 3.10 is more than 3.9 although it is less as text
    assert not probe.version("1.1").conditions.reasons_against(_cell("3.10", "2.10.0+cu128"))


def test_version_says_which_gpu_targets_it_has_no_code_for(
    parse_text: Callable[[str], Recipe], recipe_text: str
) -> None:
    text = recipe_text.replace('torch = ">=2.7"', 'torch = ">=2.7"\ngpu-archs = ">=8.0"')
    version = parse_text(text).version("1.1")
    assert version.reasons_against_gpu_archs(parse_gpu_archs("7.5;9.0;12.0+PTX")) == (
        "has code for GPU targets >=8.0, not for 7.5",
    )
    assert version.reasons_against_gpu_archs(parse_gpu_archs("8.0;10.0")) == ()


def test_default_gpu_targets_that_a_version_has_no_code_for_are_refused(
    parse_text: Callable[[str], Recipe], recipe_text: str
) -> None:
    text = recipe_text.replace('torch = ">=2.7"', 'torch = ">=2.7"\ngpu-archs = ">=9.0"')
    with pytest.raises(InputFileError, match=r"probe-1.1 has code for GPU targets >=9.0, not for"):
        parse_text(text)


def test_patches_are_those_of_version_and_cell_in_the_order_of_the_file(probe: Recipe) -> None:
    def names(version: str, torch: str) -> list[str]:
        item, cell = probe.version(version), _cell("3.12", torch)
        return [patch.filename for patch in item.patches if patch.applies(item.version, cell)]

    assert names("1.1", "2.11.0+cu130") == ["0001-first.patch", "0002-new-torch.patch"]
    assert names("1.1", "2.8.0+cu128") == ["0001-first.patch"]
    assert names("1.0", "2.11.0+cu130") == ["0002-new-torch.patch"]


def test_archive_at_a_url_is_named_by_its_end_unless_the_recipe_names_it(
    parse_text: Callable[[str], Recipe], recipe_text: str
) -> None:
    head = recipe_text + '[[versions]]\nversion = "2.0"\n'
    url = "https://github.com/o/r/releases/download/v1/probe%2B1.0.tar.gz?x=1"
    table = f'[versions.url]\nurl = "{url}"\nsha256 = "{"1" * 64}"\nsize = 7\n'
    source = parse_text(head + table).versions[0].source
    assert isinstance(source, UrlSource)
    assert (source.filename, source.size) == ("probe+1.0.tar.gz", 7)
    named = parse_text(head + table + 'filename = "x.zip"\n').versions[0].source
    assert isinstance(named, UrlSource)
    assert named.filename == "x.zip"
    assert source_to_json(source) == {"kind": "url", "sha256": "1" * 64}
