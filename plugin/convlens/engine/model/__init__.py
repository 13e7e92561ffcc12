"""Reading a model: loading it, taking it apart, and where its units look."""
