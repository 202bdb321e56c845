"""Answer what a project's setup.py would build, without building it.

    python ask_setup.py ANSWER

Run in the sandbox, in the source tree: the script runs up to where its configuration is read, and
what it then holds is written to ANSWER as JSON. Standard library and setuptools only, Python 3.9.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

WORDS = ("name", "version", "description", "url", "license", "python_requires")


def run_setup() -> Any:  # noqa: ANN401 - a Distribution of whatever setuptools is there
    """Run setup.py, or only its configuration files where there is none."""
    # puts its own distutils in the place of the standard one
    setuptools = importlib.import_module("setuptools")
    core = importlib.import_module("distutils.core")
    if Path("setup.py").is_file():
        sys.path.insert(0, "")
        return core.run_setup("setup.py", stop_after="config")
    distribution = setuptools.Distribution()
    distribution.parse_config_files()
    return distribution


def describe(extension: object) -> dict[str, object]:
    """Return what is known of one extension module."""
    arguments = getattr(extension, "extra_compile_args", None) or []
    if isinstance(arguments, dict):
        arguments = [word for words in arguments.values() for word in words]
    return {
        "arguments": [str(word) for word in arguments],
        "include_dirs": [str(path) for path in getattr(extension, "include_dirs", None) or []],
        "name": str(getattr(extension, "name", "")),
        "sources": [str(path) for path in getattr(extension, "sources", None) or []],
    }


def makes_libraries(distribution: Any) -> bool:  # noqa: ANN401
    """Whether what it compiles has no Python ABI in its names: libraries of torch's operators.

    ``BuildExtension.with_options(no_python_abi_suffix=True)`` is for what torch.ops.load_library
    loads and nothing imports.
    """
    try:
        command = distribution.get_command_obj("build_ext")
    except Exception as error:  # noqa: BLE001 - a command of the project's own
        print(f"build_ext: {error!r}", file=sys.stderr)  # noqa: T201
        return False
    return bool(getattr(command, "no_python_abi_suffix", False))


def entry_points(given: object) -> list[str]:
    """Return entry points as ``group:name``, whatever form they were given in."""
    if not isinstance(given, dict):
        return []
    found = []
    for group, items in given.items():
        lines = items.splitlines() if isinstance(items, str) else items
        found += [f"{group}:{str(line).partition('=')[0].strip()}" for line in lines if line]
    return sorted(found)


def main(path: str) -> None:
    """Write the answer."""
    distribution = run_setup()
    try:
        distribution.set_defaults()
    except Exception as error:  # noqa: BLE001 - it only finds packages that nobody named
        print(f"set_defaults: {error!r}", file=sys.stderr)  # noqa: T201
    metadata = distribution.metadata
    packages = [*(distribution.packages or ()), *(distribution.py_modules or ())]
    words = {word: getattr(metadata, word, None) for word in WORDS}
    words["python_requires"] = getattr(distribution, "python_requires", None)
    answer = {
        "entry_points": entry_points(getattr(distribution, "entry_points", None)),
        "extensions": [describe(item) for item in distribution.ext_modules or ()],
        "makes_libraries": makes_libraries(distribution),
        "requires": [str(item) for item in getattr(distribution, "install_requires", None) or ()],
        "scripts": [Path(str(item)).name for item in distribution.scripts or ()],
        "top_levels": sorted({str(name).replace("/", ".").partition(".")[0] for name in packages}),
        **{word: "" if value is None else str(value) for word, value in words.items()},
    }
    Path(path).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
