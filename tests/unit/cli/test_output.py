from __future__ import annotations

import json

import pytest

from wheelyard.cli.output import print_json, print_lines, print_table, readable_seconds, table_lines


def test_columns_are_aligned_and_lines_have_no_blanks_at_their_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(("NAME", "SIZE", "WHY"), [("long-name", "1", "because"), ("b", "200", "")])
    assert capsys.readouterr().out == (
        "NAME       SIZE  WHY\nlong-name  1     because\nb          200\n"
    )


def test_table_without_rows_is_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "SIZE"), [])
    assert capsys.readouterr().out == "NAME  SIZE\n"


def test_last_column_goes_on_below_itself_where_the_terminal_is_narrow() -> None:
    rows = [("a", "one two three four five six seven"), ("b", "")]
    assert list(table_lines(("N", "WHAT IT IS"), rows, width=30)) == [
        "N  WHAT IT IS",
        "a  one two three four five six",
        "   seven",
        "b",
    ]


def test_table_that_fits_is_not_touched() -> None:
    rows = [("a", "one two")]
    assert list(table_lines(("N", "WHAT"), rows, width=10)) == ["N  WHAT", "a  one two"]


def test_rows_are_told_in_lines_of_their_own_where_nothing_else_fits() -> None:
    rows = [("a-name-of-a-wheel", "1 MB", "manylinux"), ("b", "2 MB", "linux of some kind")]
    assert list(table_lines(("WHEEL", "SIZE", "PLATFORM"), rows, width=24)) == [
        *("wheel     a-name-of-a-wheel", "size      1 MB", "platform  manylinux", ""),
        *("wheel     b", "size      2 MB", "platform  linux of some", "          kind"),
    ]


def test_json_has_the_format_version_and_sorted_keys(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"zebra": 1, "ant": [2]})
    text = capsys.readouterr().out
    assert json.loads(text) == {"ant": [2], "format": 1, "zebra": 1}
    assert text.index("ant") < text.index("format") < text.index("zebra")


def test_lines_are_printed_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    print_lines("a", "", "b")
    assert capsys.readouterr().out == "a\n\nb\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (4.21, "4.2 s"),
        (60, "1 min 0 s"),
        (358.9, "5 min 58 s"),
        (98765, "27 h 26 min"),
    ],
)
def test_durations_are_told_in_people_s_units(seconds: float, text: str) -> None:
    assert readable_seconds(seconds) == text
