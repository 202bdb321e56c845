"""How upstream names the wheels of its releases, and what such a name promises."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Final

from wheelyard.errors import UsageError

if TYPE_CHECKING:
    from packaging.version import Version

    from wheelyard.model.cell import Cell

FIELDS: Final = {
    "version": r"[0-9][0-9a-z.]*?",
    "cuda": r"\d{2,3}",
    "torch": r"\d+\.\d+(?:\.\d+)?",
    "abi": r"(?i:true|false)",
    "python": r"cp\d{2,3}t?",
    "machine": r"x86_64|aarch64",
}
"""What the braces of a template may hold, and how each is written in a filename."""

_NEEDED: Final = frozenset({"version", "cuda", "torch", "python", "machine"})
_BRACES = re.compile(r"\{([^{}]*)\}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Promise:
    """What the name of an asset says; whether it holds, only a check can tell."""

    version: str
    cuda: str
    """A major version such as ``12``, or a minor one such as ``126``."""
    torch: str
    """``2.6`` or ``2.6.0``."""
    python: str
    machine: str
    abi: bool | None
    """Whether it says that torch has the newer ABI of C++ strings."""

    def is_for(self, version: Version, cell: Cell) -> bool:
        """Whether the name may be the one of this version's wheel for ``cell``."""
        cuda, torch = cell.torch.cuda, cell.torch.version
        return (
            self.version == str(version)
            and self.python == cell.python.abi_tag
            and self.machine == cell.machine
            and self.cuda in {str(cuda.major), f"{cuda.major}{cuda.minor}"}
            and self.torch in {f"{torch.major}.{torch.minor}", str(torch)}
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AssetTemplate:
    """A filename with fields in braces, for example ``demo-{version}+cu{cuda}...whl``."""

    text: str
    pattern: re.Pattern[str] = dataclasses.field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> AssetTemplate:
        """Turn a template into a pattern; a field that does not exist is an error."""
        pieces = _BRACES.split(text)
        fields = pieces[1::2]
        wrong = [name for name in fields if name not in FIELDS]
        lacking = sorted(_NEEDED - set(fields))
        if wrong or lacking:
            what = f"has no field {{{wrong[0]}}}" if wrong else f"lacks {{{lacking[0]}}}"
            msg = f"{text!r} {what}. Fields: {', '.join(f'{{{name}}}' for name in FIELDS)}."
            raise UsageError(msg)
        seen: set[str] = set()
        pattern = ""
        for number, piece in enumerate(pieces):
            if number % 2 == 0:
                pattern += re.escape(piece)
            else:
                pattern += f"(?P={piece})" if piece in seen else f"(?P<{piece}>{FIELDS[piece]})"
                seen.add(piece)
        return cls(text=text, pattern=re.compile(pattern))

    def read(self, filename: str) -> Promise | None:
        """Return what the name promises; nothing for one of another form."""
        match = self.pattern.fullmatch(filename)
        if match is None:
            return None
        found = match.groupdict()
        abi = found.get("abi")
        return Promise(
            version=found["version"],
            cuda=found["cuda"],
            torch=found["torch"],
            python=found["python"],
            machine=found["machine"],
            abi=None if abi is None else abi.lower() == "true",
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UpstreamReleases:
    """Where upstream publishes wheels, and how it names them."""

    repository: str
    """Of GitHub, for example ``Dao-AILab/causal-conv1d``."""
    tag: str
    """For example ``v{version}``."""
    template: AssetTemplate

    def tag_of(self, version: Version) -> str:
        return self.tag.replace("{version}", str(version))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Asset:
    """A wheel of a release."""

    filename: str
    url: str
    size: int
    sha256: str | None
    """What the release states, if anything."""
    promise: Promise


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What became of an asset that was looked at beside one torch."""

    sha256: str
    identifier: str
    """Of the job whose wheel it can become; empty for one that is refused."""
    gpu_archs: tuple[str, ...]
    refusal: str
    """One line."""
