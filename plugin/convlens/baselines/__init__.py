"""Baselines: stored descriptions of models and results, and the comparison with them."""
