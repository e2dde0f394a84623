"""Image-text pairs for training: readers, samplers, batches."""
