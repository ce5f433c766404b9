"""Train a candidate: batches, augmentation, pre-training, distillation and the training loop."""
