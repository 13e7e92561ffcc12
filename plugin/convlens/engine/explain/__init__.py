"""Explanations: the deconvnet, strongest patches, occlusion, invariance, sanity tests."""
