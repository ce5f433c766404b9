"""U-nets, their encoders and weights, losses, ONNX export and batch-norm recalibration."""
