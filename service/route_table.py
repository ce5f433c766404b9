"""The paths of the routes, with their query parameters and the labels of the metrics."""

from collections.abc import Mapping
from typing import Any

# The routes that take a frame, each with its query parameters.
FRAME_ROUTES = {
    "/mask": ("index", "min_confidence"),
    "/overlay": ("index", "min_confidence", "outlines"),
    "/segment": ("index", "picture", "min_confidence", "smooth", "outlines"),
    "/dicom": ("min_confidence", "smooth", "outlines"),
}
PROBE_ROUTES = ("/livez", "/readyz", "/healthz")
POLLED_ROUTES = (*PROBE_ROUTES, "/metrics")  # orchestrators and Prometheus request them every few seconds
LABELED_ROUTES = (*FRAME_ROUTES, *POLLED_ROUTES, "/", "/model", "/docs.json", "/stream")
PAGE_LABEL = "/page"
OTHER_LABEL = "other"


def is_frame_request(scope: Mapping[str, Any]) -> bool:
    """Return whether the ASGI scope is of a request that uploads a frame or cine."""
    return scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in FRAME_ROUTES


def route_label(path: str) -> str:
    """Return the metric label of a request path. There are only a few labels, even if clients request many paths."""
    if path in LABELED_ROUTES:
        return path
    return PAGE_LABEL if path.startswith(f"{PAGE_LABEL}/") else OTHER_LABEL
