"""Scoring masks: metrics, calibration, postprocessing fitted on validation, failure modes."""
