"""Sessions as OpenTelemetry's spans; needs the extra `otel`."""

from ..errors import require_extra as _needed

with _needed("trio_progress.tracing", "otel"):
    from .instrument import instrument as instrument
