"""What a shell is answered at a TAB. It is loaded then only, for the time that argcomplete takes to load."""

from __future__ import annotations

import argparse
from typing import Any, Final

from argcomplete.completers import SuppressCompleter
from argcomplete.finders import ExclusiveCompletionFinder

SETTINGS: Final[dict[str, Any]] = {
    # Options come once a dash is typed, by their long names; where nothing is known, no files are offered.
    "always_complete_options": False,
    "exclude": ("-h", "-y"),
    "default_completer": SuppressCompleter(),
}


class Finder(ExclusiveCompletionFinder):
    """Finds what the word before the cursor can become; what was given is not offered again, but where it may be."""

    def collect_completions(
        self, active_parsers: list[argparse.ArgumentParser], parsed_args: argparse.Namespace, cword_prefix: str
    ) -> list[str]:
        """The words that are offered. The description of an option is the beginning of its help."""
        found = super().collect_completions(active_parsers, parsed_args, cword_prefix)
        said = self.get_display_completions()
        for word in found:
            if word.startswith("--"):
                _option, equals, value = word.partition("=")
                # argcomplete knows the value alone, and would have zsh show `None` for the whole word.
                said[word] = said.get(value, "") if equals else said[word].partition(";")[0]
        return found


def answer(whole: argparse.ArgumentParser) -> None:
    """Writes to the shell that asks, by the rules of argcomplete's scripts, and ends the process."""
    Finder()(whole, **SETTINGS)
