"""The model folder: its place, its card, and the calibration of probabilities."""
