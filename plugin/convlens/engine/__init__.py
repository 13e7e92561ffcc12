"""The numbers: reading a model, its features, ascent and explanations. No pytest, no HTML."""
