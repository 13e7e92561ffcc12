"""Load a model, copy it into a flat graph of calls, and compute receptive fields."""
