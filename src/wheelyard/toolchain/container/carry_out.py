"""Carries out an order inside a container: links what the image has, then runs the command.

Run by the image's interpreter, so it is standard library only and imports nothing of wheelyard.
Its argument is a JSON file: ``links`` (target, path), ``written`` (folders that it may write to),
``command``, ``cwd``, ``env``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def carry_out(path: str) -> int:
    """Run the command of the order to its end; return its status."""
    order = json.loads(Path(path).read_text(encoding="utf-8"))
    for target, link in order["links"]:
        Path(link).parent.mkdir(parents=True, exist_ok=True)
        if not Path(link).is_symlink():
            Path(link).symlink_to(target)
    try:
        done = subprocess.run(order["command"], check=False, cwd=order["cwd"], env=order["env"])
        return done.returncode if done.returncode >= 0 else 128 - done.returncode
    finally:
        for folder in order["written"]:
            give_to_owner(folder)


def give_to_owner(folder: str) -> None:
    """Give what was written in a folder to whose folder it is.

    What the root of a container wrote would be root's outside, where the engine maps no users.
    """
    owner = Path(folder).stat()
    if owner.st_uid == os.getuid() or not Path(folder).is_dir():
        return
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.lchown(os.path.join(parent, name), owner.st_uid, owner.st_gid)  # noqa: PTH118


if __name__ == "__main__":
    sys.exit(carry_out(sys.argv[1]))
