"""The answer to a shell at a TAB. Loaded only then: argcomplete takes a while to load."""

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
    """Finds the words that complete the line; an option that was given is offered again only where it may repeat."""

    def collect_completions(
        self, active_parsers: list[argparse.ArgumentParser], parsed_args: argparse.Namespace, cword_prefix: str
    ) -> list[str]:
        """The words that are offered. The description of an option is the beginning of its help."""
        words = super().collect_completions(active_parsers, parsed_args, cword_prefix)
        descriptions = self.get_display_completions()
        for word in words:
            if word.startswith("--"):
                _option, equals, value = word.partition("=")
                # argcomplete knows the value alone, and would have zsh show `None` for the whole word.
                text = descriptions.get(value, "") if equals else descriptions[word].partition(";")[0]
                descriptions[word] = text
        return words


def answer(whole: argparse.ArgumentParser) -> None:
    """Writes to the shell that asks, by the rules of argcomplete's scripts, and ends the process."""
    Finder()(whole, **SETTINGS)
