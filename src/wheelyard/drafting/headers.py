"""Which headers a project's units include, and who brings each."""

from __future__ import annotations

import dataclasses
import os.path
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_DIRECTIVE = re.compile(
    r"^[ \t]*#[ \t]*(?P<word>if|ifdef|ifndef|endif|define|include)\b[ \t]*(?P<rest>[^\n]*)",
    re.MULTILINE,
)
_NAMED = re.compile(r'[<"]([^>"\n]+)[>"]')
_COMPILERS = ("usr/include/*-linux-gnu", "usr/lib/gcc/*/*/include", "usr/include/c++/*")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Headers:
    """What is included, by who brings it."""

    found: Mapping[str, tuple[str, ...]]
    """Names as they are included, by the name of their bringer."""
    missing: Mapping[str, str]
    """What nobody here brings, with the file that includes it first."""
    conditional: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The same, where it stands under a condition that may not hold here."""


def find_headers(
    units: Iterable[str],
    *,
    tree: Path,
    folders: Iterable[Path],
    places: Mapping[str, tuple[Path, ...]],
) -> Headers:
    """Follow the includes of ``units`` (below ``tree``) through the tree.

    ``folders`` are those of the tree that the compiler searches, ``places`` the folders outside it
    by who brings them. A condition around an include is noticed and not judged.
    """
    folders = tuple(folders)
    waiting = [tree / unit for unit in units]
    seen = set(waiting)
    found: dict[str, dict[str, None]] = {}
    missing: dict[bool, dict[str, str]] = {True: {}, False: {}}
    while waiting:
        path = waiting.pop(0)
        for name, is_conditional in _includes(path):
            inside = _inside(name, (path.parent, *folders))
            if inside is not None:
                if inside not in seen:
                    seen.add(inside)
                    waiting.append(inside)
                continue
            place = next(
                (who for who, outside in places.items() if _inside(name, outside) is not None), None
            )
            if place is not None:
                found.setdefault(place, {})[name] = None
            else:
                missing[is_conditional].setdefault(name, str(path.relative_to(tree)))
    return Headers(
        found={who: tuple(names) for who, names in found.items()},
        missing=missing[False],
        conditional={name: at for name, at in missing[True].items() if name not in missing[False]},
    )


def system_folders(root: Path = Path("/")) -> tuple[Path, ...]:
    """Return where the compiler and the C library keep their headers."""
    found = (path for pattern in _COMPILERS for path in sorted(root.glob(pattern)))
    return (root / "usr/include", root / "usr/local/include", *found)


def _includes(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield what a file includes, and whether only under a condition."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    depth, guard = 0, ""
    for match in _DIRECTIVE.finditer(text):
        word, rest = match["word"], match["rest"].strip()
        if word in {"if", "ifdef", "ifndef"}:
            depth += 1
            guard = rest if word == "ifndef" else ""
            continue
        if word == "define" and guard and rest.split()[:1] == [guard]:
            depth -= 1  # what keeps a header from being read twice is no condition
        elif word == "endif":
            depth = max(0, depth - 1)
        elif word == "include":
            named = _NAMED.match(rest)
            if named is not None:
                yield named[1], depth > 0
        guard = ""


def _inside(name: str, folders: Iterable[Path]) -> Path | None:
    for folder in folders:
        path = Path(os.path.normpath(folder / name))
        if path.is_file():
            return path
    return None
