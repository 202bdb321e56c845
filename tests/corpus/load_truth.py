"""Establish, by loading, which wheels of the corpus work beside which torch builds.

Each wheel is installed for real beside its own torch build and beside wrong ones; then each of its
shared objects is loaded after ``import torch`` with all symbols resolved, and its modules are
imported. What was seen is kept in ``truth.json``, so that an interrupted run can go on:

    python tests/corpus/load_truth.py --wheels FOLDER --environments FOLDER [BEGINNING ...]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from collections import defaultdict
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, Self

import msgspec
from corpus import (
    TRUTH_FORMAT,
    TRUTH_PATH,
    Meeting,
    Truth,
    WheelTruth,
    corpus_folder,
    fetch,
    is_loaded,
    read_corpus,
    read_truth,
    select,
    write_truth,
)
from environments import GIB, TorchEnvironments, driver_symbols, write_driver_stubs
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from corpus import CorpusWheel
    from environments import TorchEnvironment

    from wheelyard.model.cell import PythonVersion, TorchBuild

Round = tuple["TorchBuild", "PythonVersion"]

LOADER: Final = Path(__file__).with_name("loading.py")
KEPT_CHARACTERS: Final = 160
# A CUDA that is installed on this machine would answer for one that a wheel's torch does not bring.
HIDE_TOOLKITS: Final = """
for folder in /usr/local/cuda*/; do [ ! -d "$folder" ] || mount -t tmpfs none "$folder"; done
exec "$@"
"""
# NVIDIA's projects that hold Python code or tools, and no library that others are linked to.
NO_LIBRARIES: Final = frozenset(
    {"nvidia-cudnn-frontend", "nvidia-cutlass-dsl", "nvidia-ml-py", "nvidia-nvshmem4py-cu13"}
)


def main() -> None:
    """Fill in what is missing in ``truth.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheels_of", nargs="*", metavar="BEGINNING", help="of filenames")
    parser.add_argument("--wheels", type=Path, help="folder of the wheels; filled as needed")
    parser.add_argument("--environments", type=Path, required=True, help="scratch folder")
    parser.add_argument("--limit", type=int, default=5, help="torch environments on disk at once")
    parser.add_argument("--keep-free", type=float, default=20, metavar="GIB")
    parser.add_argument("--again", action="store_true", help="also what is known already")
    arguments = parser.parse_args()
    folder = corpus_folder(arguments.wheels)
    uv = Path(sys.executable).with_name("uv")
    environments = TorchEnvironments(
        arguments.environments.resolve(),
        limit=arguments.limit,
        keep_free=int(arguments.keep_free * GIB),
        uv=uv if uv.exists() else Path(shutil.which("uv") or "uv"),
    )
    truth = known_truth(read_corpus())
    wheels = select(read_corpus(), arguments.wheels_of)
    for (torch, python), due in rounds(wheels, truth, again=arguments.again).items():
        print(f"torch {torch}, Python {python}: {len(due)} wheels", flush=True)
        environment = environments.provide(torch, python)
        with Loader(environment) as loader:
            for wheel in due:
                meeting = meet(wheel, fetch(wheel, folder), environment, loader)
                failed = sum(not is_loaded(text) for text in meeting.members.values())
                print(f"  {wheel.filename}: {failed} of {len(meeting.members)} failed", flush=True)
                truth.wheels[wheel.filename].torch[str(torch)] = meeting
                write_truth(TRUTH_PATH, truth)


def known_truth(wheels: Iterable[CorpusWheel]) -> Truth:
    """Return what is known of the present corpus; what left it is dropped."""
    known = read_truth().wheels if TRUTH_PATH.exists() else {}
    kept = {}
    for wheel in wheels:
        none = WheelTruth(sha256=wheel.sha256, python=wheel.python, torch={})
        old = known.get(wheel.filename, none)
        usable = (old.sha256, old.python) == (wheel.sha256, wheel.python)
        names = [str(torch) for torch in wheel.torch_builds if usable]
        met = {name: old.torch[name] for name in names if name in old.torch}
        kept[wheel.filename] = msgspec.structs.replace(none, torch=met)
    return Truth(format=TRUTH_FORMAT, system=describe_system(), wheels=kept)


def describe_system() -> dict[str, str]:
    return {
        "distribution": platform.freedesktop_os_release()["PRETTY_NAME"],
        "glibc": os.confstr("CS_GNU_LIBC_VERSION") or "",
        "machine": platform.machine(),
    }


def rounds(
    wheels: Iterable[CorpusWheel], truth: Truth, *, again: bool
) -> Mapping[Round, list[CorpusWheel]]:
    """Return what is to be tried, one environment after the other."""
    due: dict[Round, list[CorpusWheel]] = defaultdict(list)
    for wheel in wheels:
        for torch in wheel.torch_builds:
            if again or str(torch) not in truth.wheels[wheel.filename].torch:
                due[torch, wheel.python_version].append(wheel)
    return dict(sorted(due.items()))


def meet(wheel: CorpusWheel, path: Path, environment: TorchEnvironment, loader: Loader) -> Meeting:
    """Install a wheel beside torch, load what is in it, and take it out again."""
    before = environment.installed()
    companions = companion_requirements(path, environment)
    if companions:
        environment.install(*companions)
    added = environment.installed().items() - before.items()
    environment.install("--no-deps", str(path))
    name, version, _, _ = parse_wheel_filename(wheel.filename)
    try:
        files = installed_files(environment.site, name, str(version))
        members = [member for member in files if is_shared_object(environment.site / member)]
        loaded, imported = loader.load(members, top_modules(files))
    finally:
        environment.uninstall([name, *(added_name for added_name, _ in added)])
    return Meeting(
        companions=tuple(sorted(f"{name}=={version}" for name, version in added)),
        imports=imported,
        members=loaded,
    )


def companion_requirements(path: Path, environment: TorchEnvironment) -> tuple[str, ...]:
    """Return what the wheel requires of NVIDIA's libraries."""
    with zipfile.ZipFile(path) as archive:
        names = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(next(names)).decode())
    system = {"python_version": str(environment.python), "extra": ""}
    requirements = (Requirement(text) for text in metadata.get_all("Requires-Dist", []))
    return tuple(
        sorted(
            str(one).partition(";")[0].strip()
            for one in requirements
            if one.name.startswith("nvidia-")
            and canonicalize_name(one.name) not in NO_LIBRARIES
            and (one.marker is None or one.marker.evaluate(system))
        )
    )


def installed_files(site: Path, name: str, version: str) -> tuple[str, ...]:
    """Return what RECORD lists, relative to site-packages."""
    for record in site.glob("*.dist-info/RECORD"):
        if canonicalize_name(record.parent.name.partition("-")[0]) == name:
            lines = record.read_text(encoding="utf-8").splitlines()
            return tuple(sorted(line.rsplit(",", 2)[0].strip('"') for line in lines if line))
    sys.exit(f"{name} {version} was not installed.")


def is_shared_object(path: Path) -> bool:
    """Tell shared objects of this machine from programs, GPU code and all else."""
    with path.open("rb") as stream:
        header = stream.read(20)
    if header[:4] != b"\x7fELF" or len(header) < 20:
        return False
    kind, machine = int.from_bytes(header[16:18], "little"), int.from_bytes(header[18:20], "little")
    # The program interpreter makes a program of a relocatable file; libraries may have one too.
    return (kind, machine) == (3, 62) and (".so" in path.name or not has_interpreter(path))


def has_interpreter(path: Path) -> bool:
    command = ["readelf", "--program-headers", "--wide", str(path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return "INTERP" in output


def top_modules(files: Iterable[str]) -> tuple[str, ...]:
    """Return the importable names at the top of what was installed."""
    found = set()
    for file in map(PurePosixPath, files):
        is_code = file.suffix in {".py", ".so"}
        if is_code and (len(file.parts) == 1 or file.parts[1] == "__init__.py"):
            found.add(file.parts[0].partition(".")[0])
    return tuple(sorted(name for name in found if name.isidentifier()))


class Loader:
    """A process beside one torch, with stubs of the driver that have all that was ever asked of it.

    Importing torch takes seconds: it is done again only where a wheel asks the driver for more.
    """

    def __init__(self, environment: TorchEnvironment) -> None:
        self._environment = environment
        self._kept = environment.folder.parent / "driver-symbols.txt"
        self._stubs = environment.folder / "stubs"
        self._symbols = driver_symbols(libraries_around(environment))
        if self._kept.exists():
            self._symbols |= frozenset(self._kept.read_text(encoding="utf-8").split())
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def load(
        self, members: Iterable[str], modules: Iterable[str]
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Return what came of loading each member and of importing each module, after torch."""
        site = self._environment.site
        paths = {str(site / member): member for member in members}
        process = self._provide(driver_symbols(map(Path, paths)))
        assert process.stdin is not None
        around = {path.name: str(path) for path in libraries_around(self._environment)}
        beside = around | {Path(path).name: path for path in paths}
        asked = {"members": list(paths), "beside": beside, "modules": list(modules)}
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        loaded: dict[str, str] = {}
        imported: dict[str, str] = {}
        while answer := self._answer(process):
            result = answer["result"].replace(f"{answer.get('member')}: ", "")
            result = short(result.replace(f"{site}/", "").replace(f"{site.parents[2]}/", ""))
            if "member" in answer:
                loaded[paths[answer["member"]]] = result
            else:
                imported[answer["module"]] = result
        return loaded, imported

    def _provide(self, needed: frozenset[str]) -> subprocess.Popen[str]:
        if self._process is None or not needed <= self._symbols:
            self._stop()
            self._symbols |= needed
            self._kept.write_text("\n".join(sorted(self._symbols)), encoding="utf-8")
            write_driver_stubs(self._stubs, self._symbols)
            self._process = self._start()
        return self._process

    def _start(self) -> subprocess.Popen[str]:
        folder = self._environment.folder
        scratch = folder / "scratch"
        scratch.mkdir(exist_ok=True)
        env = {
            "HOME": str(scratch),
            "LD_LIBRARY_PATH": str(self._stubs),
            "PATH": f"{folder}/bin:/usr/bin:/bin",
            "PYTHONNOUSERSITE": "1",
            "TMPDIR": str(scratch),
        }
        command = ["unshare", "--map-root-user", "--mount", "sh", "-ec", HIDE_TOOLKITS, "sh"]
        command += [str(self._environment.interpreter), str(LOADER)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, cwd=scratch, env=env, stdin=pipe, stdout=pipe, text=True
        )
        first = self._answer(process)
        assert first["torch"].partition("+")[0] == str(self._environment.torch.version), first
        return process

    def _answer(self, process: subprocess.Popen[str]) -> dict[str, str]:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            sys.exit(f"Loading beside torch {self._environment.torch} ended with {process.wait()}.")
        answer: dict[str, str] = json.loads(line)
        return answer

    def _stop(self) -> None:
        if self._process is not None:
            self._process.communicate()
            self._process = None


def libraries_around(environment: TorchEnvironment) -> tuple[Path, ...]:
    """Return the libraries of torch and of NVIDIA's wheels."""
    site = environment.site
    return (*site.glob("torch/lib/*.so*"), *site.glob("nvidia/**/lib/*.so*"))


def short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= KEPT_CHARACTERS else f"{line[: KEPT_CHARACTERS - 3]}..."


if __name__ == "__main__":
    main()
