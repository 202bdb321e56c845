"""The arguments of every command, in one place."""

from __future__ import annotations

import argparse
import re
import textwrap
from pathlib import Path
from typing import NoReturn

import wheelyard
from wheelyard.cli.examples import epilog
from wheelyard.errors import UsageError
from wheelyard.model.cell import MACHINES
from wheelyard.model.words import nearest

LEVELS = ("imported", "ran-on-gpu")
"""As the records have them, which take long to import."""

HERE = Path()
"""What ``--yard`` is where it stands alone: the yard that other commands take without it."""

_EPILOG = """\
examples:
  # what can be built
  wheelyard list

  # the best cell for this machine; then all that is missing, many jobs at once
  wheelyard build causal-conv1d
  wheelyard fill '*-cp312-*' --deadline 5h

  # which combinations have all of these, and the best of them installed here
  wheelyard find flash-attn 'megatron-core[mlm]'
  wheelyard get flash-attn 'megatron-core[mlm]' --into env

  # will this wheel load here?
  wheelyard check some.whl --here

`wheelyard COMMAND --help` has examples of each.

exit codes:
  0 done, 1 error, 2 usage, 3 bad recipe or matrix, 4 unknown name,
  5 impossible cell, 6 machine lacks something, 7 not fetched, 8 wrong bytes,
  9 patch, 10 compile, 11 repair, 12 check, 13 smoke test, 14 yard, 15 disk,
  16 lock missing or stale, 17 some jobs of a fill failed,
  18 deadline of a fill, 19 target of publishing,
  20 would break an environment, 130 interrupted
"""


_UNKNOWN = re.compile(
    r"argument (?P<what>\S+): invalid choice: '(?P<word>.*)' \(choose from (?P<known>.*)\)"
)


class _Parser(argparse.ArgumentParser):
    """Says of a mistake what it is and where help is, and leaves out all that is right."""

    def error(self, message: str) -> NoReturn:
        found = _UNKNOWN.fullmatch(message)
        if found is not None:
            known = re.findall(r"[\w-]+", found["known"])
            what = found["what"].lower()
            hint = nearest(found["word"], known) or f" Known: {', '.join(known)}."
            message = f"there is no {what} {found['word']!r}.{hint}"
        self.exit(
            UsageError.exit_code, f"{self.prog}: {message}\n`{self.prog} --help` shows more.\n"
        )


class _Help(argparse.RawDescriptionHelpFormatter):
    """Leaves the texts as they are, and room for the longest command beside its help."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog)
        self._action_max_length = len("    completion")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser: argparse.ArgumentParser = _Parser(
        prog="wheelyard",
        description="Build, check, test and serve CUDA extension wheels.",
        epilog=_EPILOG,
        formatter_class=_Help,
    )
    parser.add_argument("--version", action="version", version=wheelyard.__version__)
    add = _Commands(parser)
    _add_planning_commands(add)
    _add_building_commands(add)
    _add_fill(add)
    _add_wheel_commands(add)
    _add_yard_commands(add)
    _add_user_commands(add)
    _add_upkeep_commands(add)
    _add_machine_commands(add)
    return parser


class _Commands:
    """Adds commands, each with its examples and the options that all of them have."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
        self._common = _common()

    def __call__(
        self,
        name: str,
        text: str,
        *parents: argparse.ArgumentParser,
        common: argparse.ArgumentParser | None = None,
    ) -> argparse.ArgumentParser:
        return self._commands.add_parser(
            name,
            help=text,
            description=textwrap.fill(text, width=78),
            epilog=epilog(name),
            formatter_class=_Help,
            parents=(common or self._common, *parents),
        )


def _add_planning_commands(add: _Commands) -> None:
    add(
        "list",
        "Show what can be built: recipes and their versions. With --yard, the wheels.",
        common=_common(yard_alone=True),
    )
    matrix = add("matrix", "Show the cells: wanted ones, and impossible ones with the reason.")
    matrix.add_argument("recipe", nargs="?", help="only this recipe")
    matrix.add_argument("--impossible", action="store_true", help="show the impossible ones too")
    add("lint", "Look for mistakes in all recipes and in what belongs to them.")
    plan = add("plan", "Show the jobs of the matrix: missing, probed, stale or done.")
    _add_selection(plan)
    plan.add_argument(
        "--missing", action="store_true", help="wanted minus existing, wherever it exists"
    )
    plan.add_argument("--limit", type=int, metavar="N", help="with --missing: at most so many jobs")
    plan.add_argument(
        "--engine", choices=("github",), help="with --missing: as this engine takes it"
    )
    plan.add_argument("--digest", metavar="HEX", help="refuse any other plan for that engine")
    plan.add_argument(
        "--outputs", type=Path, metavar="FILE", help="append what the workflow's later jobs take"
    )
    _add_places(plan)


def _add_building_commands(add: _Commands) -> None:
    cell, making = _cell(), _making()
    text = "Bring everything that a build needs into the caches, so that it needs no network."
    fetch = add("fetch", text, cell, making)
    fetch.add_argument("recipe", nargs="?", help="one job of this recipe; all jobs without it")
    fetch.add_argument("--select", default="*", metavar="PATTERN", help="of all jobs, only these")
    fetch.add_argument("--sources", action="store_true", help="no torch, toolkit and the like")
    text = "Build one wheel, check it, try it, and put it into the yard."
    build = add("build", text, cell, making)
    _add_what_to_build(build)
    build.add_argument(
        "--events", metavar="FD", help="write JSON lines to this descriptor; - is stdout"
    )
    text = "Compile a job's most telling units only, to see whether it would build; no wheel."
    _add_what_to_build(add("probe", text, cell, making))
    _add_new(add, cell, making)


def _add_upkeep_commands(add: _Commands) -> None:
    update = add("update", "Make the locks that the farm needs, or tables of torch's symbols.")
    update.add_argument(
        "kind",
        nargs="?",
        choices=("torch", "toolkit", "redist", "build", "runtime", "symbols", "releases"),
        help="only this kind of lock; or the symbol tables; or what is new outside",
    )
    update.add_argument("name", nargs="?", help="only this one, for example 2.11.0+cu130")
    update.add_argument("--again", action="store_true", help="also those that are up to date")
    for name, text in (
        ("explain", "Say how a job stands: its inputs, its record, what changed."),
        ("log", "Print the log of a job's last build."),
    ):
        add(name, text).add_argument("identifier", help="a job's identifier")
    clean = add("clean", "Show what the caches hold, and delete what is asked for.")
    clean.add_argument(
        "what", nargs="*", help="compile, foreign, requirements, sandbox, sources, toolkits, ..."
    )
    clean.add_argument("--all", action="store_true", help="everything but the yard")
    clean.add_argument("--dry-run", action="store_true", help="only say what would go")


def _add_machine_commands(add: _Commands) -> None:
    doctor = add("doctor", "Say what this machine can build, and what it lacks.")
    doctor.add_argument(
        "part", nargs="?", choices=("network",), help="measure the mirrors and proxies instead"
    )
    doctor.add_argument(
        "--python", type=Path, metavar="PYTHON", help="the environment to look into, too"
    )
    doctor.add_argument(
        "--lang",
        dest="language",
        choices=("en", "zh"),
        help="default: that of the locale",
    )
    add("schema", "Print the JSON schema of recipe and matrix files.")
    text = "Print the script that lets a shell complete the words of wheelyard."
    completion = add("completion", text)
    completion.add_argument("shell", choices=("bash", "fish", "zsh"))
    text = "with --current: before it"
    completion.add_argument("words", nargs="*", default=[], metavar="WORD", help=text)
    text = "print what a word may become that begins so, as the scripts ask"
    completion.add_argument("--current", metavar=":TEXT", help=text)


def _add_what_to_build(build: argparse.ArgumentParser) -> None:
    build.add_argument("recipe", nargs="?", help="for example causal-conv1d")
    build.add_argument("--job", metavar="ID", help="this very job, in place of recipe and cell")


def _add_new(add: _Commands, *parents: argparse.ArgumentParser) -> None:
    text = "Write a recipe for a package that has none, build it, and say what is left to do."
    new = add("new", text, *parents)
    new.add_argument("name", nargs="?", help="of a source distribution on the Python index")
    new.add_argument("--git", metavar="URL", help="take this repository in place of the index")
    new.add_argument("--ref", metavar="REF", help="with --git: a tag, a branch or a commit")
    new.add_argument("--again", action="store_true", help="also where it is there already")
    new.add_argument("--no-build", action="store_true", help="only write the files")


def _add_selection(command: argparse.ArgumentParser) -> None:
    command.add_argument("select", nargs="*", help="patterns over identifiers, or identifiers")
    command.add_argument(
        "--select",
        dest="patterns",
        action="append",
        default=[],
        metavar="PATTERN",
        help="a further pattern over identifiers",
    )


def _add_places(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("what exists beside the yard; plan: with --missing")
    group.add_argument(
        "--index", action="append", default=[], metavar="URL", help="a published index of the farm"
    )
    group.add_argument(
        "--trust-index",
        action="store_true",
        help="believe an index that is not there yet, or that lost wheels",
    )
    group.add_argument("--upstream", action="store_true", help="list upstream's releases")
    group.add_argument(
        "--judge", action="store_true", help="look at upstream's wheels that may be the ones"
    )


def _add_user_commands(add: _Commands) -> None:
    find = add("find", "Say which combinations have every package, and why the others do not.")
    _add_question(find)
    find.add_argument("--here", action="store_true", help="this machine's Pythons, driver and GPUs")
    text = "Put everything that a combination installs into one archive, with an installer."
    bundle = add("bundle", text)
    _add_question(bundle)
    bundle.set_defaults(here=False)
    bundle.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    bundle.add_argument("--interpreter", action="store_true", help="put Python itself in, too")
    bundle.add_argument("--parts", metavar="SIZE", help="split it, for example into 4G or 700M")
    bundle.add_argument("--base", type=Path, metavar="FILE", help="leave out what this one has")
    bundle.add_argument("--sign", type=Path, metavar="KEY", help="private key of OpenSSH")
    get = add("get", "Find the best combination for this machine and install it.")
    _add_question(get)
    get.set_defaults(here=True)
    get.add_argument(
        "--into", type=Path, metavar="ENV", help="a new or existing one; default: the active one"
    )
    _add_installing(get)
    install = add("install", "Install a bundle without network, all or nothing.")
    install.add_argument("bundle", type=Path, help="the archive, a part of it, or its folder")
    install.add_argument("--into", type=Path, metavar="ENV", help="a new or existing environment")
    install.add_argument("--base", type=Path, metavar="FILE", help="for a delta: the earlier one")
    install.add_argument("--python", type=Path, metavar="PYTHON", help="of a new environment")
    install.add_argument("--cell", default="", metavar="ID", help="of a bundle with several")
    install.add_argument(
        "--allowed-signers", type=Path, metavar="FILE", help="whose signatures count, as ssh has it"
    )
    install.add_argument("--verify", action="store_true", help="verify every byte, install nothing")
    _add_installing(install)
    uninstall = add("uninstall", "Take out of an environment what was installed last.")
    uninstall.add_argument("into", type=Path, metavar="ENV")


def _add_installing(command: argparse.ArgumentParser) -> None:
    command.add_argument("--with", dest="tool", choices=("uv", "pip"), default="uv")
    command.add_argument("--no-smoke", action="store_true", help="do not try what was installed")
    command.add_argument("--force", action="store_true", help="install what does not fit, too")


def _add_question(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "requirements", nargs="+", metavar="REQ", help="for example 'megatron-core[mlm]==0.16.1'"
    )
    cells = command.add_argument_group("which combinations; default: those of the matrix")
    cells.add_argument(
        "--python", action="append", metavar="X.Y", help="for example 3.12; may be repeated"
    )
    cells.add_argument(
        "--torch", action="append", metavar="V", help="for example 2.11.0; may be repeated"
    )
    cells.add_argument("--cuda", metavar="X.Y", help="for example 13.0")
    cells.add_argument("--machine", choices=MACHINES, help="default: this one's")
    cells.add_argument("--glibc", metavar="X.Y", help="of where it will run; default: this one's")
    cells.add_argument("--gpu-archs", metavar="LIST", help="GPUs it has to run on, as in 9.0")
    cells.add_argument("--driver", metavar="V", help="of where it will run, as in 580.65.06")
    places = command.add_argument_group("where to look beside the yard")
    places.add_argument(
        "--index", action="append", default=[], metavar="URL", help="an index that was published"
    )
    places.add_argument("--upstream", action="store_true", help="list upstream's releases")


def _add_fill(add: _Commands) -> None:
    fill = add("fill", "Build what is missing or stale, many jobs at once.")
    _add_selection(fill)
    _add_places(fill)
    fill.add_argument(
        "--engine",
        choices=("local", "slurm", "github"),
        default="local",
        help="where it is built (default: on this machine)",
    )
    _add_engines(fill)
    fill.add_argument("--limit", type=int, metavar="N", help="at most so many jobs")
    fill.add_argument("--deadline", metavar="DURATION", help="be over by then, as in 90m or 5h")
    fill.add_argument(
        "--start-late",
        action="store_true",
        help="also start what will not end by then: what it compiles is kept",
    )
    budget = fill.add_argument_group("the budget of all jobs together; default: what is usable")
    budget.add_argument("--jobs", type=int, metavar="CORES", help="cores for compiles")
    budget.add_argument("--memory", type=float, metavar="GIB", help="memory for all jobs")
    making = fill.add_argument_group("how each is built")
    _add_making(making)


def _add_engines(fill: argparse.ArgumentParser) -> None:
    group = fill.add_argument_group("engines that are elsewhere")
    group.add_argument("--status", action="store_true", help="show what was submitted")
    group.add_argument("--cancel", action="store_true", help="end what was submitted")
    group.add_argument("--log", metavar="ID", help="what the task of this job said")
    group.add_argument("--detach", action="store_true", help="submit, and follow another time")
    group.add_argument(
        "--slurm", action="append", default=[], metavar="KEY=VALUE", help="as [slurm] has it"
    )
    group.add_argument("--repository", metavar="OWNER/NAME", help="github: whose workflow")
    group.add_argument("--ref", default="main", help="github: its branch (default: main)")
    group.add_argument(
        "--poll", type=float, default=30.0, metavar="SECONDS", help="github: how often to ask"
    )


def _add_wheel_commands(add: _Commands) -> None:
    check = add("check", "Tell whether wheels will load, without importing them.")
    check.add_argument(
        "wheels", nargs="+", metavar="WHEEL", help="files, folders of wheels, or an index's URL"
    )
    beside = check.add_argument_group("beside what; left out: every torch build that is known")
    beside.add_argument("--torch", metavar="V", help="for example 2.11.0 or 2.6.0+cu124")
    beside.add_argument("--torch-site", type=Path, metavar="DIR", help="the folder of a torch")
    beside.add_argument(
        "--beside", type=Path, action="append", metavar="DIR", help="other wheels, installed there"
    )
    beside.add_argument(
        "--gpu", metavar="LIST", help="it has to run on, for example 9.0 or 8.0;9.0"
    )
    beside.add_argument("--machine", choices=MACHINES, help="default: this one's")
    beside.add_argument(
        "--here", action="store_true", help="this machine's Python, torch, glibc, driver and GPUs"
    )
    beside.add_argument("--python", type=Path, help="with --here: the Python to install it in")
    check.add_argument("--jobs", type=int, metavar="N", help="wheels at once (default: the cores)")
    adopt = add("adopt", "Take a wheel that somebody else built into the yard, if it holds.")
    adopt.add_argument("wheel", help="a URL or a file")
    adopt.add_argument("--sha256", metavar="HEX", help="refuse any other file")
    adopt.add_argument("--recipe", metavar="NAME", help="refuse a wheel of any other")
    adopt.add_argument("--python", metavar="X.Y", help="only where the wheel leaves it open")
    adopt.add_argument("--torch", metavar="V", help="default: the matrix's first that it fits")
    adopt.add_argument("--sandbox", choices=("bubblewrap", "unshare", "none"))
    smoke = add("smoke", "Try a wheel of the yard on this machine, or take in a report.")
    smoke.add_argument("identifier", help="a job's identifier")
    smoke.add_argument(
        "--report", type=Path, help="JSON that smoke.py wrote on another machine, to be taken in"
    )
    smoke.add_argument("--on-gpu", action="store_true", help="an import alone is not enough")
    smoke.add_argument("--sandbox", choices=("bubblewrap", "unshare", "none"))
    accept = add("accept", "Take the wheels of a plan out of folders that others built.")
    accept.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="yards")
    accept.add_argument(
        "--plan", type=Path, required=True, help="what `plan --engine github` printed"
    )


def _add_yard_commands(add: _Commands) -> None:
    add("index", "Write the yard's index anew; only pages that changed are written.")
    add("page", "Write the page on which people find wheels, at the top of the index.")
    wheel = "its filename, path or identifier"
    show = add("show", "Show all that the yard knows of a wheel, and how to install it.")
    show.add_argument("wheel", metavar="WHEEL", help=wheel)
    yank = add("yank", "Let nobody install wheels any more who does not pin them.")
    yank.add_argument("wheels", nargs="+", metavar="WHEEL", help=wheel)
    yank.add_argument("--reason", default="", metavar="TEXT", help="installers show it")
    yank.add_argument("--at", metavar="TARGET", help="in this published index, not in the yard")
    yank.add_argument("--undo", action="store_true", help="take the mark away again")
    remove = add("remove", "Remove wheels from the yard, with all that is known of them.")
    remove.add_argument("wheels", nargs="+", metavar="WHEEL", help=wheel)
    prune = add("prune", "Remove from the yard what its index does not name.")
    prune.add_argument(
        "--superseded", action="store_true", help="also wheels of which a higher revision is there"
    )
    prune.add_argument("--dry-run", action="store_true", help="only say what would go")
    verify = add("verify", "Verify wheels, a yard or a published folder, without network.")
    verify.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="default: the yard")
    text = "Sigstore's trusted root: verify signatures too, offline"
    verify.add_argument("--trust-root", type=Path, metavar="FILE", help=text)
    text = "the repository whose workflow has to have signed"
    verify.add_argument("--signed-by", metavar="URL", help=text)
    publish = add("publish", "Publish wheels of the yard, and an index of them last.")
    text = "where the index goes: a folder, or s3://BUCKET/PREFIX"
    publish.add_argument("target", metavar="TARGET", help=text)
    text = "where wheels go: github:OWNER/REPOSITORY (default: beside the index)"
    publish.add_argument("--wheels", metavar="PLACE", help=text)
    text = "pattern over identifiers (default: all wheels)"
    publish.add_argument("--select", default="*", metavar="PATTERN", help=text)
    text = "how far wheels have to be tested (default: as the index asks already, or imported)"
    publish.add_argument("--level", choices=LEVELS, help=text)
    text = "also wheels that were built without a sandbox"
    publish.add_argument("--unsandboxed", action="store_true", help=text)
    text = "also logs of failed builds, which the page then leads to"
    publish.add_argument("--logs", action="store_true", help=text)
    publish.add_argument("--dry-run", action="store_true", help="only show what would be done")
    take = add("import", "Check wheels that another yard made, and take them in.")
    take.add_argument("wheels", nargs="+", type=Path, metavar="FILE", help="beside their records")
    take.add_argument("--record", type=Path, metavar="FILE", help="where the record is elsewhere")


def _common(*, yard_alone: bool = False) -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    group = common.add_argument_group("common options")
    group.add_argument("--farm", type=Path, metavar="DIR", help="folder with recipes and matrix")
    if yard_alone:
        group.add_argument(
            "--yard", nargs="?", const=HERE, type=Path, metavar="DIR", help="list the wheels there"
        )
    else:
        text = "finished wheels (default: yard)"
        group.add_argument("--yard", type=Path, metavar="DIR", help=text)
    group.add_argument("--json", action="store_true", help="the result as JSON on stdout")
    group.add_argument(
        "--network",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of the network, for example github-proxies=https://proxy.example/",
    )
    group.add_argument("--verbose", action="store_true", help="show every command that is run")
    return common


def _cell() -> argparse.ArgumentParser:
    cell = argparse.ArgumentParser(add_help=False)
    group = cell.add_argument_group("which wheel; what is left out is chosen for this machine")
    group.add_argument("--version", dest="recipe_version", metavar="V", help="default: newest")
    group.add_argument("--python", metavar="X.Y", help="for example 3.12, or 3.14t")
    group.add_argument("--torch", metavar="V", help="for example 2.11.0")
    group.add_argument("--cuda", metavar="X.Y", help="for example 13.0")
    group.add_argument("--gpu-archs", metavar="LIST", help="for example 9.0 or '8.0;9.0'")
    return cell


def _add_making(group: argparse._ArgumentGroup) -> None:
    """Add what ``fill`` hands on to each of its builds."""
    group.add_argument(
        "--toolkit",
        choices=("auto", "installed", "index", "redistributable", "image"),
        default="auto",
        help="where the CUDA toolkit comes from",
    )
    group.add_argument("--sandbox", choices=("bubblewrap", "unshare", "none"))
    group.add_argument(
        "--container",
        metavar="IMAGE",
        help="build in this manylinux image; none: on this machine (default: as the matrix says)",
    )
    group.add_argument(
        "--container-engine",
        metavar="ENGINE",
        help="as for cibuildwheel: docker, podman, or 'podman; create_args: --memory=8g'",
    )
    group.add_argument(
        "--compile-cache",
        choices=("sccache", "ccache", "none"),
        default="sccache",
        help="what remembers compiled code; none compiles everything",
    )
    group.add_argument(
        "--shared-cache",
        metavar="PLACE",
        help="a folder or s3://BUCKET/PREFIX to bring compiled code from and take it to",
    )


def _making() -> argparse.ArgumentParser:
    making = argparse.ArgumentParser(add_help=False)
    group = making.add_argument_group("how it is built")
    group.add_argument("--jobs", type=int, metavar="N", help="compiles at once")
    _add_making(group)
    group.add_argument(
        "--env", type=Path, metavar="PYTHON", help="use the torch of this interpreter as it is"
    )
    group.add_argument("--lineinfo", action="store_true", help="keep -lineinfo, for profilers")
    return making
