"""The HTTP header that carries a client's API key."""

import os


def api_key_header() -> dict[str, str]:
    """Return the header with the API key from NERVEMASK_KEY; empty when the variable is not set."""
    key = os.environ.get("NERVEMASK_KEY")
    return {"x-api-key": key} if key else {}
