"""Checkpoints of ours as folders that other libraries load: one file for each of them."""
