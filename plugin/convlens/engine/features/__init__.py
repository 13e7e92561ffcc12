"""Feature activations, Gram matrices, sketches of activations, and measures of similarity."""
