"""Segment an archive of ultrasound files on one machine or on a Ray cluster: `python -m service.archive`."""
