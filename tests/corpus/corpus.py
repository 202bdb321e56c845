"""The corpus: real wheels of the Python index, and what loading them beside torch has shown."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
from packaging.utils import parse_wheel_filename

from wheelyard.files import replace_file
from wheelyard.model.cell import PythonVersion, TorchBuild

if TYPE_CHECKING:
    from collections.abc import Iterable

HERE = Path(__file__).parent
WHEELS_PATH = HERE / "wheels.toml"
TRUTH_PATH = HERE / "truth.json"
FOLDER_VARIABLE = "WHEELYARD_CORPUS"
TRUTH_FORMAT: Literal[1] = 1


class CorpusWheel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One wheel, the torch build it is made for, and torch builds it is not made for."""

    filename: str
    sha256: str
    size: int
    python: str
    """The Python it is loaded with: that of its tag, or one that the tag allows."""
    torch: str
    basis: Literal["pinned", "pairing", "any"]
    """How the torch build is known: its METADATA, its release date and notes; or it needs none."""
    wrong: tuple[str, ...]
    outside: tuple[str, ...] = ()
    """What it needs that neither it nor torch nor every system brings, so that it cannot be loaded
    on a machine that has just these."""

    @property
    def python_version(self) -> PythonVersion:
        return PythonVersion.parse(self.python)

    @property
    def torch_builds(self) -> tuple[TorchBuild, ...]:
        """The torch build it is made for, then the others."""
        return tuple(TorchBuild.parse(text) for text in (self.torch, *self.wrong))


class _Corpus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    wheels: tuple[CorpusWheel, ...]


class Meeting(msgspec.Struct, frozen=True, kw_only=True):
    """What happened when a wheel was installed beside a torch build."""

    companions: tuple[str, ...]
    """What its Requires-Dist brings of NVIDIA's libraries that torch does not bring."""
    imports: dict[str, str]
    members: dict[str, str]
    """For each shared object ``ok``, ``ok after`` libraries that a package has to load first, since
    the file does not say where they are, or the loader's words."""


class WheelTruth(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about one wheel of the corpus."""

    sha256: str
    python: str
    torch: dict[str, Meeting]


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """What loading has shown, on which system."""

    format: Literal[1]
    system: dict[str, str]
    wheels: dict[str, WheelTruth]


def is_loaded(result: str) -> bool:
    return result == "ok" or result.startswith("ok after ")


def is_crash(result: str) -> bool:
    """Tell files whose symbols are all there, and whose initialisation ends the process."""
    return result.startswith("ended by signal ")


def read_corpus(path: Path = WHEELS_PATH) -> tuple[CorpusWheel, ...]:
    return msgspec.toml.decode(path.read_bytes(), type=_Corpus).wheels


def read_truth(path: Path = TRUTH_PATH) -> Truth:
    return msgspec.json.decode(path.read_bytes(), type=Truth)


def write_truth(path: Path, truth: Truth) -> None:
    text = json.dumps(msgspec.to_builtins(truth), indent=1, sort_keys=True)
    replace_file(path, f"{text}\n".encode())


def corpus_folder(given: Path | None) -> Path:
    """Return the folder of downloaded wheels: an option's, or the environment variable's."""
    if given is None and not os.environ.get(FOLDER_VARIABLE):
        sys.exit(f"Name the folder for the wheels: --wheels, or {FOLDER_VARIABLE}.")
    return (given or Path(os.environ[FOLDER_VARIABLE])).resolve()


def select(wheels: Iterable[CorpusWheel], words: Iterable[str]) -> tuple[CorpusWheel, ...]:
    """Return the wheels whose filename begins with one of the words; all without words."""
    beginnings = tuple(words)
    return tuple(one for one in wheels if not beginnings or one.filename.startswith(beginnings))


def fetch(wheel: CorpusWheel, folder: Path) -> Path:
    """Return the wheel's file, downloaded with pip where it is not there yet."""
    path = folder / wheel.filename
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(_download_command(wheel, folder), check=True, stdout=subprocess.DEVNULL)
        if not path.exists() or _sha256(path) != wheel.sha256:
            sys.exit(f"{wheel.filename}: the index no longer has the file of this digest.")
    return path


def _download_command(wheel: CorpusWheel, folder: Path) -> list[str]:
    name, version, _, tags = parse_wheel_filename(wheel.filename)
    interpreter = next(iter(tags)).interpreter
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--dest", str(folder), "--python-version", wheel.python]
    command += ["--implementation", interpreter[:2]]
    for abi in sorted({tag.abi for tag in tags}):
        command += ["--abi", abi]
    for platform in sorted({tag.platform for tag in tags}):
        command += ["--platform", platform]
    return [*command, f"{name}=={version}"]


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
