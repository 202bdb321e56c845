"""The tables of ``recipes/<name>.toml`` and ``matrix.toml`` as people write them."""

from __future__ import annotations

from typing import Annotated

import msgspec

Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$", description="64 hex digits")]
Commit = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{40}$", description="40 hex digits")]
Name = Annotated[str, msgspec.Meta(min_length=1)]
PinnedImage = Annotated[
    str, msgspec.Meta(pattern="^.+@sha256:[0-9a-f]{64}$", description="an image by its digest")
]
PolicyName = Annotated[
    str, msgspec.Meta(pattern=r"^manylinux_\d+_\d+$", description="a manylinux policy")
]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """A table of a file that people write: unknown keys are errors."""


class EffortTable(Table, frozen=True, kw_only=True):
    """CPU seconds that one wheel costs on a current core."""

    host: Seconds = 30.0
    device: Seconds = 60.0


class BuildTable(Table, frozen=True, kw_only=True):
    """How the build child is called."""

    requires: tuple[str, ...]
    environment: dict[str, str] = {}
    memory_per_job: Annotated[float, msgspec.Meta(gt=0, le=65536, description="GiB")] = 2.0
    platform: PolicyName | None = None
    effort: EffortTable = EffortTable()
    probe: tuple[str, ...] = ()


class WheelTable(Table, frozen=True, kw_only=True):
    """What the finished wheel must hold."""

    extensions: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    top_levels: tuple[str, ...]
    requires: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    loads_first: tuple[str, ...] = ()
    entry_points: tuple[str, ...] = ()
    bare_version: bool = False


class SdistTable(Table, frozen=True, kw_only=True):
    """A source distribution of the Python index."""

    filename: Name
    sha256: Sha256
    size: Annotated[int, msgspec.Meta(gt=0, description="bytes")]


class UrlTable(Table, frozen=True, kw_only=True):
    """An archive at a URL, of a release or a model hub."""

    url: Annotated[str, msgspec.Meta(pattern="^https?://[^/]+/.+")]
    sha256: Sha256
    size: Annotated[int, msgspec.Meta(gt=0, description="bytes")]
    filename: str = ""


class GitTable(Table, frozen=True, kw_only=True):
    """A git repository at a pinned commit."""

    url: Name
    commit: Commit
    submodules: tuple[str, ...] = ()


class FolderTable(Table, frozen=True, kw_only=True):
    """A folder of the farm itself."""

    path: Name


class PatchTable(Table, frozen=True, kw_only=True):
    """One member of the patch series, a file of ``patches/<name>/`` or ``patches/common/``."""

    file: Annotated[
        str, msgspec.Meta(pattern=r"^(?:\d{4}-[a-z0-9-]+\.(?:patch|py)|common/[a-z0-9-]+\.py)$")
    ]
    versions: str = ""
    python: str = ""
    torch: str = ""
    cuda: str = ""


class VersionTable(Table, frozen=True, kw_only=True):
    """One version of the distribution."""

    version: str
    revision: Annotated[int, msgspec.Meta(ge=0)] = 0
    sdist: SdistTable | None = None
    url: UrlTable | None = None
    git: GitTable | None = None
    folder: FolderTable | None = None
    python: str = ""
    torch: str = ""
    cuda: str = ""
    gpu_archs: str = ""
    environment: dict[str, str] = {}
    extensions: tuple[str, ...] | None = None
    top_levels: tuple[str, ...] | None = None
    requires: tuple[str, ...] | None = None


class ReleasesTable(Table, frozen=True, kw_only=True):
    """Where upstream publishes wheels of its own, and how it names them."""

    repository: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$")]
    asset: Name
    tag: Annotated[str, msgspec.Meta(pattern=r"\{version\}")] = "v{version}"


class RecipeFile(Table, frozen=True, kw_only=True):
    """A recipe file."""

    name: Name
    summary: str
    homepage: str
    license: str
    build: BuildTable
    wheel: WheelTable
    gpu_archs: dict[str, tuple[str, ...]] = {}
    versions: tuple[VersionTable, ...]
    patches: tuple[PatchTable, ...] = ()
    releases: ReleasesTable | None = None


class AxesTable(Table, frozen=True, kw_only=True):
    """The dimensions of the matrix; torch builds in order of priority."""

    python: tuple[str, ...]
    torch: tuple[str, ...]
    machine: tuple[str, ...] = ("x86_64",)


class ExclusionTable(Table, frozen=True, kw_only=True):
    """Jobs that are possible but not wanted."""

    select: Name
    reason: Name


class PriorityTable(Table, frozen=True, kw_only=True):
    """Jobs that come earlier (higher) or later (lower) than the rest, which has 0."""

    select: Name
    value: int


class RunnerTable(Table, frozen=True, kw_only=True):
    """The labels of the GitHub runners for some jobs; of several tables the first that matches."""

    select: Name
    build: tuple[Name, ...]
    """Where they are compiled: a GPU box, or a CPU runner with the toolkit of the index."""
    gpu: tuple[Name, ...] = ()
    """Where they are tried on a GPU; none if left out."""
    container: Annotated[str, msgspec.Meta(pattern="^(.+@sha256:[0-9a-f]{64})?$")] = ""
    """An image to build in, by its digest."""


class ToolchainTable(Table, frozen=True, kw_only=True):
    """What every build box must agree on."""

    gcc: Annotated[int, msgspec.Meta(ge=9)] | None = None
    platform: PolicyName = "manylinux_2_28"
    container: PinnedImage | None = None


class MatrixFile(Table, frozen=True, kw_only=True):
    """The combinations that the farm wants."""

    repository: Annotated[str, msgspec.Meta(pattern="^(https://.+)?$")] = ""
    """The page of its repository, where people ask for combinations."""
    axes: AxesTable
    exclude: tuple[ExclusionTable, ...] = ()
    priorities: tuple[PriorityTable, ...] = ()
    toolchain: ToolchainTable = ToolchainTable()
    runners: tuple[RunnerTable, ...] = ()
