"""What reuse saves: across Pythons, across torch builds, after the yard was emptied.

``reuse.py FOLDER pythons`` and so on; FOLDER keeps a farm and caches of their own between runs.
Every table is one run on one machine, to be read as ratios. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

from farming import Bench, Took, build_cpu, device_misses, print_table

from wheelyard.machine.cores import usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wheelyard.model.record import BuildRecord

TORCH = "2.11.0+cu130"


def main() -> None:
    """Measure what is asked for and print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="for caches and yards, some 20 GB")
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--recipe", default="causal-conv1d")
    parser.add_argument("--version", default="1.7.0")
    parser.add_argument("--pythons", default="3.10,3.11,3.12,3.13")
    parser.add_argument("--torches", default="2.11.0+cu130,2.12.1+cu130,2.13.0+cu130")
    parser.add_argument("--gpu-archs", default="")
    parser.add_argument(
        "--bare", type=int, help="how many of the bare builds to run, which take longest (all)"
    )
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print(f"{platform.machine()}, {usable_cores()} cores, Python {platform.python_version()}")
    TABLES[arguments.table](arguments)


def compare_pythons(arguments: argparse.Namespace) -> None:
    """One Python, it again with an emptied yard, all together, and each one bare."""
    bench = Bench(folder=arguments.folder.absolute())
    select = f"{arguments.recipe}-{arguments.version}-*"
    pythons = arguments.pythons.split(",")
    archs = (arguments.gpu_archs or "9.0").split(",")
    write = _writer(bench, arguments, archs)
    write(pythons, [TORCH])
    bench.fetch(select)
    write(pythons[:1], [TORCH])
    alone = _cold(bench, select)
    (first,) = bench.records("yard").values()
    shutil.rmtree(bench.folder / "yard")
    again = bench.fill("yard", select)
    (remade,) = bench.records("yard").values()
    same = "the same wheel" if remade.sha256 == first.sha256 else "ANOTHER WHEEL"
    write(pythons, [TORCH])
    together = _cold(bench, select)
    records = bench.records("yard")
    rows: list[Sequence[object]] = [
        (f"{pythons[0]} alone, empty cache", *_figures(alone, alone), _misses(records, pythons[0])),
        (
            "the same again, yard emptied",
            *_figures(again, alone),
            f"{same}; {_stages(remade.seconds)}",
        ),
        (f"{len(pythons)} Pythons, empty cache", *_figures(together, alone), ""),
    ]
    rows += [(f"of these {python}", "", "", "", "", _misses(records, python)) for python in pythons]
    bare = [bench.build_bare(job) for job in bench.jobs(select)[: arguments.bare]]
    if bare:
        part = len(bare) / len(pythons)
        whole = Took(
            wall=sum(one.wall for one in bare) / part, cpu=sum(one.cpu for one in bare) / part
        )
        counted = f"{len(bare)} run, times {1 / part:g}" if part < 1 else "one by one"
        rows.append((f"{len(pythons)} bare, {counted}", *_figures(whole, alone), ""))
        rows.append(("together, of bare", *_figures(together, whole), ""))
    title = f"{arguments.recipe} {arguments.version}, torch {TORCH}, {' '.join(archs)}"
    print_table(title, ("build", *_FIGURES, "compiled: CUDA, PTX, CUBIN"), rows)


def compare_torches(arguments: argparse.Namespace) -> None:
    """One torch build after the other on one toolkit."""
    bench = Bench(folder=arguments.folder.absolute())
    select = f"{arguments.recipe}-{arguments.version}-*"
    python = arguments.pythons.split(",")[0]
    torches = arguments.torches.split(",")
    archs = (arguments.gpu_archs or "8.0,9.0,10.0").split(",")
    write = _writer(bench, arguments, archs)
    write([python], torches)
    bench.fetch(select)
    bench.forget_compiles()
    shutil.rmtree(bench.folder / "yard", ignore_errors=True)
    rows: list[Sequence[object]] = []
    first: Took | None = None
    for torch in torches:
        write([python], [torch])
        took = bench.fill("yard", select)
        first = first or took
        label = torch.replace("+", "-")
        rows.append((torch, *_figures(took, first), _misses(bench.records("yard"), label)))
    title = f"{arguments.recipe} {arguments.version}, Python {python}, {' '.join(archs)}"
    print_table(title, ("torch", *_FIGURES, "compiled: CUDA, PTX, CUBIN"), rows)


def measure_environment(arguments: argparse.Namespace) -> None:
    """What another cell's environment takes when everything was downloaded before."""
    bench = Bench(folder=arguments.folder.absolute())
    select = f"{arguments.recipe}-{arguments.version}-*"
    pythons = arguments.pythons.split(",")
    write = _writer(bench, arguments, ["9.0"])
    write(pythons, [TORCH])
    bench.fetch(select)
    rows = []
    for python in pythons[1:]:
        label = f"cp{python.replace('.', '')}"
        for path in _environments(bench, label):
            shutil.rmtree(path)
        write([python], [TORCH])
        took = bench.fetch(select)
        new = sum(_own_bytes(path) for path in _environments(bench, label))
        rows.append((python, f"{took.wall:.1f} s", f"{new / 1e6:.0f} MB"))
    print_table("Environment of a further cell", ("Python", "wall", "new on the disk"), rows)


def _environments(bench: Bench, label: str) -> list[Path]:
    return [
        path
        for name in ("torch", "requirements")
        for path in (bench.folder / "cache" / name).glob(f"[!.]*-{label}-*")
    ]


def _own_bytes(folder: Path) -> int:
    """Return what the folder takes on the disk beside the files that uv's cache has too."""
    found = [path.lstat() for path in folder.rglob("*")]
    own = (one for one in found if stat.S_ISDIR(one.st_mode) or one.st_nlink == 1)
    return sum(one.st_blocks * 512 for one in own)


_FIGURES = ("wall, s", "of the first", "CPU, s", "of the first")


def _writer(
    bench: Bench, arguments: argparse.Namespace, archs: Sequence[str]
) -> Callable[[Sequence[str], Sequence[str]], None]:
    def write(pythons: Sequence[str], torches: Sequence[str]) -> None:
        bench.write_farm([arguments.recipe], pythons=pythons, torches=torches, gpu_archs=archs)

    return write


def _cold(bench: Bench, select: str) -> Took:
    bench.forget_compiles()
    shutil.rmtree(bench.folder / "yard", ignore_errors=True)
    return bench.fill("yard", select)


def _figures(took: Took, first: Took) -> tuple[str, str, str, str]:
    return (
        f"{took.wall:.1f}",
        f"{took.wall / first.wall:.2f}",
        f"{took.cpu:.1f}",
        f"{took.cpu / first.cpu:.2f}",
    )


def _misses(records: dict[str, BuildRecord], part: str) -> str:
    """Return how often device code was compiled for the one record that ``part`` names."""
    label = f"cp{part.replace('.', '')}" if part.count(".") == 1 else part
    (record,) = (record for name, record in records.items() if label in name)
    return " ".join(map(str, device_misses(record).values())) + f" ({build_cpu(record):.0f} CPU s)"


def _stages(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in seconds.items() if value >= 0.1)


TABLES = {
    "pythons": compare_pythons,
    "torches": compare_torches,
    "environment": measure_environment,
}

if __name__ == "__main__":
    main()
