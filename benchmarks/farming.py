"""What the benchmarks of building have in common: a small farm, caches, fills, bare builds."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelyard.cli.arguments import make_parser
from wheelyard.cli.session import open_farm, open_workshop
from wheelyard.machine.cores import usable_cores
from wheelyard.model.record import Built
from wheelyard.planning.plan import select_jobs, wanted_jobs
from wheelyard.progress import PlainProgress
from wheelyard.sources.patch import apply_patches
from wheelyard.stages import toolchain_for
from wheelyard.toolchain.preflight import header_folders
from wheelyard.yard.store import open_yard

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from wheelyard.model.job import Job
    from wheelyard.model.record import BuildRecord

ROOT = Path(__file__).parents[1]
WHEELYARD = [sys.executable, "-m", "wheelyard"]
_DEVICE_KINDS = ("CUDA", "PTX", "CUBIN")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Took:
    """Seconds of the clock, and of the processors in all processes that were started."""

    wall: float
    cpu: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """A farm, caches and yards that nobody else uses, below one folder."""

    folder: Path

    @property
    def farm(self) -> Path:
        return self.folder / "farm"

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "WHEELYARD_CACHE": str(self.folder / "cache")}

    def write_farm(
        self,
        recipes: Sequence[str],
        *,
        pythons: Sequence[str],
        torches: Sequence[str],
        gpu_archs: Sequence[str],
    ) -> None:
        """Copy the recipes, with those GPU targets, and want those cells and no others."""
        shutil.rmtree(self.farm, ignore_errors=True)
        for name in ("patches", "locks"):
            shutil.copytree(ROOT / name, self.farm / name)
        (self.farm / "recipes").mkdir()
        for path in (ROOT / "recipes").glob("*.py"):
            shutil.copy(path, self.farm / "recipes")
        for name in recipes:
            text = (ROOT / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
            table = f'[gpu-archs]\n"12.0" = {json.dumps(list(gpu_archs))}\n\n'
            text = re.sub(r"(?ms)^\[gpu-archs\]\n.*?(?=^\[)", table, text)
            (self.farm / "recipes" / f"{name}.toml").write_text(text, encoding="utf-8")
            shutil.copytree(ROOT / "recipes" / name, self.farm / "recipes" / name)
        axes = {"python": list(pythons), "torch": list(torches), "machine": ["x86_64"]}
        lines = [f"{name} = {json.dumps(values)}" for name, values in axes.items()]
        text = "\n".join(["[axes]", *lines, ""])
        (self.farm / "matrix.toml").write_text(text, encoding="utf-8")

    def jobs(self, select: str) -> tuple[Job, ...]:
        farm = open_farm(self._arguments("list"))
        return select_jobs(wanted_jobs(farm.recipes, farm.matrix), select)

    def fetch(self, select: str) -> Took:
        """Bring everything into the caches, so that builds are measured and not downloads."""
        return self._run("fetch", "--select", select)

    def forget_compiles(self) -> None:
        shutil.rmtree(self.folder / "cache" / "compile", ignore_errors=True)

    def fill(self, yard: str, select: str = "*", *options: str) -> Took:
        """Run ``wheelyard fill`` into that yard."""
        return self._run("fill", select, "--yard", str(self.folder / yard), *options)

    def records(self, yard: str) -> dict[str, BuildRecord]:
        records = open_yard(self.folder / yard).records()
        return {record.identifier: record for record in records}

    def events(self, yard: str) -> list[dict[str, Any]]:
        """Return the events of the yard's last fill."""
        last = max((self.folder / yard / "logs" / "fills").iterdir())
        lines = (last / "events.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def build_bare(self, job: Job) -> Took:
        """Run the build frontend alone with the very same parts: no sandbox, no cache."""
        arguments = self._arguments("build", str(job.version.recipe))
        env = {**os.environ, **self.env}
        workshop = open_workshop(arguments, open_farm(arguments), env)
        toolchain = toolchain_for(job, workshop, PlainProgress())
        folder = self.folder / "bare"
        shutil.rmtree(folder, ignore_errors=True)
        source = folder / "source"
        apply_patches(
            workshop.fetch(job),
            [workshop.farm.patch_path(job.version.recipe, patch) for patch in job.patches],
            tree=source,
            run_python=_run_python,
            env=env,
        )
        requirements, site = toolchain.requirements, toolchain.torch.site
        includes = [toolchain.toolkit.path / "include" / "cccl", *header_folders(toolchain.torch)]
        path = Path(toolchain.toolkit.path)
        libraries = [toolchain.torch.path / "links", path / "lib64", path / "lib64" / "stubs"]
        variables = {
            "CPLUS_INCLUDE_PATH": ":".join(map(str, includes)),
            "CUDA_HOME": str(path),
            "HOME": str(folder),
            "LIBRARY_PATH": ":".join(map(str, libraries)),
            "MAX_JOBS": str(usable_cores()),
            "PATH": f"{requirements}/bin:/usr/bin:/bin",
            "PYTHONPATH": f"{requirements}:{site}",
            "TORCH_CUDA_ARCH_LIST": ";".join(map(str, job.gpu_archs)),
            "WHEELYARD_GENCODE": " ".join(
                f"-gencode arch=compute_{arch.number},code=sm_{arch.number}"
                for arch in job.gpu_archs
            ),
            **dict(job.version.build.environment),
        }
        command = [str(toolchain.interpreter.executable), "-s", "-m", "build", "--wheel"]
        command += ["--no-isolation", "--skip-dependency-check", str(source)]
        return measure(command, env=variables, log=self.folder / "bare.log")

    def _arguments(self, *words: str) -> argparse.Namespace:
        return make_parser().parse_args([*words, "--farm", str(self.farm)])

    def _run(self, *words: str) -> Took:
        command = [*WHEELYARD, *words, "--farm", str(self.farm)]
        return measure(command, env=self.env, log=self.folder / "log.txt")


def _run_python(script: Path, tree: Path) -> None:
    subprocess.run([sys.executable, script, tree], check=True, stdout=subprocess.DEVNULL)


def measure(command: Sequence[str], *, env: dict[str, str], log: Path) -> Took:
    """Run a command to its end; what it prints goes to ``log``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    with log.open("ab") as output:
        subprocess.run(command, check=True, env=env, stdout=output, stderr=output, cwd=ROOT)
    wall = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Took(
        wall=wall,
        cpu=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    )


def build_cpu(record: BuildRecord) -> float:
    assert isinstance(record.origin, Built)
    return record.origin.build.cpu_seconds


def device_misses(record: BuildRecord) -> dict[str, int]:
    """Return how often device compilers ran: PTX is cicc's work, CUBIN is that of ptxas."""
    assert isinstance(record.origin, Built)
    misses = record.origin.build.cache_misses
    return {kind: misses.get(kind, 0) for kind in _DEVICE_KINDS}


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table in Markdown, so that it can go into the documents as it is."""
    print(f"\n### {title}\n\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")
