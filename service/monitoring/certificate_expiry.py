"""Report when the TLS certificate ends, for an alert before it does."""

import logging
import os
import ssl
from pathlib import Path

from service.monitoring.prometheus_metrics import CERTIFICATE_EXPIRY

log = logging.getLogger("bentoml.nervemask")

VARIABLE = "NERVEMASK_CERTIFICATE"


def report_certificate_expiry() -> None:
    """Set the metric from the certificate in NERVEMASK_CERTIFICATE, if the variable is set.

    A worker calls this when it starts: it serves the certificate that it loads then, and not a file that replaced it.
    `--certificate` sets the variable. Set it to the proxy's certificate where a proxy serves TLS.
    """
    path = os.environ.get(VARIABLE)
    if not path:
        return
    try:
        certificate = ssl._ssl._test_decode_cert(path)  # type: ignore[attr-defined] # ssl has no public reader of PEM
        CERTIFICATE_EXPIRY.labels(Path(path).name).set(ssl.cert_time_to_seconds(certificate["notAfter"]))
    except (OSError, ssl.SSLError, ValueError, KeyError) as error:
        log.warning("%s cannot be read (%s): /metrics does not say when the certificate ends", path, error)
