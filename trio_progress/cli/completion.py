"""`completion`: scripts that let shells complete our command lines, and the command that they ask.

The scripts are small and know nothing: at each TAB they ask `trio-progress complete -- WORD...`, which answers from
the parser, and for session ids from the store. So what is completed is always what is there. Asked for with
anything wrong it answers nothing, for a shell that completes is no place for errors.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from . import codes, output, parser, places

SESSIONS: Final = 200
"""Ids of sessions that are offered at most, the newest."""

FOLDERS: Final = ":folders"
"""The answer that tells the shell to complete names of folders itself."""

_BASH: Final = """\
_trio_progress() {
    local line word words=("${COMP_WORDS[@]:1:COMP_CWORD}") folders=
    # Bash breaks words at : and =, which ids, stores and labels have: they are put together again.
    local whole=() glue=
    for word in "${words[@]}"; do
        if [[ $word == [:=]* || -n $glue ]] && [ ${#whole[@]} -gt 0 ]; then
            whole[-1]+=$word
        else
            whole+=("$word")
        fi
        [[ $word == [:=] ]] && glue=yes || glue=
    done
    local current=${whole[-1]} last=${words[-1]}
    local before=${current%"$last"}
    [[ $last == [:=] ]] && before=$current
    COMPREPLY=()
    while IFS=$'\\t' read -r word _; do
        if [ "$word" = ":folders" ]; then
            compopt -o filenames 2>/dev/null
            while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -d -- "$last")
        else
            COMPREPLY+=("${word#"$before"}")
        fi
    done < <(trio-progress complete -- "${whole[@]}" 2>/dev/null)
}
complete -F _trio_progress trio-progress
"""

_ZSH: Final = """\
#compdef trio-progress
_trio_progress() {
    local line word said
    local -a found
    while IFS= read -r line; do
        word=${line%%$'\\t'*} said=${line#*$'\\t'}
        if [[ $word == ":folders" ]]; then
            _files -/
        elif [[ $line == *$'\\t'* ]]; then
            found+=("${word//:/\\\\:}:$said")
        else
            found+=("${word//:/\\\\:}")
        fi
    done < <(trio-progress complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)
    (( ${#found} )) && _describe -V trio-progress found
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _trio_progress "$@"
else
    compdef _trio_progress trio-progress
fi
"""

_FISH: Final = """\
function __trio_progress
    set -l words (commandline -opc) (commandline -ct)
    for line in (trio-progress complete -- $words[2..-1] 2>/dev/null)
        if test "$line" = ":folders"
            __fish_complete_directories (commandline -ct)
        else
            printf '%s\\n' $line
        end
    end
end
complete -c trio-progress -f -a '(__trio_progress)'
"""

SCRIPTS: Final = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}

_COMPLETION: Final = """\
Prints the script that lets a shell complete command lines of trio-progress: commands, options, statuses, and the ids
of the sessions in your store.
"""

_EPILOG: Final = """\
to have it in every shell:
  bash   echo 'eval "$(trio-progress completion bash)"' >> ~/.bashrc
  zsh    trio-progress completion zsh > a folder of $fpath/_trio-progress
  fish   trio-progress completion fish > ~/.config/fish/completions/trio-progress.fish
"""


def add(commands: parser.Commands) -> None:
    """Adds `completion`, and `complete`, which no help shows."""
    command = parser.command(
        commands,
        "completion",
        completion,
        says="print what lets a shell complete command lines",
        description=_COMPLETION,
        epilog=_EPILOG,
    )
    command.add_argument("shell", choices=SCRIPTS, help="the shell")
    asked = commands.add_parser("complete")
    asked.add_argument("words", nargs="*")
    asked.set_defaults(run=complete)


def completion(arguments: argparse.Namespace) -> int:
    """`trio-progress completion`."""
    output.put(SCRIPTS[arguments.shell])
    return codes.OK


def complete(arguments: argparse.Namespace) -> int:
    """`trio-progress complete -- WORD...`: what the last word, which may be empty, can become; one a line."""
    words = list(arguments.words) or [""]
    output.put("".join(f"{candidate}\n" for candidate in candidates(parser.parser(), words)))
    return codes.OK


def candidates(whole: argparse.ArgumentParser, words: Sequence[str]) -> Iterator[str]:
    """What the last of the words can become; after a tab, what that is.

    Args:
        whole: The parser of the command line.
        words: All words behind the program's name; the last one is being typed.
    """
    *done, current = words
    commands = _subcommands(whole)
    if not done or done[0] not in commands:
        if not done:
            said = {choice.dest: choice.help for choice in _choices(whole)}
            offered = [f"{name}\t{said[name]}" for name in commands if name in said]
            yield from _starting([*offered, *_options(whole, ())], current)
        return
    command = commands[done[0]]
    given = done[1:]
    expecting = _expecting(command, given)
    name, equals, _ = current.partition("=")
    if expecting is not None:
        yield from _starting(_values(expecting, given), current)
    elif "--" not in given and current.startswith("--") and equals:
        option = command._option_string_actions.get(name)
        if option is not None and option.nargs != 0:
            yield from _starting((f"{name}={text}" for text in _values(option, given)), current)
    elif "--" not in given and current.startswith("-"):
        yield from _starting(_options(command, given), current)
    else:
        for action in command._actions:
            if not action.option_strings:
                yield from _starting(_values(action, given), current)


def _starting(texts: Iterable[str], current: str) -> Iterator[str]:
    return (text for text in texts if text.startswith(current) or text == FOLDERS)


def _subcommands(whole: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in whole._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _choices(whole: argparse.ArgumentParser) -> list[argparse.Action]:
    """The commands that the help shows."""
    return [
        choice
        for action in whole._actions
        if isinstance(action, argparse._SubParsersAction)
        for choice in action._choices_actions
    ]


def _options(command: argparse.ArgumentParser, given: Sequence[str]) -> Iterator[str]:
    """Options by their long names; those that were given only where they may be given again."""
    for action in command._actions:
        names = [name for name in action.option_strings if name.startswith("--")]
        again = isinstance(action, argparse._AppendAction)
        if names and (again or not any(word.partition("=")[0] in action.option_strings for word in given)):
            yield f"{names[0]}\t{(action.help or '').partition(';')[0]}"


def _expecting(command: argparse.ArgumentParser, given: Sequence[str]) -> argparse.Action | None:
    """The option whose value comes next."""
    if not given or "--" in given:
        return None
    action = command._option_string_actions.get(given[-1])
    return action if action is not None and action.nargs != 0 else None


def _values(action: argparse.Action, given: Sequence[str]) -> Iterator[str]:
    """What an argument can be, as far as anybody can say."""
    if action.choices is not None:
        yield from map(str, action.choices)
    elif getattr(action, "sessions", False):
        yield from (line for line in _sessions(given) if line.partition("\t")[0] not in given)
    elif getattr(action, "folders", False):
        yield FOLDERS


def _sessions(given: Sequence[str]) -> Iterator[str]:
    """The newest sessions of the store that the words name, or would find; none where it cannot be read."""
    from ..errors import StoreError

    store = None
    for number, word in enumerate(given):
        if word == "--store" and number + 1 < len(given):
            store = given[number + 1]
        elif word.startswith("--store="):
            store = word.partition("=")[2]
    try:
        with places.client(argparse.Namespace(store=store)) as client:
            page = [] if client is None else list(client.sessions(limit=SESSIONS))
    except (codes.CommandError, StoreError):
        return
    from .._text import printable

    for snapshot in page:
        yield f"{snapshot.id}\t{snapshot.status.replace('_', ' ')}, {printable(snapshot.title)}"[:200]
