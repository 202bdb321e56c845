"""Tells what a container image has for building: compiler, interpreter, C library, CUDA.

Run inside the image by the interpreter that wheels are built for, so it is standard library only
and imports nothing of wheelyard. Its argument is the question that interpreters are asked.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path


def answer(*command: str) -> str:
    """Return what a program prints, or nothing where it does not run."""
    try:
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout


def compiler() -> dict[str, str]:
    """Ask the C++ compiler on PATH what it is."""
    path = shutil.which("g++") or shutil.which("c++") or ""
    return {
        "path": path,
        "real_path": str(Path(path).resolve()),
        "banner": answer(path, "--version"),
        "version": answer(path, "-dumpfullversion", "-dumpversion").strip(),
        "target": answer(path, "-dumpmachine").strip(),
    }


def toolkits() -> dict[str, str]:
    """Return the CUDA toolkits of the image: full version by folder."""
    named = [os.environ.get("CUDA_HOME", ""), *map(str, sorted(Path("/usr/local").glob("cuda*")))]
    found = {}
    for folder in filter(None, named):
        output = answer(f"{folder}/bin/nvcc", "--version")
        match = re.search(r"V(\d+\.\d+\.\d+)", output)
        if match is not None:
            found[str(Path(folder).resolve())] = match[1]
    return found


def main() -> None:
    """Print it all as one line of JSON."""
    about = {
        "compiler": compiler(),
        "interpreter": answer(sys.executable, "-I", "-c", sys.argv[1]),
        "libc": os.confstr("CS_GNU_LIBC_VERSION") or "",
        "toolkits": toolkits(),
    }
    sys.stdout.write(f"wheelyard-image {json.dumps(about)}\n")


if __name__ == "__main__":
    main()
