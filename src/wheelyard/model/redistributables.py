"""NVIDIA's redistributable archives of a CUDA release: their manifest, and the lock made of it."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from wheelyard.errors import InputFileError, IntegrityError, UsageError
from wheelyard.model.cell import MACHINES, CudaVersion, Machine
from wheelyard.model.decode import UNREADABLE, decode_table
from wheelyard.model.lock import Lock, LockRequest
from wheelyard.model.recipe_file import Table

PLATFORMS: dict[Machine, str] = {"aarch64": "linux-sbsa", "x86_64": "linux-x86_64"}
"""How NVIDIA names the machines; its ``linux-aarch64`` are the Jetson boards."""
MANIFEST_LIMIT = 4 << 20
"""In bytes; real ones have about 60 KB."""

# What the index's toolkit has too. The headers and libraries of cuBLAS, cuSPARSE, NVRTC and the
# like come with torch's own wheels, and would be some gigabytes here.
_COMPONENTS = ("cuda_cccl", "cuda_cudart", "cuda_nvcc", "cuda_profiler_api")
# cuda_nvcc itself holds these before
_COMPONENTS_SINCE_13 = ("cuda_crt", "libnvvm")

_RELEASE = re.compile(r"(\d{2})\.(\d)\.\d{1,2}")
_SEGMENT = "[A-Za-z0-9_][A-Za-z0-9_.+-]*"
_ENTRY_PATH = rf"^{_SEGMENT}(/{_SEGMENT})*\.tar\.xz\Z"

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
ArchivePath = Annotated[str, msgspec.Meta(pattern=_ENTRY_PATH)]
Size = Annotated[int, msgspec.Meta(gt=0, le=8 << 30)]
Words = Annotated[str, msgspec.Meta(pattern=rf"^{_SEGMENT}\Z")]


class RedistArchive(Table, frozen=True, kw_only=True):
    """One component for one machine."""

    machine: Machine
    component: Words
    version: Words
    path: ArchivePath
    """Relative to the site, or a mirror of it."""
    sha256: Sha256
    size: Size

    @property
    def filename(self) -> str:
        return self.path.rpartition("/")[2]


class RedistManifest(Table, frozen=True, kw_only=True):
    """The manifest that a lock was made of."""

    filename: Words
    sha256: Sha256
    size: Size


class RedistFile(Table, frozen=True, kw_only=True):
    """A lock file: the archives of one CUDA release that a build needs."""

    release: str
    manifest: RedistManifest
    archives: tuple[RedistArchive, ...]

    def archives_for(self, machine: str) -> tuple[RedistArchive, ...]:
        return tuple(archive for archive in self.archives if archive.machine == machine)


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What the manifest says of an archive; it has an MD5 digest too, which proves nothing."""

    relative_path: ArchivePath
    sha256: Sha256
    size: Size
    """NVIDIA writes the number as text."""


def parse_release(text: str) -> CudaVersion:
    """Return the CUDA minor version of a release, for example of ``12.4.1``."""
    match = _RELEASE.fullmatch(text)
    if match is None:
        msg = f"{text!r} is not a CUDA release. Write it with its patch level, as in 12.4.1."
        raise UsageError(msg)
    return CudaVersion(int(match[1]), int(match[2]))


def redist_lock_request(release: str) -> LockRequest:
    """The lock of a CUDA toolkit that is assembled from NVIDIA's redistributable archives."""
    since_13 = _COMPONENTS_SINCE_13 if parse_release(release).major >= 13 else ()
    return LockRequest(
        kind="redist",
        name=release,
        requirements=tuple(sorted((*_COMPONENTS, *since_13))),
        python="",
        machines=tuple(sorted(MACHINES)),
    )


def manifest_filename(release: str) -> str:
    """For example ``redistrib_12.4.1.json``."""
    return f"redistrib_{release}.json"


def parse_redist_lock(lock: Lock) -> RedistFile:
    """Read a lock; whatever it names was checked as strictly as the manifest it came from."""
    origin = str(lock.request.path)
    file = decode_table(lock.text, RedistFile, origin=origin)
    problem = _find_problem(file, lock.request)
    if problem is not None:
        msg = (
            f"{origin} was changed by hand: {problem}. "
            f"Run `wheelyard update redist {lock.request.name}`."
        )
        raise InputFileError(msg)
    return file


def _find_problem(file: RedistFile, request: LockRequest) -> str | None:
    if file.release != request.name:
        return f"it says release {file.release!r}"
    for archive in file.archives:
        if not _is_in_its_place(archive):
            return f"{archive.path!r} is not {archive.component} for {archive.machine}"
    for machine in MACHINES:
        found = sorted(archive.component for archive in file.archives_for(machine))
        if found and found != sorted(request.requirements):
            return f"for {machine} it has {', '.join(found)}"
    return None if file.archives else "it has no archives"


def read_manifest(content: bytes, request: LockRequest, *, sha256: str, origin: str) -> RedistFile:
    """Take out of a manifest what ``request`` wants; a manifest that lacks it is refused.

    A machine that has none of the components is left out.
    """
    components = _decode_manifest(content, origin)
    release = request.name
    label = components.get("release_label", release)
    if label != release:
        msg = f"{origin} is the manifest of CUDA {label!r}, wanted is {release!r}."
        raise IntegrityError(msg)
    archives = tuple(
        archive
        for machine in MACHINES
        for archive in _read_machine(components, machine, request, origin)
    )
    compilers = [archive.version for archive in archives if archive.component == "cuda_nvcc"]
    if not compilers:
        machines = " or ".join(PLATFORMS.values())
        msg = f"{origin} has no cuda_nvcc for {machines}: no toolkit can be made of it."
        raise IntegrityError(msg)
    wrong = [text for text in compilers if not text.startswith(f"{parse_release(release)}.")]
    if wrong:
        msg = f"{origin} names nvcc {wrong[0]} for CUDA {release}."
        raise IntegrityError(msg)
    manifest = RedistManifest(filename=manifest_filename(release), sha256=sha256, size=len(content))
    return RedistFile(release=release, manifest=manifest, archives=archives)


def redist_text(request: LockRequest, file: RedistFile) -> str:
    """Write the lock file."""
    lines = [request.header, f'release = "{file.release}"', "", "[manifest]"]
    lines += _toml(file.manifest)
    order = {machine: number for number, machine in enumerate(MACHINES)}
    for archive in sorted(file.archives, key=lambda one: (order[one.machine], one.component)):
        lines += ["", "[[archives]]", *_toml(archive)]
    return "\n".join((*lines, ""))


def _toml(table: Table) -> list[str]:
    """Every value is a number, or a text of plain characters."""
    values = msgspec.structs.asdict(table).items()
    return [
        f"{name} = {value}" if isinstance(value, int) else f'{name} = "{value}"'
        for name, value in values
    ]


def _decode_manifest(content: bytes, origin: str) -> dict[str, object]:
    try:
        return msgspec.json.decode(content, type=dict[str, object])
    except UNREADABLE as error:
        begins = content[:40].decode("utf-8", "backslashreplace")
        msg = f"{origin} is no manifest ({error}); it begins with {begins!r}."
        raise IntegrityError(msg) from None


def _read_machine(
    components: dict[str, object], machine: Machine, request: LockRequest, origin: str
) -> list[RedistArchive]:
    """Return the wanted archives of a machine: all of them, or none where there is none."""
    found = {
        name: entry
        for name in request.requirements
        if (entry := _find_entry(components.get(name), machine, request)) is not None
    }
    missing = [name for name in request.requirements if name not in found]
    if found and missing:
        msg = f"{origin} has no {', '.join(missing)} for {PLATFORMS[machine]}."
        raise IntegrityError(msg)
    return [
        _read_archive(name, components[name], entry, machine=machine, origin=origin)
        for name, entry in found.items()
    ]


def _find_entry(component: object, machine: Machine, request: LockRequest) -> object:
    """Return the entry of a machine, or of the variant of it for this CUDA major."""
    entry = component.get(PLATFORMS[machine]) if isinstance(component, dict) else None
    if isinstance(entry, dict) and "relative_path" not in entry:
        return entry.get(f"cuda{parse_release(request.name).major}")
    return entry


def _read_archive(
    name: str, component: object, entry: object, *, machine: Machine, origin: str
) -> RedistArchive:
    platform = PLATFORMS[machine]
    try:
        read = msgspec.convert(entry, _Entry, strict=False)
        version = component["version"] if isinstance(component, dict) else None
        archive = msgspec.convert(
            {
                "machine": machine,
                "component": name,
                "version": version,
                "path": read.relative_path,
                "sha256": read.sha256,
                "size": read.size,
            },
            RedistArchive,
        )
    except (msgspec.ValidationError, KeyError) as error:
        msg = f"{origin} is refused: {name} for {platform} is {entry!r} ({error})."
        raise IntegrityError(msg) from None
    if not _is_in_its_place(archive):
        msg = (
            f"{origin} is refused: {name} for {platform} has the path {archive.path!r}, "
            f"which is not below {name}/{platform}/."
        )
        raise IntegrityError(msg)
    return archive


def _is_in_its_place(archive: RedistArchive) -> bool:
    """Whether the path is the component's and the machine's own, as all of NVIDIA's are."""
    folder, _, filename = archive.path.rpartition("/")
    platform = PLATFORMS[archive.machine]
    return folder == f"{archive.component}/{platform}" and platform in filename
