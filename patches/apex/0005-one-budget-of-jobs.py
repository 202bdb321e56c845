"""Compile several extensions at once, all within MAX_JOBS.

Why: apex has 12 to 32 extensions of one to sixteen files. One after the other, most of the cores
wait for the last file of each and for its link. With APEX_PARALLEL_BUILD=N upstream builds N at
once, each with a ninja of MAX_JOBS compiles: the product oversubscribes cores and memory.

What: a few extensions at once, whose ninjas share one jobserver, as make's do: a pipe that holds
a token for each compile. ninja takes part from 1.13 on, unless it is given -j, which torch does
where MAX_JOBS is set. Every ninja may run one compile without a token, so that the pipe
holds MAX_JOBS less the number of extensions; when most are done the last still gets nearly all.
At a farm's budget nothing changes: its server decides what runs, and MAX_JOBS is high there.
"""

from __future__ import annotations

import ast
import shutil
import sys
from pathlib import Path

NEW_LINES = """\
jobs = int(os.environ.pop("MAX_JOBS"))
parallel = max(1, min(4, jobs // 2))
import tempfile

jobserver = os.path.join(tempfile.mkdtemp(), "jobserver")
os.mkfifo(jobserver)
jobserver_tokens = os.open(jobserver, os.O_RDWR)  # lasts as long as this process
os.write(jobserver_tokens, b"+" * (jobs - parallel))
os.environ["MAKEFLAGS"] = f" -j{jobs} --jobserver-auth=fifo:{jobserver}"

"""


class PatchError(Exception):
    """Why the file cannot be changed, as a sentence without the name of the file."""


def find_changes(tree: ast.Module) -> list[tuple[ast.AST, str]]:
    """Return the call of setup(), with the new lines in front of it."""
    calls = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func) == "setup"
        and any(
            ast.unparse(keyword) == "ext_modules=ext_modules" for keyword in node.value.keywords
        )
    ]
    if len(calls) != 1:
        msg = f"looked for one setup(ext_modules=ext_modules), found {len(calls)}"
        raise PatchError(msg)
    parallel = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node) == "self.parallel = parallel"
    ]
    if len(parallel) != 1:
        msg = f"looked for one `self.parallel = parallel`, found {len(parallel)}"
        raise PatchError(msg)
    return [(calls[0].func, NEW_LINES + "setup")]


def replace(source: bytes, changes: list[tuple[ast.AST, str]]) -> bytes:
    """Return the source with each node replaced by its text, in the last place first."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node, text in sorted(changes, key=lambda change: change[0].lineno, reverse=True):
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        source = source[:begin] + text.encode() + source[end:]
    ast.parse(source)
    return source


def main(arguments: list[str]) -> int | str:
    """Return what the process exits with."""
    path = Path(arguments[0], "setup.py")
    try:
        source = path.read_bytes()
        changed = replace(source, find_changes(ast.parse(source)))
    except OSError as error:
        return f"{path}: looked for this file: {error.strerror}"
    except PatchError as error:
        return f"{path}: {error}"
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_bytes(changed)
    shutil.copymode(path, unfinished)
    unfinished.replace(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
