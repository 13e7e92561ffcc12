"""Activation maximization: `maximize` and its parts."""
