"""Progress in the terminal: a live display, or plain lines where there is no terminal."""

from .display import open_display as open_display
