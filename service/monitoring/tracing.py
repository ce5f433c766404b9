"""The tracing settings of BentoML: spans go to the OpenTelemetry endpoint that the environment names."""

import os

# OpenTelemetry's own variables configure the rest of the exporter. Without an endpoint no exporter is loaded; then
# BentoML must create no spans either, so all URLs are excluded.
TRACING = (
    {"exporter_type": "otlp", "sample_rate": 1.0, "otlp": {"protocol": "http"}}
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    else {"excluded_urls": ".*"}
)
