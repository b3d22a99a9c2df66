"""Metrics for Prometheus, with a Grafana dashboard and alert rules; needs `trio-progress[metrics]`.

`dashboard()` and `rules()` need nothing.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from .collector import Collector as Collector
    from .collector import exposition as exposition
    from .collector import register as register
    from .collector import unregister as unregister


def dashboard() -> str:
    """A Grafana dashboard as JSON, to be imported there; it asks for a Prometheus data source, and fits Grafana 9 on.

    From a shell: `python -m trio_progress.metrics dashboard > trio-progress.json`.
    """
    return _text("dashboard.json")


def rules() -> str:
    """Alert rules for Prometheus, a YAML file for its `rule_files`.

    From a shell: `python -m trio_progress.metrics rules > trio-progress.rules.yml`.
    """
    return _text("rules.yml")


def _text(name: str) -> str:
    from importlib.resources import files

    return files(__name__).joinpath("files", name).read_text(encoding="utf-8")


def __getattr__(name: str) -> object:
    # What needs prometheus-client is loaded when it is asked for.
    if name not in ("Collector", "exposition", "register", "unregister"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ..errors import require_extra

    with require_extra(f"trio_progress.metrics.{name}", "metrics"):
        from . import collector
    return getattr(collector, name)
