"""The command that takes a wheel from somebody else into the yard."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wheelyard.cli.building import show_outcome
from wheelyard.cli.session import open_farm, open_workshop
from wheelyard.cli.telling import make_progress
from wheelyard.errors import UsageError
from wheelyard.model.cell import PythonVersion, TorchBuild, parse_version

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping


def adopt(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Judge, repair, check, try and store one wheel, or find it done."""
    from wheelyard.pipeline import adopt_wheel  # noqa: PLC0415 - imports every room
    from wheelyard.stages import Adoption  # noqa: PLC0415
    from wheelyard.wheels.adopt import AdoptionWish  # noqa: PLC0415

    adoption = Adoption(
        place=arguments.wheel,
        sha256=_sha256(arguments.sha256),
        wish=AdoptionWish(
            recipe=arguments.recipe,
            python=PythonVersion.parse(arguments.python) if arguments.python else None,
            torch=_torch(arguments.torch),
        ),
    )
    workshop = open_workshop(arguments, open_farm(arguments), env)
    progress = make_progress()
    outcome = adopt_wheel(adoption, workshop, progress)
    if not outcome.made:
        progress.say("nothing to do: the yard has it, made from the same file")
    show_outcome(outcome, workshop, as_json=arguments.json)


def _sha256(text: str | None) -> str | None:
    if text is None:
        return None
    digest = text.lower().removeprefix("sha256:")
    if re.fullmatch(r"[0-9a-f]{64}", digest) is None:
        msg = f"--sha256 {text!r} is not a sha256. Give its 64 hexadecimal digits."
        raise UsageError(msg)
    return digest


def _torch(text: str | None) -> str | None:
    """Write what was named as the matrix does: ``2.11.0`` or ``2.11.0+cu130``."""
    if text is None:
        return None
    return str(TorchBuild.parse(text) if "+" in text else parse_version(text))
