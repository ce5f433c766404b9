"""Frames and masks: sources, the manifest, the split, near-duplicates, prepared arrays."""
