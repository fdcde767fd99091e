"""Redo children that answer without redoing anything, and fail on request."""
