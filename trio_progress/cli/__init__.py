"""The command `trio-progress`. What a command needs beside its arguments is loaded when it is run."""

from .entry import main as main
