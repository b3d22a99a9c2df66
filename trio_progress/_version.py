"""The version, where building can read it as text: nothing else may stand here."""

__version__ = "0.1.0"
