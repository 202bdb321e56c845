"""The bill of materials of a cell."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from wheelyard.shipping.bill import bill_of_materials
from wheelyard.shipping.wheel import read_wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_bill_names_every_wheel_its_digest_and_what_it_depends_on(
    make_wheel: Callable[..., Path],
) -> None:
    paths = [
        make_wheel(name="demo-ext", version="1.0+cu130", requires=["demo-helper>=1", "absent"]),
        make_wheel(name="demo-helper", version="1.5"),
    ]
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    wheels = [read_wheel(path, sha256=one) for path, one in zip(paths, digests, strict=True)]
    text = bill_of_materials("cp312-torch2.11.0-cu130-x86_64", wheels)
    assert text == bill_of_materials("cp312-torch2.11.0-cu130-x86_64", wheels)
    bill = json.loads(text)
    assert [one["hashes"][0]["content"] for one in bill["components"]] == digests
    assert bill["components"][0]["purl"] == "pkg:pypi/demo-ext@1.0%2Bcu130"
    assert bill["dependencies"] == [
        {"dependsOn": ["pkg:pypi/demo-helper@1.5"], "ref": "pkg:pypi/demo-ext@1.0%2Bcu130"},
        {"dependsOn": [], "ref": "pkg:pypi/demo-helper@1.5"},
    ]
