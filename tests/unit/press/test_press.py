"""What makes the site of docs/: its pages, their order, links, examples and the picture."""

from __future__ import annotations

import doctest
import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, os.fspath(Path(__file__).parents[3] / "docs" / "press"))
sys.path.insert(0, os.fspath(Path(__file__).parents[3] / "benchmarks"))

from typing import TYPE_CHECKING

import blocks
import keep
import picture as picture_module
import staging
from blocks import BlockError, commands, find_blocks, matches, run_page
from links import check_links
from picture import PAGE, PICTURE, imported_parts, picture, with_table, without_shortcuts
from staging import Kind, arrange, find_pages, read_kinds, stage
from usage import subparsers, usage_page

if TYPE_CHECKING:
    import types

REPOSITORY = Path(__file__).parents[3]
PRESS = REPOSITORY / "docs" / "press"
KINDS = (
    Kind(title={"en": "How to", "zh": "怎么做"}, pages=("b",), folder="howto", takes_others=False),
    Kind(title={"en": "Reference", "zh": "参考"}, pages=(), folder=None, takes_others=True),
)


def _write(repository: Path, **pages: str) -> None:
    for name, text in pages.items():
        path = repository / f"{name.replace('__', '/')}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _staged(tmp_path: Path, name: str) -> str:
    stage(tmp_path / "repository", tmp_path / "tree", KINDS)
    return (tmp_path / "tree" / name).read_text(encoding="utf-8")


def test_a_page_that_nobody_named_stands_under_its_folder_or_with_the_others() -> None:
    arranged = arrange(["a", "b", "howto/c", "index"], KINDS)
    assert [pages for _, pages in arranged] == [["b", "howto/c"], ["a"]]


def test_every_page_of_the_repository_is_in_the_navigation_once() -> None:
    names = [page.name for page in find_pages(REPOSITORY) if page.language == "en"]
    arranged = arrange(names, read_kinds(PRESS / "pages.toml"))
    assert sorted(name for _, pages in arranged for name in pages) == sorted(set(names) - {"index"})


def test_the_navigation_names_only_pages_that_exist() -> None:
    names = {page.name for page in find_pages(REPOSITORY)} | {"security"}
    named = {name for kind in read_kinds(PRESS / "pages.toml") for name in kind.pages}
    assert named <= names


def test_links_lead_to_the_page_in_the_same_language_and_in_the_other(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    text = "[a](../../b.md#x) [b](../c.md) `[c](d.md)`\n"
    _write(repository, docs__index="", docs__b="# B", docs__zh__c="", docs__zh__howto__a=text)
    assert (
        _staged(tmp_path, "zh/howto/a.md") == "[a](part:../../b.html#x) [b](../c.md) `[c](d.md)`\n"
    )


def test_a_backtick_that_is_alone_hides_no_link(tmp_path: Path) -> None:
    text = "# at `x\n\n[b](b.md) `c`\n"
    _write(tmp_path / "repository", docs__a=text, docs__index="", docs__b="")
    assert _staged(tmp_path, "en/a.md") == text
    _write(tmp_path / "repository", docs__zh__a=text.replace("b.md", "../b.md"))
    assert "(page:../b.html)" in _staged(tmp_path, "zh/a.md")


def test_a_link_to_a_file_that_is_no_page_is_its_text_alone(tmp_path: Path) -> None:
    _write(
        tmp_path / "repository", docs__a="[code](../src/x.py) [front](../README.md)", docs__index=""
    )
    assert _staged(tmp_path, "en/a.md") == "code [front](index.md)"


def test_line_ends_inside_chinese_sentences_are_no_blanks(tmp_path: Path) -> None:
    text = "甲、\n乙\n丙 a\n`b`。\ntorch\n\n丁\n\n```text\n甲\n乙\n```\n"
    _write(tmp_path / "repository", docs__zh__a=text, docs__index="", docs__zh__index="")
    expected = "甲、乙丙 a\n`b`。torch\n\n丁\n\n```text\n甲\n乙\n```\n"
    assert _staged(tmp_path, "zh/a.md") == expected


@pytest.mark.parametrize(
    "module", [blocks, keep, picture_module, staging], ids=lambda one: one.__name__
)
def test_the_examples_in_docstrings_hold(module: types.ModuleType) -> None:
    done = doctest.testmod(module)
    assert done.attempted
    assert not done.failed


def test_the_page_of_figures_is_what_the_benchmarks_left() -> None:
    assert keep.PAGE.read_text(encoding="utf-8") == keep.page()


def test_rows_are_a_table_and_other_figures_another(tmp_path: Path) -> None:
    figures = {"a": {"b": 0.5}, "rows": [{"size": 1000, "wall": 1.25}]}
    kept = {"date": "2026-11-28", "figures": figures, "load": 0.1, "machine": "x86_64, 2 cores"}
    (tmp_path / "planning.json").write_text(json.dumps(kept), encoding="utf-8")
    text = keep.page(tmp_path)
    assert "| a, b | 0.5 |" in text
    assert "| size | wall |\n|---|---|\n| 1,000 | 1.25 |\n" in text
    assert "How long planning takes" in text


def test_pictures_come_along(tmp_path: Path) -> None:
    _write(tmp_path / "repository", docs__a="![x](b.svg)", docs__index="")
    (tmp_path / "repository" / "docs" / "b.svg").write_text("<svg/>", encoding="utf-8")
    assert _staged(tmp_path, "en/a.md") == "![x](b.svg)"
    assert (tmp_path / "tree" / "en" / "b.svg").exists()


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        pytest.param('<a href="b.html">', "", id="a page"),
        pytest.param('<a href="b.html#here">', "", id="a place"),
        pytest.param('<a href="c.html">', "not there", id="no page"),
        pytest.param('<a href="b.html#there">', "a place that page does not have", id="no place"),
        pytest.param('<a href="https://example.org/x">', "", id="elsewhere"),
        pytest.param('<a href="https://">', "no URL", id="no URL"),
        pytest.param('<a href="page:b.html">', "no known kind", id="a scheme that is none"),
        pytest.param('<script src="https://example.org/x.js">', "from elsewhere", id="a CDN"),
        pytest.param('<img src="x.png">', "not there", id="no picture"),
    ],
)
def test_links_of_the_built_site_are_followed(tmp_path: Path, link: str, problem: str) -> None:
    (tmp_path / "a.html").write_text(link, encoding="utf-8")
    (tmp_path / "b.html").write_text('<p id="here">', encoding="utf-8")
    found = check_links(tmp_path)
    assert len(found) == bool(problem)
    assert problem in "".join(found)


def _page_with(tmp_path: Path, text: str) -> Path:
    page = REPOSITORY / "docs" / "example.md"
    path = tmp_path / page.name
    path.write_text(text, encoding="utf-8")
    return path


def _run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("blocks.REPOSITORY", tmp_path)
    found = list(find_blocks(_page_with(tmp_path, text)))
    assert found
    run_page(found, env=os.environ)


def test_only_examples_that_are_marked_are_run(tmp_path: Path) -> None:
    text = "```console\n$ false\n```\n\n```console run\n$ true\n```\n\n```python run\npass\n```\n"
    found = find_blocks(_page_with(tmp_path, text))
    assert [(block.language, block.line) for block in found] == [("console", 5), ("python", 9)]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("```console run\n$ echo a b c\na ... c\n```\n", id="what it prints"),
        pytest.param("```console run\n$ echo a\n$ echo b\nb\n```\n", id="nothing said of it"),
        pytest.param("```console run exit-3\n$ true\n$ exit 3\n```\n", id="an exit code"),
        pytest.param(
            "```console run\n$ touch a\n```\n\n```python run\nopen('a')\n```\n", id="a folder"
        ),
    ],
)
def test_an_example_that_does_as_its_page_says_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    _run(tmp_path, monkeypatch, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("```console run\n$ echo a\nb\n```\n", "printed", id="other output"),
        pytest.param("```console run\n$ false\n```\n", "ended with 1, not 0", id="a failure"),
        pytest.param(
            "```console run exit-3\n$ true\n```\n", "ended with 0, not 3", id="no failure"
        ),
        pytest.param("```python run\n1 / 0\n```\n", "ZeroDivisionError", id="Python"),
    ],
)
def test_an_example_that_does_something_else_is_named_by_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    with pytest.raises(BlockError, match=rf"example.md:1(.|\n)*{message}"):
        _run(tmp_path, monkeypatch, text)


def test_what_is_printed_has_to_be_all_that_the_page_shows() -> None:
    assert matches("a\nb\n", ["a", "b"])
    assert not matches("a\nb\n", ["a"])
    assert list(commands("$ a\nx\n\ny\n$ b\n")) == [("a", ["x", "", "y"]), ("b", [])]


def test_the_usage_page_has_every_command_and_option() -> None:
    text = usage_page()
    for name, parser in subparsers().items():
        section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        for action in parser._actions:
            assert all(option in section for option in action.option_strings if option != "--help")


def test_arrows_that_follow_from_others_are_left_out() -> None:
    graph = {"a": {"b", "c"}, "b": {"c"}, "c": set[str]()}
    assert without_shortcuts(graph) == {"a": {"b"}, "b": {"c"}, "c": set()}


def test_the_picture_of_the_architecture_is_that_of_the_imports() -> None:
    assert PICTURE.read_text(encoding="utf-8") == picture(), "python docs/press/picture.py"


def test_the_table_of_the_architecture_has_the_parts_as_they_are() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page), "python docs/press/picture.py"
    assert len(imported_parts()) > 20


def test_the_picture_shows_no_part_that_imports_upwards(tmp_path: Path) -> None:
    for name, text in (("a", "import wheelyard.b.x"), ("b", "from wheelyard.a import y")):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="cycle"):
        without_shortcuts(imported_parts(tmp_path))
