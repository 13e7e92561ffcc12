"""Record baselines: ``python tests/baselines/record_all.py FOLDER [THREADS]``.

The environment decides the settings, such as the backend. To check the folder on another backend:
``CONVLENS_OTHER_BASELINES=FOLDER KERAS_BACKEND=jax pytest
tests/baselines/test_other_backend.py``.
"""

from __future__ import annotations

import sys

from networks import subjects  # in the folder of this file, which runs as a script

from convlens import assert_matches_baseline

if __name__ == "__main__":
    folder, *threads = sys.argv[1:]
    if threads:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(int(threads[0]))
        tf.config.threading.set_inter_op_parallelism_threads(int(threads[0]))
    for name, (model, images) in subjects().items():
        assert_matches_baseline(model, folder, name, images=images, update="missing")
