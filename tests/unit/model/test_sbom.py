"""The bill of materials of a wheel."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest

from wheelyard.model.record import Adopted, Built, RecordedBuild, RecordedPatch, RecordedToolkit
from wheelyard.model.sbom import make_sbom

if TYPE_CHECKING:
    from collections.abc import Callable

    from wheelyard.model.job import Job

BUILT = Built(
    source="sha256:" + "5" * 64,
    tree_sha256="6" * 64,
    patches=(RecordedPatch(name="0002-new-torch.patch", sha256="7" * 64),),
    compiler="gcc 12.2.0 x86_64-linux-gnu",
    toolkit=RecordedToolkit(provider="index", version="13.0"),
    build=RecordedBuild(seconds=60.0, cpu_seconds=110.0, compile_jobs=2),
)
ADOPTED = Adopted(
    url="https://example.org/p-1.1%2Bcu13.whl", filename="p-1.1+cu13.whl", sha256="8" * 64
)
LOCKS = {"locks/torch/2.11.0+cu130.txt": "9" * 64}
SOURCES = {
    "folder": "",
    "sdist": 'sdist = { filename = "probe-1.1.tar.gz", sha256 = "%s", size = 1 }' % ("1" * 64),
    "url": 'url = { url = "https://example.org/p.tar.gz", sha256 = "%s", size = 1 }' % ("1" * 64),
    "git": 'git = { url = "https://example.org/p", commit = "%s" }' % ("2" * 40),
}


@pytest.fixture(params=SOURCES)
def job(
    request: pytest.FixtureRequest, make_probe_job: Callable[..., Job], recipe_text: str
) -> Job:
    source = SOURCES[request.param]
    old = '[versions.folder]\npath = "../source"\n'
    assert old in recipe_text
    return make_probe_job(text=recipe_text.replace(old, f"{source}\n") if source else recipe_text)


@pytest.mark.parametrize("origin", [BUILT, ADOPTED], ids=["built", "adopted"])
def test_bill_is_valid_cyclonedx(job: Job, origin: Built | Adopted) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json", reason="cyclonedx is missing")
    schema = pytest.importorskip("cyclonedx.schema")
    validator = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    text = make_sbom(job, origin, locks=LOCKS).decode()
    assert validator.validate_str(text) is None


def test_bill_says_what_the_wheel_is_made_of(make_probe_job: Callable[..., Job]) -> None:
    document = json.loads(make_sbom(make_probe_job(), BUILT, locks=LOCKS))
    wheel = document["metadata"]["component"]
    assert wheel["purl"] == "pkg:pypi/probe@1.1%2Bcu130.torch2.11.0"
    said = {item["name"]: item["value"] for item in wheel["properties"]}
    assert said["wheelyard:patch:0002-new-torch.patch"] == "7" * 64
    assert said["wheelyard:lock:locks/torch/2.11.0+cu130.txt"] == "9" * 64
    assert said["wheelyard:source-tree"] == "6" * 64
    assert wheel["pedigree"]["patches"][0]["diff"]["url"] == "patches/probe/0002-new-torch.patch"
    needed = {part["name"]: part.get("version") for part in document["components"]}
    assert needed == {"torch": "2.11.0", "packaging": None}
    assert {tool["name"] for tool in document["metadata"]["tools"]["components"]} == {
        "wheelyard",
        "CUDA toolkit",
        "gcc 12.2.0 x86_64-linux-gnu",
    }


def test_how_long_it_took_and_where_says_nothing(make_probe_job: Callable[..., Job]) -> None:
    other = msgspec.structs.replace(
        BUILT,
        build=RecordedBuild(seconds=1.0, cpu_seconds=2.0, compile_jobs=64, cache_hits={"CUDA": 3}),
        toolkit=RecordedToolkit(provider="installed", version="13.0"),
    )
    job = make_probe_job()
    assert make_sbom(job, BUILT, locks=LOCKS) == make_sbom(job, other, locks=LOCKS)


def test_adopted_wheel_names_upstreams_file_by_its_digest_alone(
    make_probe_job: Callable[..., Job],
) -> None:
    document = json.loads(make_sbom(make_probe_job(), ADOPTED, locks=LOCKS))
    wheel = document["metadata"]["component"]
    [ancestor] = wheel["pedigree"]["ancestors"]
    assert ancestor["hashes"] == [{"alg": "SHA-256", "content": "8" * 64}]
    from_elsewhere = msgspec.structs.replace(ADOPTED, url="", filename="other.whl")
    assert make_sbom(make_probe_job(), from_elsewhere, locks={}) == make_sbom(
        make_probe_job(), ADOPTED, locks=LOCKS
    )
    assert not any("lock:" in item["name"] for item in wheel["properties"])
