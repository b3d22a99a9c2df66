"""Metrics for Prometheus, with a Grafana dashboard and alert rules; needs `trio-progress[metrics]`.

`dashboard()` and `rules()` need nothing.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from .assets import dashboard as dashboard
from .assets import rules as rules

if _TYPE_CHECKING:
    from .collector import Collector as Collector
    from .collector import exposition as exposition
    from .collector import register as register
    from .collector import unregister as unregister


def __getattr__(name: str) -> object:
    # What needs prometheus-client is loaded when it is asked for.
    if name in ("Collector", "exposition", "register", "unregister"):
        try:
            from . import collector
        except ModuleNotFoundError as error:
            if error.name != "prometheus_client":
                raise
            raise ModuleNotFoundError(
                f"trio_progress.metrics.{name} needs prometheus-client: pip install 'trio-progress[metrics]'",
                name=error.name,
            ) from None
        return getattr(collector, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
