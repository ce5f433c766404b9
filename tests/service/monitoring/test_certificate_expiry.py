"""The metric of the certificate's end; tests/service/test_main.py reads it from a server with TLS."""

import logging
import subprocess
from datetime import UTC, datetime

import pytest

from service.monitoring.certificate_expiry import VARIABLE, report_certificate_expiry
from service.monitoring.prometheus_metrics import CERTIFICATE_EXPIRY


@pytest.fixture(autouse=True)
def no_earlier_certificate() -> None:
    CERTIFICATE_EXPIRY.clear()


def reported_values() -> dict[str, float]:
    return {sample.labels["file"]: sample.value for sample in next(iter(CERTIFICATE_EXPIRY.collect())).samples}


@pytest.mark.parametrize("authority", ["TRUE", "FALSE"])  # one that signs itself is an authority, others are not
def test_the_end_of_the_certificate_is_reported(tmp_path, monkeypatch, authority) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost"]
    command += ["-addext", f"basicConstraints=critical,CA:{authority}"]
    subprocess.run([*command, "-keyout", "key.pem", "-out", "cert.pem"], cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cert.pem"))
    report_certificate_expiry()
    days = (reported_values()["cert.pem"] - datetime.now(UTC).timestamp()) / 86400
    assert 29.9 < days < 30.1


def test_without_a_certificate_nothing_is_reported(monkeypatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    report_certificate_expiry()
    assert reported_values() == {}


def test_a_file_that_is_no_certificate_is_a_warning(tmp_path, monkeypatch, caplog) -> None:
    (tmp_path / "cert.pem").write_text("nothing")
    for path in (tmp_path / "cert.pem", tmp_path / "nowhere"):
        monkeypatch.setenv(VARIABLE, str(path))
        with caplog.at_level(logging.WARNING):
            report_certificate_expiry()
        assert f"{path} cannot be read" in caplog.text
    assert reported_values() == {}
