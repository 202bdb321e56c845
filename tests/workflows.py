"""A small runner of GitHub workflows: expressions, `run:` steps in bash, doubles for actions."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<call>[A-Za-z]+)\(|(?P<name>[A-Za-z_][\w.-]*)"
    r"|(?P<mark>\|\||&&|==|!=|[!(),]))"
)


class Evaluator:
    """Evaluates expressions as GitHub does, as far as these workflows have them."""

    def __init__(self, context: Mapping[str, Any], calls: Mapping[str, Callable[..., Any]]) -> None:
        self._context = context
        self._calls = {"fromJSON": json.loads, "always": lambda: True, **calls}

    def fill(self, text: str) -> str:
        """Replace every expression in a text."""
        return _EXPRESSION.sub(lambda match: _shown(self.value(match[1])), text)

    def whole(self, value: Any) -> Any:  # noqa: ANN401 - YAML
        """Return the value of what is one expression, or the text with its expressions replaced."""
        match = _EXPRESSION.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is not None:
            return self.value(match[1])
        return self.fill(value) if isinstance(value, str) else value

    def is_true(self, condition: str | None) -> bool:
        if condition is None:
            return True
        match = _EXPRESSION.fullmatch(condition.strip())
        return bool(self.value(match[1] if match else condition))

    def value(self, expression: str) -> Any:  # noqa: ANN401 - whatever it is
        tokens = list(_tokens(expression))
        result = self._either(tokens)
        assert not tokens, f"cannot read {expression!r} from {tokens!r} on"
        return result

    def _either(self, tokens: list[tuple[str, str]]) -> Any:  # noqa: ANN401
        left = self._both(tokens)
        while tokens and tokens[0] == ("mark", "||"):
            tokens.pop(0)
            right = self._both(tokens)
            left = left or right
        return left

    def _both(self, tokens: list[tuple[str, str]]) -> Any:  # noqa: ANN401
        left = self._compared(tokens)
        while tokens and tokens[0] == ("mark", "&&"):
            tokens.pop(0)
            right = self._compared(tokens)
            left = left and right
        return left

    def _compared(self, tokens: list[tuple[str, str]]) -> Any:  # noqa: ANN401
        left = self._single(tokens)
        if tokens and tokens[0] in {("mark", "=="), ("mark", "!=")}:
            _, mark = tokens.pop(0)
            return (_shown(left) == _shown(self._single(tokens))) is (mark == "==")
        return left

    def _single(self, tokens: list[tuple[str, str]]) -> Any:  # noqa: ANN401
        kind, text = tokens.pop(0)
        if (kind, text) == ("mark", "!"):
            return not self._single(tokens)
        if (kind, text) == ("mark", "("):
            inner = self._either(tokens)
            assert tokens.pop(0) == ("mark", ")")
            return inner
        if kind == "text":
            return text[1:-1].replace("''", "'")
        if kind == "call":
            return self._call(text, tokens)
        assert kind == "name", f"unexpected {text!r}"
        found: Any = self._context
        for part in text.split("."):
            found = found.get(part, "") if isinstance(found, dict) else ""
        return found

    def _call(self, name: str, tokens: list[tuple[str, str]]) -> Any:  # noqa: ANN401
        arguments = []
        while tokens[0] != ("mark", ")"):
            arguments.append(self._either(tokens))
            if tokens[0] == ("mark", ","):
                tokens.pop(0)
        tokens.pop(0)
        return self._calls[name](*arguments)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        assert match is not None, f"cannot read {text[at:]!r}"
        at = match.end()
        kind = match.lastgroup
        assert kind is not None
        yield kind, match[kind]


def _shown(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


@dataclasses.dataclass(kw_only=True)
class Ran:
    """What became of one job."""

    outputs: dict[str, str]
    codes: dict[str, int]
    """Exit codes by the names of the steps."""
    log: str

    @property
    def result(self) -> str:
        return "failure" if any(self.codes.values()) else "success"


class Runner:
    """Runs jobs of one workflow; caches and artifacts lie in folders between them."""

    def __init__(self, workflow: Path, folder: Path, *, checkout: Callable[[Path], None]) -> None:
        self.document = yaml.safe_load(workflow.read_text(encoding="utf-8"))
        self._folder = folder
        self._checkout = checkout
        self.skipped: list[str] = []

    def run(
        self, job: str, *, context: Mapping[str, Any], env: Mapping[str, str], name: str = ""
    ) -> Ran:
        """Run one job, or one entry of its matrix, in a workspace of its own."""
        workspace = self._folder / "workspaces" / (name or job)
        temp = workspace.with_name(f"{workspace.name}-temp")
        for folder in (workspace, temp):
            folder.mkdir(parents=True)
        steps: dict[str, dict[str, Any]] = {}
        full: dict[str, Any] = {**context, "steps": steps}
        full["github"] = {"workspace": str(workspace), "run_id": "1", **context.get("github", {})}
        ran = Ran(outputs={}, codes={}, log="")
        given = {**env, "RUNNER_TEMP": str(temp)}
        for number, step in enumerate(self.document["jobs"][job]["steps"]):
            evaluator = Evaluator(full, self._calls(workspace))
            label = step.get("name") or step.get("uses", f"step {number}")
            is_over = any(ran.codes.values()) and "always()" not in str(step.get("if", ""))
            if is_over or not evaluator.is_true(step.get("if")):
                self.skipped.append(label)
                continue
            if "run" in step:
                outputs = self._run(label, step, evaluator, workspace, given, ran)
                steps[step.get("id", label)] = {"outputs": outputs}
            else:
                self._use(step, evaluator, workspace)
        evaluator = Evaluator(full, self._calls(workspace))
        wanted = self.document["jobs"][job].get("outputs", {})
        ran.outputs = {key: evaluator.fill(text) for key, text in wanted.items()}
        return ran

    def _calls(self, workspace: Path) -> dict[str, Callable[..., Any]]:
        def hash_files(pattern: str) -> str:
            return "some" if any(workspace.glob(pattern)) else ""

        return {"cancelled": lambda: False, "hashFiles": hash_files}

    def _run(
        self,
        label: str,
        step: Mapping[str, Any],
        evaluator: Evaluator,
        workspace: Path,
        env: Mapping[str, str],
        ran: Ran,
    ) -> dict[str, str]:
        assert "${{" not in step["run"], "expressions in scripts are for attackers to fill"
        output = workspace.with_name(f"{workspace.name}-output")
        output.write_text("")
        own = {key: evaluator.fill(str(text)) for key, text in step.get("env", {}).items()}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=workspace,
            env={**env, "GITHUB_OUTPUT": str(output), **own},
            check=False,
            capture_output=True,
            text=True,
        )
        ran.codes[label] = done.returncode
        ran.log += f"## {label}: {done.returncode}\n{done.stdout}{done.stderr}\n"
        lines = output.read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def _use(self, step: Mapping[str, Any], evaluator: Evaluator, workspace: Path) -> None:
        action = step["uses"].partition("@")[0]
        words = {key: evaluator.whole(text) for key, text in step.get("with", {}).items()}
        match action:
            case "actions/checkout":
                self._checkout(workspace)
            case "astral-sh/setup-uv" | "actions/attest-build-provenance":
                pass
            case "actions/cache/restore":
                self._restore(words, workspace)
            case "actions/cache/save":
                _copy(workspace / words["path"], self._folder / "caches" / words["key"])
            case "actions/upload-artifact":
                self._upload(words, workspace)
            case "actions/download-artifact":
                self._download(words, workspace)
            case _:
                msg = f"no double of {action}"
                raise AssertionError(msg)

    def _restore(self, words: Mapping[str, Any], workspace: Path) -> None:
        found = [self._folder / "caches" / words["key"]]
        for prefix in str(words.get("restore-keys", "")).split():
            found += sorted((self._folder / "caches").glob(f"{prefix}*"))
        for folder in found:
            if folder.is_dir():
                _copy(folder, workspace / words["path"])
                return

    def _upload(self, words: Mapping[str, Any], workspace: Path) -> None:
        """Keep files as the action does: below what their paths have in common."""
        paths = [workspace / line for line in str(words["path"]).split()]
        having = [path for path in paths if path.exists()]
        assert having or words.get("if-no-files-found") != "error"
        target = self._folder / "artifacts" / words["name"]
        target.mkdir(parents=True)
        common = paths[0].parent if len(paths) > 1 or not paths[0].is_dir() else paths[0]
        for path in having:
            _copy(path, target / path.relative_to(common))

    def _download(self, words: Mapping[str, Any], workspace: Path) -> None:
        artifacts = self._folder / "artifacts"
        if "name" in words:
            _copy(artifacts / words["name"], workspace / words["path"])
            return
        prefixes = re.fullmatch(r"\{(.*)\}-\*", words["pattern"])
        assert prefixes is not None
        for folder in sorted(artifacts.iterdir()):
            if folder.name.partition("-")[0] in prefixes[1].split(","):
                _copy(folder, workspace / words["path"] / folder.name)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, symlinks=True)
    elif source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def copy_repository(repository: Path, target: Path) -> None:
    """Copy what git knows of a repository, with its changes."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=repository, check=True, capture_output=True
    ).stdout
    for name in filter(None, os.fsdecode(listed).split("\0")):
        if (repository / name).is_file():
            _copy(repository / name, target / name)
