"""Progress in the terminal: a live display, or plain lines where there is no terminal."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .display import open_display as open_display


def __getattr__(name: str) -> object:
    # Figures and symbols are also used without a tracker, which `display` would load.
    if name == "open_display":
        from .display import open_display

        return open_display
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
