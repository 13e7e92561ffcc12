"""Benchmarks of the optimization cores on the hardware that they are run on."""

import os

# TensorFlow tells its build options on every import; warnings and errors still show.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
