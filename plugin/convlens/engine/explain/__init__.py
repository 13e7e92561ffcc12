"""Explanations: deconvnet, top patches, occlusion, invariance and sanity checks."""
