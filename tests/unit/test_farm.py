"""The farm's folder: found, read as a whole, refused as a whole."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import wheelyard
from wheelyard.errors import InputFileError, LockError, UnknownNameError
from wheelyard.farm import (
    bring_shared,
    farm_around,
    find_farm_folder,
    load_farm,
    make_farm,
    shipped_farm,
)
from wheelyard.model.cell import CudaVersion
from wheelyard.model.lock import LockRequest, build_lock_request
from wheelyard.model.redistributables import redist_lock_request
from wheelyard.planning.locks import toolkit_lock, torch_lock

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.farm import Farm


def test_farm_has_recipes_and_matrix_and_knows_its_files(probe_farm: Path) -> None:
    farm = load_farm(probe_farm)
    recipe = farm.recipe("probe")
    assert [item.name for item in farm.recipes] == ["probe"]
    assert len(farm.matrix.torches) == 2
    assert farm.smoke_path(recipe.name) == probe_farm / "recipes/probe/smoke.py"
    patch = recipe.version("1.1").patches[0]
    assert farm.patch_path(recipe.name, patch) == probe_farm / "patches/probe/0001-first.patch"


def test_newest_version_is_meant_when_none_is_named(probe_farm: Path) -> None:
    farm = load_farm(probe_farm)
    assert str(farm.recipe_version("probe", None).version) == "1.1"
    assert str(farm.recipe_version("probe", "1.0").version) == "1.0"


def test_unknown_recipe_gets_the_nearest_name(probe_farm: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"'prone'\. Did you mean 'probe'\?"):
        load_farm(probe_farm).recipe("prone")


def test_all_bad_files_are_reported_in_one_run(
    write_farm: Callable[..., Path], recipe_text: str, matrix_text: str
) -> None:
    folder = write_farm(
        matrix=matrix_text.replace('"3.12"', '"three"'),
        probe=recipe_text,
        alpha="name = ",
        beta=recipe_text.replace("summary", "sommary"),
        gamma=recipe_text.replace('version = "1.1"', 'version = "one"'),
    )
    with pytest.raises(InputFileError) as caught:
        load_farm(folder)
    lines = str(caught.value).splitlines()
    assert [line.partition(f"{folder}/")[2].partition(" ")[0] for line in lines] == [
        "recipes/alpha.toml",
        "recipes/beta.toml",
        "recipes/gamma.toml",
        "matrix.toml",
    ]
    assert "probe.toml" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_missing_patch_and_smoke_files_are_all_named(probe_farm: Path) -> None:
    for name in ("recipes/probe/smoke.py", "patches/probe/0001-first.patch"):
        (probe_farm / name).unlink()
    with pytest.raises(InputFileError) as caught:
        load_farm(probe_farm)
    assert str(caught.value) == (
        f"{probe_farm}/recipes/probe.toml needs these files, which are not there: "
        f"{probe_farm}/patches/probe/0001-first.patch, {probe_farm}/recipes/probe/smoke.py"
    )


def test_recipe_file_has_the_name_of_its_recipe(
    write_farm: Callable[..., Path], recipe_text: str
) -> None:
    folder = write_farm(other=recipe_text)
    with pytest.raises(
        InputFileError, match=r"is the recipe of 'probe'; name the file probe\.toml"
    ):
        load_farm(folder)


@pytest.mark.parametrize("name", ["matrix.toml", "recipes/probe.toml"])
def test_file_that_is_not_text_is_refused(probe_farm: Path, name: str) -> None:
    (probe_farm / name).write_bytes(b"\xff\xfe")
    with pytest.raises(InputFileError, match=f"Cannot read {probe_farm}/{name}: .*utf-8"):
        load_farm(probe_farm)


def test_farm_without_matrix_is_refused(probe_farm: Path) -> None:
    (probe_farm / "matrix.toml").unlink()
    with pytest.raises(InputFileError, match=r"Cannot read .*/matrix\.toml"):
        load_farm(probe_farm)


def test_folder_without_recipes_is_no_farm(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"is not a farm: .* Give another with --farm DIR"):
        load_farm(tmp_path)


def test_farm_is_found_from_a_folder_inside_it(probe_farm: Path) -> None:
    assert find_farm_folder(probe_farm) == probe_farm
    assert find_farm_folder(probe_farm / "recipes" / "probe") == probe_farm


def test_without_a_farm_around_it_is_the_one_that_we_ship(tmp_path: Path) -> None:
    assert farm_around(tmp_path) is None
    assert find_farm_folder(tmp_path) == shipped_farm()


def test_the_farm_that_we_ship_is_that_of_the_checkout_where_none_is_packed(
    repository: Path,
) -> None:
    packed = Path(wheelyard.__file__).parent / "farm"
    assert shipped_farm() == (packed if packed.is_dir() else repository)


def test_a_farm_of_one_s_own_begins_with_what_recipes_and_jobs_share(tmp_path: Path) -> None:
    make_farm(tmp_path / "own")
    farm = load_farm(tmp_path / "own")
    assert farm.recipes == ()
    assert farm.matrix == load_farm(shipped_farm()).matrix
    assert farm.lock(torch_lock(farm.matrix.torches[0])).text
    assert [path.name for path in farm.smoke_helpers()] == ["smoking.py"]


def test_a_shared_file_that_is_there_already_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "recipes" / "smoking.py"
    path.parent.mkdir()
    path.write_text("own", encoding="utf-8")
    bring_shared(Path("recipes/smoking.py"), tmp_path)
    assert path.read_text(encoding="utf-8") == "own"


def _requests(farm: Farm) -> list[LockRequest]:
    toolkit = toolkit_lock(farm.matrix.torches[0].cuda)
    assert toolkit is not None
    torch = torch_lock(farm.matrix.torches[0])
    return [torch, toolkit, build_lock_request(farm.recipe_version("probe", None))]


def test_missing_lock_is_named_with_the_command_that_makes_it(probe_farm: Path) -> None:
    shutil.rmtree(probe_farm / "locks")
    farm = load_farm(probe_farm)
    for request in _requests(farm):
        with pytest.raises(LockError) as caught:
            farm.lock(request)
        assert f"no lock locks/{request.kind}/{request.name}.txt in {probe_farm}" in str(
            caught.value
        )
        assert f"Run `wheelyard update {request.kind} {request.name}`." in str(caught.value)
        assert caught.value.exit_code == 16


def test_patch_that_recipes_share_lies_in_a_folder_of_its_own(
    probe_farm: Path, recipe_text: str
) -> None:
    text = recipe_text.replace('"0001-first.patch"', '"common/first.py"')
    (probe_farm / "recipes/probe.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InputFileError, match=r"patches/common/first\.py"):
        load_farm(probe_farm)
    shared = probe_farm / "patches/common/first.py"
    shared.parent.mkdir()
    shared.touch()
    farm = load_farm(probe_farm)
    versions = farm.recipe("probe").versions
    paths = [farm.patch_path(item.recipe, patch) for item in versions for patch in item.patches]
    assert shared in paths


def test_modules_of_smoke_tests_lie_beside_the_recipes(probe_farm: Path) -> None:
    assert load_farm(probe_farm).smoke_helpers() == ()
    (probe_farm / "recipes/smoking.py").touch()
    assert load_farm(probe_farm).smoke_helpers() == (probe_farm / "recipes/smoking.py",)


def test_stale_lock_is_told_with_what_it_says_what_is_wanted_and_the_command(
    probe_farm: Path, recipe_text: str
) -> None:
    changed = recipe_text.replace("setuptools>=77", "setuptools>=78")
    (probe_farm / "recipes/probe.toml").write_text(changed, encoding="utf-8")
    farm = load_farm(probe_farm)
    with pytest.raises(LockError) as caught:
        farm.lock(build_lock_request(farm.recipe_version("probe", "1.1")))
    assert str(caught.value) == (
        f"The lock {probe_farm}/locks/build/probe-1.1.txt is stale: it says 'build, packaging, "
        "setuptools>=77; Python >= 3.10; aarch64, x86_64', wanted is 'build, packaging, "
        "setuptools>=78; Python >= 3.10; aarch64, x86_64'. Run `wheelyard update build probe-1.1`."
    )


def test_current_lock_is_read_as_it_is(probe_farm: Path) -> None:
    farm = load_farm(probe_farm)
    request = _requests(farm)[0]
    path = probe_farm / request.path
    text = f"{request.header}\ntorch==2.11.0 \\\n    --hash=sha256:aa\n"
    path.write_text(text, encoding="utf-8")
    lock = farm.lock(request)
    assert lock.text == text
    assert lock.names_for(python="3.12.1", machine="x86_64") == {"torch"}


def test_lock_cut_short_within_its_header_is_stale(probe_farm: Path) -> None:
    farm = load_farm(probe_farm)
    request = _requests(farm)[0]
    (probe_farm / request.path).write_text(request.header[:-3], encoding="utf-8")
    with pytest.raises(LockError, match="is stale"):
        farm.lock(request)


def _write_redist_lock(farm: Path, release: str) -> None:
    request = redist_lock_request(release)
    (farm / request.path).parent.mkdir(exist_ok=True)
    (farm / request.path).write_text(f"{request.header}\n", encoding="utf-8")


def test_lock_of_archives_is_that_of_the_newest_release_of_the_cuda(probe_farm: Path) -> None:
    for release in ("12.8.2", "12.8.10", "12.9.1"):
        _write_redist_lock(probe_farm, release)
    farm = load_farm(probe_farm)
    lock = farm.redist_lock(CudaVersion(12, 8))
    assert lock is not None
    assert lock.request.name == "12.8.10"
    assert farm.redist_lock(CudaVersion(12, 4)) is None


def test_stale_lock_of_archives_is_an_error(probe_farm: Path) -> None:
    _write_redist_lock(probe_farm, "12.8.1")
    path = probe_farm / "locks/redist/12.8.1.toml"
    path.write_text("# wheelyard lock of: cuda_gdb; x86_64\n", encoding="utf-8")
    with pytest.raises(LockError, match=r"is stale.*wheelyard update redist 12\.8\.1"):
        load_farm(probe_farm).redist_lock(CudaVersion(12, 8))


def test_real_farm_loads(real_farm: Farm) -> None:
    assert "causal-conv1d" in {recipe.name for recipe in real_farm.recipes}
