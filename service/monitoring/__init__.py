"""Monitoring: audit log, Prometheus metrics, drift, review spool and JSON logs."""
