"""Compile several extensions at once, all within MAX_JOBS.

Why: apex has 12 to 32 extensions of one to sixteen files. One after the other, most of the cores
wait for the last file of each and for its link. With APEX_PARALLEL_BUILD=N upstream builds N at
once, each with a ninja of MAX_JOBS compiles: the product oversubscribes cores and memory.

What: half as many extensions as jobs at once, 16 at most, whose ninjas share one jobserver, as
make's do: a pipe that holds a token for each compile. ninja takes part from 1.13 on, unless it is
given -j, which torch does where MAX_JOBS is set. Every ninja may run one compile without a token,
so that the pipe holds MAX_JOBS less the number of extensions; the last one still gets half of them.
With four at once 32 cores did the work of ten (578 s): many extensions are of a single file.
At a farm's budget nothing changes: its server decides what runs, and MAX_JOBS is high there.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where it lies in the farm

from editing import parse, patch_file, replace, setup_call, the_one

NEW_LINES = """\
jobs = int(os.environ.pop("MAX_JOBS"))
parallel = max(1, min(16, jobs // 2))
import tempfile

jobserver = os.path.join(tempfile.mkdtemp(), "jobserver")
os.mkfifo(jobserver)
jobserver_tokens = os.open(jobserver, os.O_RDWR)  # lasts as long as this process
os.write(jobserver_tokens, b"+" * (jobs - parallel))
os.environ["MAKEFLAGS"] = f" -j{jobs} --jobserver-auth=fifo:{jobserver}"

"""


def transform(source: bytes) -> bytes:
    """Return a setup.py with the new lines in front of setup(), which is known to be parallel."""
    tree = parse(source)
    parallel = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node) == "self.parallel = parallel"
    ]
    the_one(parallel, "`self.parallel = parallel`")
    return replace(source, [(setup_call(tree).func, NEW_LINES + "setup")])


if __name__ == "__main__":
    patch_file("setup.py", transform)
