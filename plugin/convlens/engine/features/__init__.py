"""Feature activations, Gram matrices, and how alike two of them are."""
