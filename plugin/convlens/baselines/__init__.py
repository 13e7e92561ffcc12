"""Baselines: what a model or a result was, stored, and where it began to differ."""
