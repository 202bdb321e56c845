"""The bill of materials that goes into a wheel (CycloneDX, where PEP 770 puts it).

It says what the record knows of the wheel's content and nothing else: no date, no machine, no
folder, so that the same job still gives the same bytes.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Final, assert_never
from urllib.parse import quote

from wheelyard.model.record import Adopted, Built
from wheelyard.model.source import FolderSource, GitSource, SdistSource, UrlSource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packaging.requirements import Requirement

    from wheelyard.model.job import Job
    from wheelyard.model.source import Source

SBOM_NAME: Final = "sboms/wheelyard.cdx.json"
"""Inside of the dist-info folder."""
SPEC_VERSION: Final = "1.6"
_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://cyclonedx.org/wheelyard")


def make_sbom(job: Job, origin: Built | Adopted, *, locks: Mapping[str, str]) -> bytes:
    """Write down what a wheel is made of; ``locks`` are digests by path."""
    wheel = _wheel(job, origin, locks)
    requires = job.version.contents.requires_with(job.cell.torch.cuda)
    parts = [_requirement(job.torch_requirement), *map(_requirement, requires)]
    document = {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "components": parts,
        "dependencies": [
            {"dependsOn": sorted(part["bom-ref"] for part in parts), "ref": wheel["bom-ref"]},
            *({"ref": part["bom-ref"]} for part in parts),
        ],
        "metadata": {"component": wheel, "tools": {"components": _tools(origin)}},
        "specVersion": SPEC_VERSION,
        "version": 1,
    }
    identity = uuid.uuid5(_NAMESPACE, json.dumps(document, sort_keys=True))
    document["serialNumber"] = f"urn:uuid:{identity}"
    return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


def _wheel(job: Job, origin: Built | Adopted, locks: Mapping[str, str]) -> dict[str, object]:
    name, version = str(job.version.recipe), str(job.wheel_version)
    purl = f"pkg:pypi/{name}@{quote(version)}"
    cell = job.cell
    properties = {
        "cuda": str(cell.torch.cuda),
        "gpu-archs": ";".join(str(arch) for arch in job.gpu_archs),
        "identifier": job.identifier,
        "machine": cell.machine,
        "python": str(cell.python),
        "revision": str(job.version.revision),
        "torch": str(cell.torch),
    }
    pedigree: dict[str, object]
    match origin:
        case Built():
            pedigree = {"ancestors": [_source(job)]}
            if origin.patches:
                pedigree["patches"] = [
                    {
                        "diff": {"url": f"patches/{_patch_path(job, patch.name)}"},
                        "type": "unofficial",
                    }
                    for patch in origin.patches
                ]
            properties |= {f"patch:{patch.name}": patch.sha256 for patch in origin.patches}
            properties |= {f"lock:{path}": digest for path, digest in locks.items()}
            properties["source-tree"] = origin.tree_sha256
        case Adopted():
            pedigree = {"ancestors": [_upstream(job, origin)]}
        case _:
            assert_never(origin)
    return {
        "bom-ref": purl,
        "name": name,
        "pedigree": pedigree,
        "properties": [
            {"name": f"wheelyard:{key}", "value": value}
            for key, value in sorted(properties.items())
        ],
        "purl": purl,
        "type": "library",
        "version": version,
    }


def _patch_path(job: Job, name: str) -> str:
    recipe = job.version.recipe
    paths = {patch.filename: patch.path(recipe) for patch in job.patches}
    return str(paths.get(name, f"{recipe}/{name}"))


def _source(job: Job) -> dict[str, object]:
    name, version = str(job.version.recipe), str(job.version.version)
    source: Source = job.version.source
    component: dict[str, object] = {"name": name, "type": "library", "version": version}
    match source:
        case SdistSource():
            filename = quote(source.filename, safe="")
            component["purl"] = f"pkg:pypi/{source.name}@{quote(version)}?file_name={filename}"
            component["hashes"] = _hashes(source.sha256)
        case UrlSource():
            component["hashes"] = _hashes(source.sha256)
            component["externalReferences"] = [{"type": "distribution", "url": source.url}]
        case GitSource():
            url = quote(f"git+{source.url}@{source.commit}", safe="")
            component["purl"] = f"pkg:generic/{name}@{quote(version)}?vcs_url={url}"
            component["externalReferences"] = [
                {"comment": f"commit {source.commit}", "type": "vcs", "url": source.url}
            ]
        case FolderSource():
            component["description"] = "a folder of the farm itself"
        case _:
            assert_never(source)
    return component


def _upstream(job: Job, origin: Adopted) -> dict[str, object]:
    """Name upstream's file by its digest alone: where it was found decides no byte of the wheel."""
    return {
        "description": "the wheel that was built upstream",
        "hashes": _hashes(origin.sha256),
        "name": str(job.version.recipe),
        "type": "library",
        "version": str(job.version.version),
    }


def _hashes(sha256: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": sha256}]


def _requirement(requirement: Requirement) -> dict[str, str]:
    """Describe what the wheel needs beside it; only an exact pin has a version."""
    component = {"bom-ref": str(requirement), "name": requirement.name, "type": "library"}
    pins = [one.version for one in requirement.specifier if one.operator == "=="]
    if pins:
        component["version"] = pins[0]
        component["purl"] = f"pkg:pypi/{requirement.name}@{quote(pins[0])}"
    return component


def _tools(origin: Built | Adopted) -> list[dict[str, str]]:
    tools = [{"name": "wheelyard", "type": "application"}]
    if isinstance(origin, Built):
        version = origin.toolkit.version
        tools.append({"name": "CUDA toolkit", "type": "application", "version": version})
        tools.append({"name": origin.compiler, "type": "application"})
    return tools
