"""Names of upstream's wheels: what they promise, for which cell."""

from __future__ import annotations

import pytest
from packaging.version import Version

from wheelyard.errors import UsageError
from wheelyard.model.asset_name import AssetTemplate, Promise
from wheelyard.model.cell import Cell, PythonVersion, TorchBuild

TEMPLATE = "demo-{version}+cu{cuda}torch{torch}cxx11abi{abi}-{python}-{python}-linux_{machine}.whl"


def _read(name: str) -> Promise | None:
    return AssetTemplate.parse(TEMPLATE).read(name)


def _cell(python: str, torch: str) -> Cell:
    return Cell(PythonVersion.parse(python), TorchBuild.parse(torch), "x86_64")


def test_fields_are_read_from_a_name() -> None:
    name = "demo-1.5.3.post1+cu12torch2.6cxx11abiFALSE-cp311-cp311-linux_x86_64.whl"
    assert _read(name) == Promise(
        version="1.5.3.post1", cuda="12", torch="2.6", python="cp311", machine="x86_64", abi=False
    )


@pytest.mark.parametrize(
    "name",
    [
        "demo-1.0+cu12torch2.6cxx11abiTRUE-cp311-cp312-linux_x86_64.whl",
        "demo-1.0-cp311-cp311-linux_x86_64.whl",
        "demo-1.0+cu12torch2.6cxx11abiTRUE-cp311-cp311-win_amd64.whl",
        "other-1.0+cu12torch2.6cxx11abiTRUE-cp311-cp311-linux_x86_64.whl",
    ],
    ids=["two Pythons", "no local part", "another system", "another name"],
)
def test_name_of_another_form_promises_nothing(name: str) -> None:
    assert _read(name) is None


@pytest.mark.parametrize(
    ("cuda", "torch", "cell", "expected"),
    [
        ("12", "2.6", _cell("3.11", "2.6.0+cu124"), True),
        ("124", "2.6.0", _cell("3.11", "2.6.0+cu124"), True),
        ("126", "2.6", _cell("3.11", "2.6.0+cu124"), False),
        ("13", "2.6", _cell("3.11", "2.6.0+cu124"), False),
        ("12", "2.6.1", _cell("3.11", "2.6.0+cu124"), False),
        ("12", "2.6", _cell("3.12", "2.6.0+cu124"), False),
    ],
)
def test_name_is_for_the_cells_that_it_does_not_rule_out(
    cuda: str, torch: str, cell: Cell, *, expected: bool
) -> None:
    name = f"demo-1.0+cu{cuda}torch{torch}cxx11abiTRUE-cp311-cp311-linux_x86_64.whl"
    promise = _read(name)
    assert promise is not None
    assert promise.is_for(Version("1.0"), cell) is expected
    assert not promise.is_for(Version("1.0.1"), cell)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (TEMPLATE.replace("{abi}", "{compiler}"), r"has no field \{compiler\}"),
        (TEMPLATE.replace("{machine}", "x86_64"), r"lacks \{machine\}"),
    ],
)
def test_template_that_cannot_name_a_cell_is_refused(template: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        AssetTemplate.parse(template)
