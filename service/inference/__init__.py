"""Compute the mask of a frame: preprocessing, network, postprocessing, confidence, out-of-distribution detection."""
