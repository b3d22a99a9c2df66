"""The printed scripts in the shells they are for, which ask `trio-progress` about sessions whose ids have colons."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from trio_progress.blocking import Client

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
Shell = Callable[[Sequence[str]], list[str]]

SEPARATED = "\necho ---\n"
"""Between what is completed by one shell; to load the script anew for each would cost as much again."""


def answers(printed: list[str]) -> list[list[str]]:
    """What was printed behind each separator, without empty lines."""
    found: list[list[str]] = []
    for line in printed:
        if line == "---":
            found.append([])
        elif line:
            found[-1].append(line)
    return found


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Runs a command of a shell that finds `trio-progress`; its lines of output."""
    store = f"sqlite:{tmp_path / 'progress.db'}"
    with Client(store) as client:
        client.declare("crawl:1", title="The: first")
        client.declare("crawl:2")
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "trio-progress"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m trio_progress "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "TRIO_PROGRESS_STORE": store,
    }

    def run(command: Sequence[str]) -> list[str]:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, env=environment, cwd=tmp_path
        )
        assert done.stderr == ""
        return done.stdout.splitlines()

    return run


def test_bash_completes_commands_options_and_ids_that_have_colons(shell: Shell) -> None:
    offered = {
        "trio-progress w": ["watch"],
        "trio-progress ls --st": ["--status", "--store"],
        "trio-progress ls --status q": ["queued"],
        # Bash breaks words at = and :, and takes what is given for the part behind it.
        "trio-progress ls --status=q": ["queued"],
        "trio-progress show cr": ["crawl:2", "crawl:1"],
        "trio-progress show crawl:": ["2", "1"],
        "trio-progress show crawl:1": ["1"],
        "trio-progress show x": [],
        "trio-progress demo --corpus b": ["bin/"],
        "trio-progress demo --corpus ~/b": ["~/bin/"],
    }

    def completed(line: str) -> str:
        # What bash does with the answer works within a line that is being edited only.
        return f"""
            COMP_LINE={line!r} COMP_POINT={len(line)} COMP_TYPE=9 COMPREPLY=()
            _python_argcomplete trio-progress
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """

    script = ['eval "$(trio-progress completion bash)"; compopt() { :; }', *map(completed, offered)]
    assert answers(shell(["bash", "-c", SEPARATED.join(script)])) == [*offered.values()]


def test_bash_offers_no_files_where_nothing_fits(shell: Shell) -> None:
    (registered,) = shell(["bash", "-c", 'eval "$(trio-progress completion bash)"; complete -p trio-progress'])
    assert registered == "complete -o nospace -F _python_argcomplete trio-progress"


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is missing: install the package zsh")
@pytest.mark.exhaustive
def test_zsh_completes_commands_options_and_ids_that_have_colons(shell: Shell) -> None:
    crawls = [r"crawl\:2:queued, crawl:2", r"crawl\:1:queued, The: first"]
    offered = {
        "trio-progress w": ["watch:show sessions live until they end"],
        "trio-progress show cr": crawls,
        "trio-progress show ": crawls,
        "trio-progress ls --lim": ["--limit:at most so many"],
        "trio-progress demo --resume=crawl:1": [r"--resume=crawl\:1:queued, The: first"],
        "trio-progress demo --corpus b": ["bin/:"],
        # In a path from the home directory zsh would quote the ~ that others offer.
        "trio-progress demo --corpus ~/b": ["files -/ of ~/b"],
        "trio-progress demo --corpus=~/b": ["files -/ of ~/b"],
    }

    def completed(line: str) -> str:
        # What shows the candidates works within a line that is being edited only. The line is the last of many.
        *before, last = line.split(" ")
        return f"""
            BUFFER='make; {line}' CURSOR={len(line) + 6}
            words=({" ".join(before)} {last!r}) CURRENT={len(before) + 1} PREFIX={last!r}
            _trio_progress
        """

    prepared = """
        compdef() { print -r -- "compdef $@" >&2 }
        _describe() { print -rl -- "$completions[@]" }
        _files() { print -r -- "files $@ of $PREFIX" }
        compset() { PREFIX=${PREFIX#*=} }
        eval "$(trio-progress completion zsh)" 2>/dev/null
    """
    script = SEPARATED.join([prepared, *map(completed, offered)])
    assert answers(shell(["zsh", "-f", "-c", script])) == [*offered.values()]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is missing: install the package zsh")
@pytest.mark.exhaustive
def test_zsh_takes_the_script_by_eval_and_from_a_folder_of_functions(shell: Shell) -> None:
    evaluated = """
        compdef() { print -r -- "compdef $@" }
        eval "$(trio-progress completion zsh)"
    """
    assert shell(["zsh", "-f", "-c", evaluated]) == ["compdef _trio_progress trio-progress"]
    loaded = """
        trio-progress completion zsh > _trio-progress
        fpath=($PWD $fpath)
        autoload -U _trio-progress
        _describe() { print -rl -- "$completions[@]" }
        words=(trio-progress w) CURRENT=2 PREFIX=w
        _trio-progress
        _trio-progress
    """
    assert shell(["zsh", "-f", "-c", loaded]) == ["watch:show sessions live until they end"] * 2


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is missing: install the package fish")
@pytest.mark.exhaustive
def test_fish_completes_commands_options_and_ids_that_have_colons(shell: Shell) -> None:
    lines = [
        "trio-progress w",
        "trio-progress show cr",
        "make; trio-progress show crawl:1",
        "trio-progress ls --status=q",
        "trio-progress demo --corpus b",
    ]
    script = SEPARATED.join(["trio-progress completion fish | source", *(f"complete -C '{line}'" for line in lines)])
    command, ids, one, status, folder = answers(shell(["fish", "--no-config", "-c", script]))
    assert command == ["watch\tshow sessions live until they end"]
    assert ids == ["crawl:1\tqueued, The: first", "crawl:2\tqueued, crawl:2"]
    assert one == ["crawl:1\tqueued, The: first"]
    assert [found.split("\t")[0] for found in status] == ["--status=queued"]
    assert [found.split("\t")[0] for found in folder] == ["bin/"]
