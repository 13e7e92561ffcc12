"""The execution layer: Keras backend, batches, memory budget and progress."""
