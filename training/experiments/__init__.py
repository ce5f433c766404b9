"""Cross-validation and ablations, with their reports."""
