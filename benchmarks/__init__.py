"""Benchmarks of the numerical cores on the local hardware."""

import os

# Hide TensorFlow's build options on import; warnings and errors are still shown.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
