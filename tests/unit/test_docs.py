"""The pages that people read name what there is, and lead to files that exist."""

from __future__ import annotations

import argparse
import ast
import fnmatch
import itertools
import re
import shlex
import typing
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from wheelyard.cli.arguments import make_parser
from wheelyard.errors import INTERRUPTED_EXIT_CODE, WheelyardError
from wheelyard.model.decode import decode_table
from wheelyard.model.matrix import parse_matrix
from wheelyard.model.recipe import parse_recipe
from wheelyard.model.recipe_file import MatrixFile, RecipeFile, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
COMMANDS = REPOSITORY / "docs" / "commands.md"
ERRORS = REPOSITORY / "docs" / "errors.md"
PAGES = tuple(
    path for pattern in ("[A-Z]*.md", "docs/**/*.md") for path in sorted(REPOSITORY.glob(pattern))
)
# in pieces, so that this file does not hold them
REGISTRIES = (
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("deb.debian", "org"),
    ("npmjs", "org"),
    ("npmjs", "com"),
)
HIDDEN_BUT_OURS = frozenset({".ci", ".github", ".gitignore"})
SECTIONS: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in ("check", "fill", "find", "install", "plan", "publish")},
    "bundle": ("bundle", "find"),
    "get": ("find", "install"),
}
"""Where the options of a command stand that has more than its row says."""
NOT_OPTIONS = {"--help", "--version"}

each_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY))
)


def _subparsers() -> dict[str, argparse.ArgumentParser]:
    for action in make_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    msg = "the parser has no commands"
    raise AssertionError(msg)


def _options(parser: argparse.ArgumentParser) -> set[str]:
    return {
        option
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--")
    }


def _rows(text: str) -> Iterator[str]:
    """Yield the rows of all tables, without the heads' rules."""
    return (line for line in text.splitlines() if line.startswith("| "))


def _first_cells(text: str) -> tuple[str, ...]:
    return tuple(row.split("|")[1].strip() for row in _rows(text))


def _section(title: str) -> str:
    """Return the section of the page on commands under that heading."""
    after = COMMANDS.read_text(encoding="utf-8").split(f"\n## {title}\n")[1]
    return after.split("\n## ")[0]


def _command_rows() -> dict[str, str]:
    top = COMMANDS.read_text(encoding="utf-8").split("\n## ")[0]
    matches = ((re.match(r"\| `([a-z]+)[ `]", row), row) for row in _rows(top))
    return {match[1]: row for match, row in matches if match is not None}


def test_the_table_of_commands_has_every_command_and_no_other() -> None:
    assert set(_command_rows()) == set(_subparsers())


@pytest.mark.parametrize("name", sorted(_subparsers()))
def test_every_option_of_a_command_is_named(name: str) -> None:
    parsers = _subparsers()
    shared = _options(parsers["list"])
    shared |= _options(parsers["build"]) if name in {"build", "fetch", "new", "probe"} else set()
    tables = " ".join(_first_cells(COMMANDS.read_text(encoding="utf-8")))
    assert not {one for one in shared - NOT_OPTIONS if not re.search(rf"`{one}[ `]", tables)}
    where = _command_rows()[name] + "".join(
        _section(f"Options of {one}") for one in SECTIONS.get(name, ())
    )
    assert not {
        one for one in _options(parsers[name]) - shared if not re.search(rf"`{one}[ `]", where)
    }


@pytest.mark.parametrize("name", sorted(_subparsers()))
def test_every_positional_argument_is_in_the_first_column(name: str) -> None:
    positional = [action for action in _subparsers()[name]._actions if not action.option_strings]
    usage = _command_rows()[name].split("|")[1]
    assert len(re.findall(r"\b[A-Z]+\b", usage)) == len(positional)


def test_no_option_is_named_that_does_not_exist() -> None:
    named = set(re.findall(r"`(--[a-z0-9-]+)", COMMANDS.read_text(encoding="utf-8")))
    assert named <= set().union(*map(_options, _subparsers().values())) | NOT_OPTIONS


def _examples(page: Path) -> Iterator[str]:
    """Yield the command lines of ours that a page shows, as words for the parser."""
    for line in page.read_text(encoding="utf-8").splitlines():
        words = line.removeprefix("$ ").partition(" #")[0]
        build = re.fullmatch(r"\./nox -s build-([a-z0-9-]+?)(?: -- (.*))?", words)
        if build is not None:
            yield f"build {build[1]} {build[2] or ''}"
        elif line.startswith("$ wheelyard "):
            yield words.removeprefix("wheelyard ")


@each_page
def test_the_command_lines_on_a_page_are_understood(page: Path) -> None:
    for example in _examples(page):
        make_parser().parse_args(shlex.split(example))


def _error_classes(root: type[WheelyardError] = WheelyardError) -> Iterator[type[WheelyardError]]:
    yield root
    for child in root.__subclasses__():
        yield from _error_classes(child)


def test_the_table_of_exit_codes_has_every_code_and_no_other() -> None:
    codes = {error.exit_code for error in _error_classes()} | {0, INTERRUPTED_EXIT_CODE}
    listed = [cell for cell in _first_cells(_section("Exit codes")) if cell.isdigit()]
    assert listed == [str(code) for code in sorted(codes)]


def _tables_in(annotation: object) -> Iterator[type[Table]]:
    if isinstance(annotation, type) and issubclass(annotation, Table):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _tables_in(argument)


def _keys(table: type[Table], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Yield the dotted path of every key, and whether it holds keys of its own."""
    for field in msgspec.structs.fields(table):
        path = f"{prefix}{field.encode_name}"
        inner = list(_tables_in(field.type))
        yield path, bool(inner)
        for one in inner:
            yield from _keys(one, f"{path}.")


@pytest.mark.parametrize(
    ("title", "file"),
    [
        pytest.param("A recipe file", RecipeFile, id="recipe"),
        pytest.param("matrix.toml", MatrixFile, id="matrix"),
    ],
)
def test_every_key_of_a_file_has_a_line(title: str, file: type[Table]) -> None:
    listed = {cell.strip("`") for cell in _first_cells(_section(title)) if cell.startswith("`")}
    keys = dict(_keys(file))
    assert listed <= keys.keys()
    assert not {key for key, holds_keys in keys.items() if not holds_keys} - listed


def _toml(title: str) -> list[str]:
    return re.findall(r"```toml\n(.*?)```", _section(title), re.DOTALL)


def test_the_examples_of_files_can_be_used() -> None:
    recipe, sources = _toml("A recipe file")
    (matrix,) = _toml("matrix.toml")
    origin = COMMANDS.name
    parse_matrix(decode_table(matrix, MatrixFile, origin=origin), origin=origin)
    parse_recipe(decode_table(recipe, RecipeFile, origin=origin), origin=origin)
    head = recipe.partition("[versions.sdist]")[0]
    for source in sources.split("\n\n"):
        parse_recipe(decode_table(head + source, RecipeFile, origin=origin), origin=origin)


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_relative_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    broken = []
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert not broken


def _messages() -> str:
    """Return every text of the code, with ``...`` for what is put in."""
    texts = []
    for path in sorted((REPOSITORY / "src" / "wheelyard").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                values = (getattr(value, "value", "") for value in node.values)
                pieces = (value if isinstance(value, str) else "..." for value in values)
                texts.append("".join(pieces))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def _headings(page: Path) -> list[str]:
    return re.findall(r"^### (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_index_of_errors_quotes_what_the_code_says() -> None:
    text = ERRORS.read_text(encoding="utf-8")
    ours = re.findall(r"^### (.+)$", text.split("\n## Of wheelyard\n")[1], re.MULTILINE)
    lines = [line.replace(r"\`", "`") for line in ours]
    quotes = [quote for line in lines for quote in re.split(r" / | \.\.\. ?", line) if quote]
    messages = _messages()
    assert [quote for quote in quotes if quote not in messages] == ["Anything else"]


def test_the_index_of_errors_has_every_exit_code() -> None:
    codes = {str(error.exit_code) for error in _error_classes()} | {str(INTERRUPTED_EXIT_CODE)}
    named = re.findall(r"Exit code (\d+)", ERRORS.read_text(encoding="utf-8"))
    assert set(named) == codes


def test_pages_in_both_languages_have_the_same_examples() -> None:
    for page in (REPOSITORY / "docs" / "zh").rglob("*.md"):
        english = REPOSITORY / "docs" / page.relative_to(REPOSITORY / "docs" / "zh")
        assert list(_examples(page)) == list(_examples(english)), page.name


def test_tutorial_how_tos_glossary_and_index_of_errors_are_there_in_chinese() -> None:
    docs = REPOSITORY / "docs"
    pages = [*(docs / "howto").glob("*.md"), ERRORS]
    pages += [docs / f"{name}.md" for name in ("glossary", "index", "tutorial")]
    assert len(pages) >= 9
    assert not [page for page in pages if not (docs / "zh" / page.relative_to(docs)).exists()]


def test_the_index_of_errors_has_the_same_messages_in_both_languages() -> None:
    assert _headings(ERRORS) == _headings(REPOSITORY / "docs" / "zh" / "errors.md")


def test_both_readmes_hold_the_same_commands_and_links() -> None:
    english, chinese = (REPOSITORY / name for name in ("README.md", "README.zh-CN.md"))
    assert list(_examples(english)) == list(_examples(chinese))
    pattern = re.compile(r"\]\(((?:docs/|[A-Z]+\.md)[^)]*)\)")
    links = [
        {link.replace("docs/zh/", "docs/") for link in pattern.findall(page.read_text("utf-8"))}
        for page in (english, chinese)
    ]
    assert links[0] - {"README.zh-CN.md"} == links[1] - {"README.md"}
    assert "docs/tutorial.md" in links[0]


def _files_of_the_repository() -> Iterator[Path]:
    lines = (REPOSITORY / ".gitignore").read_text(encoding="utf-8").splitlines()
    ignored = [line.strip("/") for line in lines if line]
    for top in sorted(REPOSITORY.iterdir()):
        if top.name.startswith(".") and top.name not in HIDDEN_BUT_OURS:
            continue
        for path in itertools.chain([top], top.rglob("*")):
            parts = path.relative_to(REPOSITORY).parts
            is_ignored = any(fnmatch.fnmatch(*pair) for pair in itertools.product(parts, ignored))
            if path.is_file() and not is_ignored:
                yield path


def test_no_file_names_the_host_of_a_registry() -> None:
    hosts = re.compile("|".join(re.escape(".".join(pieces)) for pieces in REGISTRIES).encode())
    naming = [
        str(path.relative_to(REPOSITORY))
        for path in _files_of_the_repository()
        if hosts.search(path.read_bytes())
    ]
    assert not naming
