"""The table ``[slurm]`` of the user's ``config.toml``: how this cluster is asked for nodes."""

from __future__ import annotations

from typing import Annotated

import msgspec

from wheelyard.errors import InputFileError, UsageError
from wheelyard.model.recipe_file import Table
from wheelyard.model.words import nearest


class SlurmTable(Table, frozen=True, kw_only=True):
    """What sbatch is given; what is left out is the cluster's default, or follows from recipes."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    gpu: str = ""
    """For example ``gpu:1``: wheels are then tried on it."""
    cpus: Annotated[int, msgspec.Meta(ge=1)] = 8
    memory: Annotated[float, msgspec.Meta(ge=0, description="GiB; 0: what recipes need")] = 0.0
    minutes: Annotated[int, msgspec.Meta(ge=0, description="0: what the group will take")] = 0
    most_minutes: Annotated[int, msgspec.Meta(ge=1)] = 1440
    """No task asks for more; one that needs it is submitted again and goes on."""
    notice: Annotated[int, msgspec.Meta(ge=0, description="seconds")] = 60
    """So long before the time limit a task is told to stop."""
    scratch: str = "/tmp"  # noqa: S108 - of each node
    """A folder of the node itself, for trees and objects while they are built."""
    at_once: Annotated[int, msgspec.Meta(ge=0, description="tasks; 0: no limit")] = 0
    attempts: Annotated[int, msgspec.Meta(ge=1)] = 6
    poll: Annotated[float, msgspec.Meta(gt=0, description="seconds")] = 10.0
    options: tuple[str, ...] = ()
    """Further words for sbatch."""


_FIELDS = {field.encode_name: field for field in msgspec.structs.fields(SlurmTable)}


def with_words(table: SlurmTable, words: tuple[str, ...]) -> SlurmTable:
    """Return the table with ``KEY=VALUE`` words of the command line over it."""
    changes: dict[str, object] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or key not in _FIELDS:
            hint = nearest(key, _FIELDS) or f" Known: {', '.join(_FIELDS)}."
            msg = f"--slurm {word!r} is no KEY=VALUE of the table [slurm].{hint}"
            raise UsageError(msg)
        field = _FIELDS[key]
        value: object = tuple(text.split()) if isinstance(field.default, tuple) else text
        try:
            changes[field.name] = msgspec.convert(value, field.type, strict=False)
        except msgspec.ValidationError as error:
            msg = f"{error}, given {text!r} - for `{key}` in --slurm. Correct it."
            raise InputFileError(msg) from None
    return msgspec.structs.replace(table, **changes)
