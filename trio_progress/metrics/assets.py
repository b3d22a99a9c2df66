"""What is provided beside the metrics: a dashboard for Grafana, alert rules for Prometheus."""

from __future__ import annotations

from importlib.resources import files


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
    return files(__package__).joinpath("files", name).read_text(encoding="utf-8")
