"""Read the service's metrics."""

import httpx


def read_samples(address: str) -> dict[str, float]:
    """Return the value of each sample by its name and labels, as /metrics writes them."""
    response = httpx.get(f"{address}/metrics", timeout=60)
    assert response.headers["content-type"].startswith("text/plain")
    lines = [line.rpartition(" ") for line in response.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}
