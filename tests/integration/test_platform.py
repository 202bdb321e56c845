"""A wheel is for the systems that the farm wants, or it is refused with what keeps it from that."""

from __future__ import annotations

import re

import pytest

from wheelyard.machine.libc import find_libc

pytestmark = pytest.mark.build


def test_wheel_of_a_newer_system_loads_on_what_the_farm_wants(built):
    _, wheel = built
    match = re.search(r"manylinux_2_(\d+)_\w+\.whl$", wheel["filename"])
    assert match is not None
    assert int(match[1]) <= 28


@pytest.mark.skipif(find_libc().version < (2, 36), reason="this system has no such function")
def test_call_of_a_newer_function_is_refused_with_symbol_object_and_remedy(
    wheelyard, own_farm, tmp_path
):
    source = own_farm / "tinyscale" / "csrc" / "tinyscale.cpp"
    text = (
        f"#include <cstdlib>\n{source.read_text()}\nunsigned number() {{ return arc4random(); }}\n"
    )
    source.write_text(text)
    words = ("build", "tinyscale", "--farm", own_farm, "--yard", tmp_path / "yard")
    refused = wheelyard(*words, check=False)
    assert refused.returncode == 11
    assert "needs newer systems than manylinux_2_28" in refused.stderr
    assert re.search(
        r"arc4random@GLIBC_2\.36 of libc\.so\.6, .*: tinyscale_cuda\.\S+, from csrc/tinyscale\.o",
        refused.stderr,
    )
    assert 'write `platform = "manylinux_2_36"` there' in refused.stderr
    assert not list((tmp_path / "yard").glob("wheels/*"))
    recipe = own_farm / "recipes" / "tinyscale.toml"
    recipe.write_text(recipe.read_text().replace("[build]", '[build]\nplatform = "manylinux_2_36"'))
    allowed = wheelyard(*words, check=False)
    assert allowed.returncode == 0, allowed.stderr
