"""The machine: the Keras backend, batches, memory and progress."""
