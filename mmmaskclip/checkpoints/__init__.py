"""Files of weights: written atomically, read safely, translated from other formats."""
