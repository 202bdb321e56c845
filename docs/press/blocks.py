"""Run the examples of docs/ that are marked as runnable, and compare what they print.

A fence that begins with ```` ```console run ```` or ```` ```python run ```` is run, those of a page
in their order and in a folder of its own that looks like a clone of the repository. A console block
holds commands behind ``$ `` and, below each, what it prints; ``...`` stands for anything, and a
command without lines below it may print what it likes. ``exit-12`` among the words of the fence
means that the last command ends so, ``slow`` that it is left out by ``--quick``.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REPOSITORY = Path(__file__).parents[2]
FARM = ("locks", "matrix.toml", "patches", "recipes", "src", "tests")
"""What of a clone the examples see."""
_FENCE = re.compile(
    r"^```(console|python) ([a-z0-9 -]*\brun\b[a-z0-9 -]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


class BlockError(Exception):
    """An example does something else than its page says."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One example of a page."""

    page: Path
    line: int
    language: str
    words: frozenset[str]
    text: str

    @property
    def exit_code(self) -> int:
        """How the last command has to end."""
        codes = [int(word[5:]) for word in self.words if word.startswith("exit-")]
        return codes[0] if codes else 0


def find_blocks(page: Path) -> Iterator[Block]:
    """Yield the runnable examples of a page."""
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        yield Block(
            page=page,
            line=text.count("\n", 0, match.start()) + 1,
            language=match[1],
            words=frozenset(match[2].split()) - {"run"},
            text=match[3],
        )


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    r"""Yield each command of a console block with the lines that it prints.

    >>> list(commands("$ echo a\na\n$ true\n"))
    [('echo a', ['a']), ('true', [])]
    """
    command, expected = "", list[str]()
    for line in text.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, expected
            command, expected = line.removeprefix("$ "), []
        else:
            expected.append(line.rstrip())
    if command:
        yield command, expected


def matches(printed: str, expected: list[str]) -> bool:
    r"""Say whether that was printed; ``...`` stands for anything.

    >>> matches("took 3 s\n", ["took ... s"]), matches("a\nb\n", ["a"])
    (True, False)
    """
    pattern = ".*".join(re.escape(part) for part in "\n".join(expected).strip().split("..."))
    lines = "\n".join(line.rstrip() for line in printed.splitlines())
    return re.fullmatch(pattern, lines.strip(), re.DOTALL) is not None


def run_block(block: Block, *, folder: Path, env: Mapping[str, str]) -> None:
    """Run an example, and raise if anything is not as the page has it."""
    where = f"{block.page.relative_to(REPOSITORY)}:{block.line}"
    if block.language == "python":
        _run([sys.executable, "-c", block.text], 0, where=where, folder=folder, env=env)
        return
    steps = list(commands(block.text))
    for number, (command, expected) in enumerate(steps, 1):
        exit_code = block.exit_code if number == len(steps) else 0
        printed = _run(["bash", "-c", command], exit_code, where=where, folder=folder, env=env)
        if expected and not matches(printed, expected):
            msg = f"{where}: `{command}` printed\n{printed}\nand the page says\n"
            raise BlockError(msg + "\n".join(expected))


def _run(
    command: list[str], exit_code: int, *, where: str, folder: Path, env: Mapping[str, str]
) -> str:
    done = subprocess.run(
        command,
        check=False,
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != exit_code:
        msg = f"{where}: `{command[-1]}` ended with {done.returncode}, not {exit_code}\n"
        raise BlockError(msg + done.stdout)
    return done.stdout


def run_page(blocks: list[Block], *, env: Mapping[str, str]) -> None:
    """Run the examples of one page in a folder of their own."""
    with tempfile.TemporaryDirectory(prefix="wheelyard-docs-") as name:
        folder = Path(name)
        for part in FARM:
            (folder / part).symlink_to(REPOSITORY / part)
        ours = {
            **env,
            "COLUMNS": "100",
            "PATH": f"{Path(sys.executable).parent}:{env['PATH']}",
            "WHEELYARD_CONFIG": str(folder / ".config"),
            "WHEELYARD_STATE": str(folder / ".state"),
        }
        for block in blocks:
            run_block(block, folder=folder, env=ours)


def main() -> int:
    """Run them all; a translation with the same examples as its page costs nothing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", type=Path, help="default: all of docs/")
    parser.add_argument("--quick", action="store_true", help="leave out what is marked slow")
    arguments = parser.parse_args()
    failed = False
    seen: set[tuple[str, ...]] = set()
    for page in arguments.pages or sorted((REPOSITORY / "docs").rglob("*.md")):
        blocks = list(find_blocks(page.absolute()))
        if arguments.quick and any("slow" in block.words for block in blocks):
            continue
        texts = tuple(block.text for block in blocks)
        if not blocks or texts in seen:
            continue
        seen.add(texts)
        started = time.monotonic()
        try:
            run_page(blocks, env=os.environ)
        except BlockError as error:
            print(error, file=sys.stderr)
            failed = True
        else:
            seconds = time.monotonic() - started
            print(f"{os.path.relpath(page, REPOSITORY)}: {len(blocks)} examples, {seconds:.0f} s")
    return failed


if __name__ == "__main__":
    sys.exit(main())
