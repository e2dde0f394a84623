"""Images with labels, captions or masks, for evaluation."""
