"""What may stand in the place of a word, and the scripts that let a shell ask for it."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wheelyard.cli.arguments import make_parser
from wheelyard.cli.output import print_lines
from wheelyard.cli.session import open_farm, yard_folder
from wheelyard.errors import WheelyardError
from wheelyard.farm import find_farm_folder
from wheelyard.machine.folders import cache_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_BASH: Final = r"""
_wheelyard() {
    local current=${COMP_WORDS[COMP_CWORD]} found
    mapfile -t found < <(
        wheelyard completion "--current=:$current" bash -- "${COMP_WORDS[@]:1:COMP_CWORD-1}" \
            2>/dev/null | cut -f1
    )
    COMPREPLY=("${found[@]}")
}
complete -o default -F _wheelyard wheelyard
"""
_ZSH: Final = r"""
#compdef wheelyard
_wheelyard() {
    local word text
    local -a found
    while IFS=$'\t' read -r word text; do
        found+=("${word//:/\\:}:$text")
    done < <(
        wheelyard completion "--current=:$words[CURRENT]" zsh -- "${(@)words[2,CURRENT-1]}" \
            2>/dev/null
    )
    if (( $#found )); then _describe wheelyard found; else _files; fi
}
if [[ $funcstack[1] == _wheelyard ]]; then _wheelyard "$@"; else compdef _wheelyard wheelyard; fi
"""
_FISH: Final = r"""
function __wheelyard_words
    set -l before (commandline --tokenize --cut-at-cursor --current-process)
    set -l current (commandline --cut-at-cursor --current-token)
    wheelyard completion "--current=:$current" fish -- $before[2..] 2>/dev/null
end
complete --command wheelyard --condition 'test -n "$(__wheelyard_words)"' --no-files
complete --command wheelyard --arguments '(__wheelyard_words)'
"""
SCRIPTS: Final = {"bash": _BASH, "fish": _FISH, "zsh": _ZSH}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Position:
    """Where the word that is completed stands."""

    parser: argparse.ArgumentParser
    action: argparse.Action | None
    """The option whose value it is, or the positional argument."""
    is_value: bool
    """Whether an option wants it, so that no other option can stand there."""


def completion(arguments: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Print the shell's script, or what a word may become."""
    if arguments.current is None:
        print_lines(SCRIPTS[arguments.shell].strip("\n"))
        return
    # argparse takes away a value that is two dashes, whence the colon before it
    current = arguments.current.removeprefix(":")
    for word, text in candidates(arguments.words, current, env):
        print_lines(f"{word}\t{text}")


def candidates(
    before: Sequence[str], current: str, env: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield words that begin as ``current`` does, with what each means.

    There are none where a path is wanted: the shell knows those.
    """
    place = _locate(make_parser(), before)
    found = dict(_options(place.parser)) if current.startswith("-") and not place.is_value else {}
    if not current.startswith("-") and place.action is not None:
        found = dict(_values(place.action, before, env))
    yield from ((word, text) for word, text in found.items() if word.startswith(current))


def _locate(parser: argparse.ArgumentParser, before: Sequence[str]) -> _Position:
    """Read the words that stand already, as far as it takes to know what comes next."""
    positional = 0
    value_of: argparse.Action | None = None
    for word in before:
        if value_of is not None:
            value_of = None
        elif word.startswith("-"):
            option = parser._option_string_actions.get(word)  # noqa: SLF001 - argparse has no other way
            value_of = option if option is not None and option.nargs != 0 else None
        else:
            action = _positional(parser, positional)
            choices = action.choices if isinstance(action, argparse._SubParsersAction) else {}  # noqa: SLF001
            if word in choices:
                parser, positional = choices[word], 0
            else:
                positional += 1
    if value_of is not None:
        return _Position(parser=parser, action=value_of, is_value=True)
    return _Position(parser=parser, action=_positional(parser, positional), is_value=False)


def _positional(parser: argparse.ArgumentParser, number: int) -> argparse.Action | None:
    actions = [action for action in parser._actions if not action.option_strings]  # noqa: SLF001
    if number < len(actions):
        return actions[number]
    is_repeated = bool(actions) and actions[-1].nargs in {"*", "+"}
    return actions[-1] if is_repeated else None


def _options(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    for action in parser._actions:  # noqa: SLF001
        for option in action.option_strings:
            if option.startswith("--"):
                yield option, action.help or ""


def _values(
    action: argparse.Action, before: Sequence[str], env: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield what an argument can be: its choices, or names out of farm, yard and cache."""
    if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
        helps = {item.dest: item.help or "" for item in action._choices_actions}  # noqa: SLF001
        yield from ((name, helps.get(name, "")) for name in action.choices)
    elif action.choices is not None:
        yield from ((str(choice), "") for choice in action.choices)
    elif action.type is None:
        try:
            yield from ((word, "") for word in _names(action.dest, before, env))
        except (WheelyardError, OSError):
            return  # a farm that cannot be read is told by the command itself


def _names(dest: str, before: Sequence[str], env: Mapping[str, str]) -> Iterable[str]:
    match dest:
        case "recipe":
            return sorted(path.stem for path in _farm(before).glob("recipes/*.toml"))
        case "identifier" | "job" | "wheel" | "wheels":
            return _identifiers(before, env)
        case "torch":
            return map(str, open_farm(_asked(before)).matrix.torches)
        case "python":
            return map(str, open_farm(_asked(before)).matrix.pythons)
        case "what":
            return sorted(path.name for path in cache_folder(env).glob("[a-z]*") if path.is_dir())
        case _:
            return ()


def _asked(before: Sequence[str]) -> argparse.Namespace:
    """Return the options that say where farm and yard are."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--farm", type=Path)
    parser.add_argument("--yard", type=Path)
    return parser.parse_known_args([*before])[0]


def _farm(before: Sequence[str]) -> Path:
    return Path(_asked(before).farm or find_farm_folder(Path.cwd()))


def _identifiers(before: Sequence[str], env: Mapping[str, str]) -> Iterator[str]:
    """Yield jobs of the matrix, wheels of the yard and logs, each once."""
    from wheelyard.planning.plan import expand_matrix  # noqa: PLC0415 - only these need it

    farm = open_farm(_asked(before))
    jobs, _ = expand_matrix(farm.recipes, farm.matrix)
    logs = yard_folder(_asked(before), farm, env).glob("logs/*.log")
    yield from dict.fromkeys((*(job.identifier for job in jobs), *(path.stem for path in logs)))
