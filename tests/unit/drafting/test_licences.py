"""Licences out of what projects write."""

from __future__ import annotations

import pytest

from wheelyard.drafting.licences import find_licence, recognize, spdx

APACHE = "Apache License\n   Version 2.0, January 2004\n"
BSD = "Redistributions of source code must retain the above notice.\n"
MIT = (
    "Permission is hereby granted, free of charge, to any person obtaining a copy of this software,"
    " to deal in the Software\nwithout restriction"
)


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        pytest.param(APACHE, "Apache-2.0", id="apache"),
        pytest.param(MIT, "MIT", id="mit"),
        pytest.param(BSD, "BSD-2-Clause", id="bsd-2"),
        pytest.param(f"{BSD}Neither the name of", "BSD-3-Clause", id="bsd-3"),
        pytest.param("All rights reserved.", "", id="unknown"),
    ],
)
def test_a_text_is_known_by_its_phrases(text: str, expression: str) -> None:
    assert recognize(text) == expression


@pytest.mark.parametrize(
    ("text", "expression"),
    [("mit", "MIT"), ("Apache 2.0", "Apache-2.0"), ("BSD", ""), ("", ""), ("see file", "")],
)
def test_a_word_is_taken_where_it_means_one_licence(text: str, expression: str) -> None:
    assert spdx(text) == expression


def _find(**words: object) -> tuple[str, str, str]:
    given = {"expression": "", "field": "", "classifiers": (), "text": "", "text_name": "LICENSE"}
    found = find_licence(**(given | words))  # type: ignore[arg-type]
    return found.expression, found.origin, found.doubt


def test_an_expression_of_the_metadata_is_believed() -> None:
    assert _find(expression="MIT", text=APACHE) == ("MIT", "License-Expression", "")


def test_the_licence_file_is_believed_before_a_classifier_and_the_doubt_is_told() -> None:
    expression, origin, doubt = _find(
        classifiers=("License :: OSI Approved :: MIT License",), text=APACHE
    )
    assert (expression, origin) == ("Apache-2.0", "LICENSE")
    assert "LICENSE reads like Apache-2.0, a classifier says MIT" in doubt


def test_a_classifier_that_means_several_licences_says_nothing() -> None:
    assert _find(classifiers=("License :: OSI Approved :: BSD License",)) == ("", "License", "")


def test_a_field_that_holds_the_whole_text_is_recognized() -> None:
    assert _find(field=APACHE) == ("Apache-2.0", "License", "")
