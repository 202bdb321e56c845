"""What recipes of a farm agree on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from wheelyard.drafting.house import read_house

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.model.recipe import Recipe


def test_the_commonest_requirement_is_taken_whatever_is_asked(
    parse_text: Callable[[str], Recipe], recipe_text: str
) -> None:
    other = recipe_text.replace('"setuptools>=77"', '"setuptools>=80", "wheel>=0.43"')
    house = read_house([parse_text(recipe_text), parse_text(other), parse_text(other)])
    assert str(house.requirement(Requirement("setuptools>=61"))) == "setuptools>=80"
    assert str(house.requirement(Requirement("wheel"))) == "wheel>=0.43"
    assert str(house.requirement(Requirement("numpy"))) == "numpy"


def test_an_upper_bound_of_the_project_counts_beside_the_house(
    parse_text: Callable[[str], Recipe], recipe_text: str
) -> None:
    house = read_house([parse_text(recipe_text)])
    assert str(house.requirement(Requirement("setuptools<81"))) == "setuptools<81,>=77"


def test_gpu_targets_and_memory_are_those_of_most_recipes(
    parse_text: Callable[[str], Recipe], recipe_text: str
) -> None:
    recipe = parse_text(recipe_text)
    house = read_house([recipe])
    assert house.gpu_archs == recipe.versions[0].gpu_archs
    assert house.memory_per_job == 2 * 2**30


def test_a_farm_without_recipes_has_what_is_known_to_work() -> None:
    house = read_house([])
    assert house.gpu_archs
    assert "setuptools" in str(house.requirement(Requirement("setuptools")))
