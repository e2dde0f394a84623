"""Captioned scenes, generated from a seed."""
