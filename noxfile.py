# /// script
# requires-python = ">=3.11"
# dependencies = ["nox[uv]>=2025.5.1"]
# ///
"""The door to the farm: a build session for each recipe, and the checks of the code."""

from __future__ import annotations

from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "tests"]

FARM = Path(__file__).parent


def _install(session: nox.Session, *groups: str) -> None:
    """Install wheelyard as it stands here, with the dependency groups named."""
    options = [option for group in groups for option in ("--group", group)]
    session.install("--quiet", "--editable", ".", *options)


def _build(session: nox.Session, name: str) -> None:
    if not Path(session.bin, "wheelyard").exists():
        _install(session)
    session.run("wheelyard", "build", name, *session.posargs)


def _add_build_session(name: str) -> None:
    @nox.session(name=f"build-{name}", tags=["build"])
    def build(session: nox.Session) -> None:
        _build(session, name)

    build.__doc__ = f"Build a wheel of {name}; options go behind --."


for recipe in sorted(FARM.glob("recipes/*.toml")):
    _add_build_session(recipe.stem)


@nox.session(tags=["build"])
def fill(session: nox.Session) -> None:
    """Build whatever is missing, many jobs at once; options go behind --."""
    if not Path(session.bin, "wheelyard").exists():
        _install(session)
    session.run("wheelyard", "fill", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the quick tests and one real compile with the index toolkit."""
    _install(session, "test")
    session.run("pytest", "-m", "not heavy", *session.posargs)


@nox.session(name="tests-full")
def tests_full(session: nox.Session) -> None:
    """Run every test: real packages, kills at every step."""
    _install(session, "test")
    session.run("pytest", "--faults", "every", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Inject faults into everything; print how many were survived, and lost."""
    _install(session, "test")
    session.run(
        "pytest",
        "tests/faults",
        "--faults",
        "whole",
        "-n",
        "2",
        "--dist",
        "worksteal",
        *session.posargs,
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Check recipes, style, types and spelling."""
    _install(session, "lint", "test", "docs")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("mypy")
    session.run("wheelyard", "lint")
    workflows = sorted(map(str, FARM.glob(".github/workflows/*.yml")))
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)
    forms = sorted(map(str, FARM.glob(".github/ISSUE_TEMPLATE/*.yml")))
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-issue-forms", *forms)
    session.run("zizmor", "--offline", "--quiet", *workflows)
    session.run(
        "codespell",
        "src",
        "tests",
        "docs",
        "recipes",
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
    )


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site of docs/, check its links, and run the examples on its pages."""
    _install(session, "docs")
    session.run("python", "docs/press/make_site.py")
    session.run("python", "docs/press/blocks.py", *session.posargs)


@nox.session
def audit(session: nox.Session) -> None:
    """Ask the index's advisories about all that is installed; fail where nobody answers."""
    _install(session, "audit", "lint", "test")
    listed = session.run("uv", "pip", "freeze", "--exclude-editable", silent=True)
    requirements = Path(session.create_tmp(), "installed.txt")
    requirements.write_text(str(listed), encoding="utf-8")
    options = ("--strict", "--no-deps", "--disable-pip", "--progress-spinner", "off")
    session.run("pip-audit", *options, "--requirement", str(requirements))


@nox.session
def bench(session: nox.Session) -> None:
    """Measure what wheelyard adds to a bare build, to curl and to git; write docs/figures.md."""
    _install(session)
    for name in ("orchestration", "network", "checking", "planning"):
        session.run("python", "benchmarks/keep.py", name)


if __name__ == "__main__":
    nox.main()
