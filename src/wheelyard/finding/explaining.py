"""uv's account of a conflict in few words: what cannot be together, and nothing that follows."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.utils import NormalizedName

    from wheelyard.finding.resolution import Conflict

_LOCAL = re.compile(r"\+cu\d+\.torch[0-9.]*[0-9](?:\.[a-z0-9]+)*")
_NOWHERE = re.compile(r"^(?P<name>\S+) was not found in the (?:package registry|provided)")
_OTHER_PLATFORM = "platform tag"
_ASKED = re.compile(r"you require (?P<name>[A-Za-z0-9._-]*[A-Za-z0-9])")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CONCLUSION = re.compile(r",? we can conclude that .*$")
_OURS_FROM_SOURCE = re.compile(r"^(?P<name>\S+?)(?:[=<>!~]\S*)? has no usable wheels$")
_ALL_FROM_SOURCE = re.compile(r"^all versions of (?P<name>\S+) have no usable wheels$")
_PLATFORMS = re.compile(r"hint: Wheels are available for .*platforms?: (?P<tags>.*)")


def explain(conflict: Conflict, *, ours: Iterable[str] = ()) -> str:
    """Return the facts that contradict each other, joined in one line.

    For example ``a 1 depends on c==1; b>=2 depends on c>=2``. ``ours`` are projects of which
    nothing is ever taken from source: that the index has a source only is no news.
    """
    ours = frozenset(ours)
    platforms = _PLATFORMS.search(" ".join(conflict.text.split()))
    tags = f" (it has {platforms['tags'].strip().replace('`', '')})" if platforms else ""
    facts: list[str] = []
    for sentence in _sentences(conflict.text):
        for fact in _facts(sentence):
            told = _with_nearest(fact, ours) + (tags if _OTHER_PLATFORM in fact else "")
            if told not in facts and not _is_known(fact, ours):
                facts.append(told)
    telling = [fact for fact in facts if _is_telling(fact, facts)] or facts
    return "; ".join(telling) or " ".join(conflict.text.split())


def _is_telling(fact: str, facts: Iterable[str]) -> bool:
    """What was asked for is known, unless something depends on another version of it."""
    asked = _ASKED.match(fact)
    return asked is None or any(f"depends on {asked['name']}" in other for other in facts)


def _with_nearest(fact: str, ours: frozenset[str]) -> str:
    """Name the recipe that may have been meant by a name that nobody has."""
    found = _NOWHERE.match(fact)
    if found is None:
        return fact
    nearest = difflib.get_close_matches(found["name"], ours, n=1, cutoff=0.6)
    hint = f"; the nearest recipe is {nearest[0]}" if nearest else ""
    return f"neither the index nor the farm has a project {found['name']}{hint}"


def names(conflict: Conflict) -> frozenset[NormalizedName]:
    """Return every word of the account that may be a project."""
    return frozenset(map(canonicalize_name, _NAME.findall(conflict.text)))


def lacks_platform(conflict: Conflict) -> bool:
    """Whether something has wheels for another C library only."""
    return _OTHER_PLATFORM in conflict.text


def _sentences(text: str) -> list[str]:
    joined = " ".join(_LOCAL.sub("", text).replace("`", "").split())
    joined = joined.partition("hint:")[0].partition("cause: ")[2] or joined.partition("hint:")[0]
    joined = joined.replace("╰─▶ ", "")
    return [part.strip() for part in re.split(r"(?<=\.)\s+(?=And |Because )", joined)]


def _facts(sentence: str) -> list[str]:
    because = re.sub(r"^(And because|And|Because) ", "", _CONCLUSION.sub("", sentence).rstrip("."))
    return [
        fact.strip()
        for fact in re.split(r" and (?=\S+ (?:depends|has no)|you require|all versions)", because)
        if fact.strip() and "we can conclude" not in fact
    ]


def _is_known(fact: str, ours: frozenset[str]) -> bool:
    found = _OURS_FROM_SOURCE.match(fact) or _ALL_FROM_SOURCE.match(fact)
    return found is not None and found["name"] in ours
