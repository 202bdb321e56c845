"""The command that inspects wheels, one or many, without importing them."""

from __future__ import annotations

import dataclasses
import functools
import logging
import platform
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote, urlsplit

from packaging.tags import platform_tags
from packaging.utils import InvalidWheelFilename

from wheelyard.abi.libraries import folder_libraries, site_libraries
from wheelyard.abi.tables import SHIPPED_DIR, load_torch_table, own_tables_folder
from wheelyard.cli.output import print_json, print_lines
from wheelyard.errors import CheckError, UsageError, WheelyardError
from wheelyard.machine.cores import usable_cores
from wheelyard.machine.folders import cache_folder
from wheelyard.machine.gpu import find_driver
from wheelyard.machine.libc import find_libc
from wheelyard.model.cell import GpuArch, Machine, TorchBuild, parse_gpu_archs
from wheelyard.model.releases import default_torch_build, torch_release
from wheelyard.model.wheel_filename import parse_wheel_filename
from wheelyard.wheels.check import check as check_wheel
from wheelyard.wheels.check_here import Here
from wheelyard.wheels.describing import describe, verdict
from wheelyard.wheels.findings import Surroundings
from wheelyard.wheels.surrounding import tabled_surroundings, torch_candidates

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from wheelyard.abi.libraries import Library
    from wheelyard.abi.symbol_table import SymbolTable
    from wheelyard.network.opening import UserSettings
    from wheelyard.network.wheel_index import IndexWheel
    from wheelyard.wheels.findings import CheckReport

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What wheels are checked against; small, so that it can be sent to other processes."""

    torch: TorchBuild | None
    site: Path | None
    beside: tuple[Path, ...]
    gpus: tuple[GpuArch, ...]
    here: Here | None
    machine: Machine
    cache: Path
    env: Mapping[str, str]
    network: tuple[str, ...]
    """``KEY=VALUE`` words of the network's settings."""


def check(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Inspect wheels, all of them, and fail at the end if any does not pass."""
    question = _question(arguments, env)
    wheels = list(_wheels(arguments.wheels, question))
    if question.torch is not None and question.site is None and _table(question) is None:
        _provide_table(question, question.torch)
    reports = list(_check_all(wheels, question, jobs=arguments.jobs or usable_cores()))
    if arguments.json:
        print_json({"reports": [report.to_json() for report in reports]})
    else:
        _print(reports, in_full=arguments.verbose)
    failed = [report.filename for report in reports if not report.passed]
    if failed:
        msg = f"{len(failed)} of {len(reports)} wheels must not be used: {', '.join(failed)}"
        raise CheckError(msg)


def _print(reports: Sequence[CheckReport], *, in_full: bool) -> None:
    for report in reports:
        is_long = len(reports) == 1 or not report.passed or in_full
        print_lines(describe(report) if is_long else f"{report.filename}: {verdict(report)}")
    if len(reports) > 1:
        passed = sum(report.passed for report in reports)
        print_lines("", f"{passed} of {len(reports)} wheels passed")


def _wheels(targets: Iterable[str], question: Question) -> Iterator[Path | IndexWheel]:
    """Yield the wheels that are named, those of folders, and those of indexes."""
    for text in targets:
        if urlsplit(text).scheme.lower() in {"http", "https"}:
            yield from _wheels_of_url(text, question)
            continue
        target = Path(text)
        if target.is_dir():
            found = sorted(target.rglob("*.whl"))
            if not found:
                msg = f"There is no wheel in {target}."
                raise UsageError(msg)
            yield from found
        elif target.is_file():
            yield target
        else:
            msg = f"There is no wheel {target}."
            raise UsageError(msg)


def _wheels_of_url(url: str, question: Question) -> Iterator[Path | IndexWheel]:
    """Yield a wheel that the URL leads to, or all of the index that it leads to."""
    # Imported here, as everything of the network: files need none of it, and it takes 0.1 s.
    from wheelyard.network.wheel_index import IndexWheel  # noqa: PLC0415
    from wheelyard.network.whole_index import list_index  # noqa: PLC0415

    filename = unquote(urlsplit(url).path).rpartition("/")[2]
    if not filename.endswith(".whl"):
        settings = _settings(question)
        yield from list_index(url, settings=settings.indexes, env=settings.env)
        return
    try:
        _, version, build, tags = parse_wheel_filename(filename)
    except InvalidWheelFilename as error:
        raise UsageError(str(error)) from None
    yield IndexWheel(
        filename=filename, url=url, sha256=None, version=version, build=build, tags=tags
    )


def _question(arguments: argparse.Namespace, env: Mapping[str, str]) -> Question:
    site, here = arguments.torch_site, None
    torch = _torch_build(arguments.torch) if arguments.torch else None
    if arguments.here:
        here, site = _look_around(arguments, env)
    if site is not None and not (site / "torch").is_dir():
        msg = f"There is no torch in {site}. Give the folder that holds `torch`."
        raise UsageError(msg)
    gpus = parse_gpu_archs(arguments.gpu) if arguments.gpu else ()
    return Question(
        torch=torch,
        site=site,
        beside=tuple(arguments.beside or ()),
        gpus=(*gpus, *(here.gpus if here else ())),
        here=here,
        machine=cast("Machine", arguments.machine or platform.machine()),
        cache=cache_folder(env),
        env=dict(env),
        network=tuple(arguments.network or ()),
    )


def _torch_build(text: str) -> TorchBuild:
    """Return the torch build of a name; the index's default one where the CUDA is left out."""
    if "+" in text:
        return TorchBuild.parse(text)
    release = torch_release(TorchBuild.parse(f"{text}+cu130").version)
    build = default_torch_build(release.version, "x86_64")
    if build is None:
        msg = f"Which torch {text}? Write its CUDA too, as in 2.11.0+cu130."
        raise UsageError(msg)
    return build


def _look_around(arguments: argparse.Namespace, env: Mapping[str, str]) -> tuple[Here, Path | None]:
    """Describe this machine, and find the torch of its Python."""
    from wheelyard.toolchain.torch_environment import find_foreign_torch  # noqa: PLC0415

    python = arguments.python or Path(env.get("VIRTUAL_ENV", sys.prefix), "bin", "python")
    version, build, site = find_foreign_torch(python, env=env)
    logger.info("torch %s of %s", build, python)
    driver = find_driver(env)
    gpus = () if driver is None else tuple(GpuArch.parse(gpu.arch) for gpu in driver.gpus)
    return Here(
        python=version,
        interpreter=python,
        machine=cast("Machine", platform.machine()),
        libc=find_libc(),
        platforms=tuple(platform_tags()),
        driver=driver,
        gpus=tuple(dict.fromkeys(gpus)),
    ), site


def _provide_table(question: Question, torch: TorchBuild) -> None:
    """Make the symbol table of the torch build, where there is none, before it is asked for."""
    # Imported here: it takes 0.2 s, and nearly always the table is there.
    from wheelyard.abi.making_tables import provide_torch_table  # noqa: PLC0415

    settings = _settings(question)
    provide_torch_table(
        torch,
        question.machine,
        cache=question.cache,
        settings=settings.indexes,
        env=settings.env,
        say=logger.info,
    )


def _settings(question: Question) -> UserSettings:
    from wheelyard.network.opening import open_settings  # noqa: PLC0415

    return open_settings(question.env, options=question.network)


def _check_all(
    wheels: Sequence[Path | IndexWheel], question: Question, *, jobs: int
) -> Iterator[CheckReport]:
    """Check the wheels, several at a time, and yield the reports in their order."""
    ask = functools.partial(_check_one, question=question)
    if len(wheels) == 1 or jobs == 1:
        yield from map(ask, wheels)
        return
    import concurrent.futures  # noqa: PLC0415 - one wheel needs neither
    import multiprocessing  # noqa: PLC0415

    # Not forked: this process may have threads of its own, which a fork would leave behind.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(min(jobs, len(wheels)), context) as pool:
        yield from pool.map(ask, wheels)


def _check_one(wheel: Path | IndexWheel, question: Question) -> CheckReport:
    with tempfile.TemporaryDirectory(prefix="wheelyard-check-") as scratch:
        return check_wheel(
            wheel if isinstance(wheel, Path) else _download(wheel, question, Path(scratch)),
            expectation=None,
            surroundings=_surroundings(question),
            candidates=_candidates(question),
            here=question.here,
            gpus=question.gpus,
            scratch=Path(scratch),
        )


def _download(wheel: IndexWheel, question: Question, folder: Path) -> Path:
    from wheelyard.network.wheel_download import download_wheel  # noqa: PLC0415

    settings = _settings(question)
    return download_wheel(
        wheel.url,
        folder=folder,
        sha256=wheel.sha256,
        settings=settings.indexes,
        env=settings.env,
    ).path


def _surroundings(question: Question) -> Surroundings | None:
    beside = _beside(question)
    if question.site is not None:
        return Surroundings(
            torch=_name_of(question.site),
            machine=question.machine,
            libraries=site_libraries(question.site),
            interpreter=question.here.interpreter if question.here else None,
            beside=beside,
            is_here=question.here is not None,
        )
    table = _table(question)
    if table is None:
        return None
    return tabled_surroundings(table, torch=str(question.torch), beside=beside)


def _table(question: Question) -> SymbolTable | None:
    if question.torch is None:
        return None
    folders = (SHIPPED_DIR, own_tables_folder(question.cache))
    return load_torch_table(question.torch, question.machine, folders)


def _candidates(question: Question) -> Iterator[Surroundings]:
    own_tables = own_tables_folder(question.cache)
    return torch_candidates(question.machine, own_tables=own_tables, beside=_beside(question))


def _beside(question: Question) -> tuple[Library, ...]:
    return tuple(library for folder in question.beside for library in folder_libraries(folder))


def _name_of(site: Path) -> str:
    from wheelyard.toolchain.torch_environment import read_torch_build  # noqa: PLC0415

    try:
        return str(read_torch_build(site)[0])
    except WheelyardError:
        return str(site)
