"""The numerical engine: models, features, ascent and explanations. No pytest, no HTML."""
