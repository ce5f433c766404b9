"""What is told of each answer, and to whom: the audit, Prometheus, the spool, the log; and how the frames drift."""
