"""The entries as a table of docs/races-found.md."""

from __future__ import annotations

from . import ENTRIES


def table() -> str:
    """A line for each entry, in Markdown."""
    lines = ["| issue | affected | mended | what happens |", "|---|---|---|---|"]
    for entry in sorted(ENTRIES, key=lambda entry: (entry.library.lower(), int(entry.issue.rpartition("#")[2]))):
        repository, _, number = entry.issue.partition("#")
        link = f"[{entry.library} #{number}](https://github.com/{repository}/issues/{number})"
        remade = "\\*" if entry.remade else ""
        lines.append(f"| {link}{remade} | {entry.affected} | {entry.mended} | {entry.text} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
