"""Checkpoints, parameters, full page images."""
