"""Retry rules: after which failure, how often and after which pause a client sends a request again.

A user waits for the batch client. It repeats a request only while the service is busy, after the pause that the service
names in Retry-After, and gives it up after MAX_BATCH_ATTEMPTS.

The bridge runs without a user. It waits for an unavailable server without end, longer after each attempt. It gives up a
request if the server rejects it with a final status. It skips an instance if a server fails on it MAX_SERVER_FAILURES
times.
"""

import httpx

# The batch client's rules.
BUSY_STATUSES = (429, 503)
MAX_BATCH_ATTEMPTS = 5
DEFAULT_RETRY_AFTER_SECONDS, MAX_RETRY_AFTER_SECONDS = 1.0, 60.0

# The bridge's rules.
UNUSABLE_STATUSES = (400, 413, 415, 422)  # final for a file that a server will never accept
DELETED_STATUSES = (404,)  # final for an instance or study that was deleted
SERVER_FAILURE_STATUSES = (500, 504)  # the server received the request and failed on it
MAX_SERVER_FAILURES = 5
MAX_BACKOFF_SECONDS = 30


def retry_after_seconds(response: httpx.Response) -> float:
    """Return the batch client's pause: Retry-After in seconds, at most MAX_RETRY_AFTER_SECONDS.

    Without the header, or for a date in it, return DEFAULT_RETRY_AFTER_SECONDS.
    """
    retry_after = response.headers.get("retry-after", "")
    seconds = float(retry_after) if retry_after.isdecimal() else DEFAULT_RETRY_AFTER_SECONDS
    return min(seconds, MAX_RETRY_AFTER_SECONDS)


def backoff_seconds(attempt: int) -> float:
    """Return the bridge's pause after attempt 0, 1, 2, ...: 1, 2, 4, 8, 16 and then always 30 seconds."""
    return min(2 ** min(attempt, 5), MAX_BACKOFF_SECONDS)
