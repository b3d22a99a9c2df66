"""`completion`: the scripts by which shells complete our command lines.

They are argcomplete's and hold no words of ours: at each TAB they run `trio-progress` with the line so far in its
environment, which answers from the parser, and for session ids from the store. So they are never out of date.
"""

from __future__ import annotations

import argparse
from typing import Final

from . import exit_codes, output, parser

ASKED: Final = "_ARGCOMPLETE"
"""The environment variable that a script asks by."""

SHELLS: Final = ("bash", "zsh", "fish")

_ZSH: Final = """\
#compdef trio-progress
_trio_progress() {
    # zsh would quote the ~ of what argcomplete offers.
    [[ $PREFIX == (|*=)\\~* ]] && { compset -P "*="; _files -/; return }
    # argcomplete takes the first word of the line for the command, which in `make; trio-progress ls` it is not.
    local -h BUFFER="${(j: :)words[1,CURRENT-1]} $QIPREFIX$PREFIX"
    local -h CURSOR=$#BUFFER
%s}
if [[ $zsh_eval_context == *func ]]; then
    _trio_progress "$@"
else
    compdef _trio_progress trio-progress
fi
"""

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
    """Adds `completion`."""
    command = parser.command(
        commands,
        "completion",
        completion,
        summary="print what lets a shell complete command lines",
        description=_COMPLETION,
        epilog=_EPILOG,
    )
    command.add_argument("shell", choices=SHELLS, help="the shell")


def completion(arguments: argparse.Namespace) -> int:
    """`trio-progress completion`."""
    from argcomplete.shell_integration import shellcode

    # nospace alone: by default bash offers files where nothing fits, and no argument of ours is any file.
    script = shellcode(["trio-progress"], shell=arguments.shell, complete_arguments=["-o", "nospace"])
    output.print_answer(_ZSH % script if arguments.shell == "zsh" else script)
    return exit_codes.OK
