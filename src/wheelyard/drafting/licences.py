"""Which licence a project has, as an SPDX expression, and how sure that is."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

if TYPE_CHECKING:
    from collections.abc import Iterable

_PREFIX = "License :: OSI Approved :: "
_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
"""Those that mean one licence; BSD License, for one, does not."""
_SPELLINGS = {
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "bsd 2-clause": "BSD-2-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "mit license": "MIT",
}
_TEXTS = (
    ("Apache-2.0", ("apache license", "version 2.0")),
    ("MPL-2.0", ("mozilla public license version 2.0",)),
    ("AGPL-3.0-only", ("gnu affero general public license", "version 3")),
    ("LGPL-3.0-only", ("gnu lesser general public license", "version 3")),
    ("GPL-3.0-only", ("gnu general public license", "version 3")),
    ("GPL-2.0-only", ("gnu general public license", "version 2")),
    ("BSD-3-Clause", ("redistributions of source code must retain", "neither the name")),
    ("BSD-2-Clause", ("redistributions of source code must retain",)),
    ("MIT", ("permission is hereby granted, free of charge", "without restriction")),
    ("ISC", ("permission to use, copy, modify, and/or distribute this software",)),
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Licence:
    """An SPDX expression, empty where nothing tells it, and where it was read."""

    expression: str
    origin: str
    doubt: str = ""
    """What speaks against it."""


def find_licence(
    *, expression: str, field: str, classifiers: Iterable[str], text: str, text_name: str
) -> Licence:
    """Choose between what metadata and licence file say; a classifier is only a word of theirs."""
    if spdx(expression):
        return Licence(expression=spdx(expression), origin="License-Expression")
    names = (item.removeprefix(_PREFIX) for item in classifiers if item.startswith(_PREFIX))
    classified = next((_CLASSIFIERS[name] for name in names if name in _CLASSIFIERS), "")
    in_text = recognize(text)
    if in_text:
        doubt = ""
        if classified and classified != in_text:
            doubt = f"{text_name} reads like {in_text}, a classifier says {classified}"
        return Licence(expression=in_text, origin=text_name, doubt=doubt)
    if classified:
        return Licence(expression=classified, origin="classifier")
    if spdx(field):
        return Licence(expression=spdx(field), origin="License")
    return Licence(expression=recognize(field), origin="License")


def spdx(text: str) -> str:
    """Return the SPDX expression that ``text`` is or commonly means, or nothing."""
    stripped = " ".join(text.split())
    spelled = _SPELLINGS.get(stripped.lower())
    if spelled:
        return spelled
    try:
        return canonicalize_license_expression(stripped) if stripped else ""
    except InvalidLicenseExpression:
        return ""


def recognize(text: str) -> str:
    """Return the licence whose telling phrases a whole text holds, or nothing."""
    lowered = " ".join(text.lower().split())
    for expression, phrases in _TEXTS:
        if all(phrase in lowered for phrase in phrases):
            return expression
    return ""
