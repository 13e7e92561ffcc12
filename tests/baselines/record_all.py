"""Record baselines: ``python tests/baselines/record_all.py FOLDER [THREADS]``.

Its settings are those of the environment. The folder can then be given to the tests under another
backend: ``CONVLENS_OTHER_BASELINES=FOLDER KERAS_BACKEND=jax pytest
tests/baselines/test_other_backend.py``.
"""

from __future__ import annotations

import sys

from networks import subjects  # beside this file, for it is run as a script

from convlens import assert_matches_baseline

if __name__ == "__main__":
    folder, *threads = sys.argv[1:]
    if threads:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(int(threads[0]))
        tf.config.threading.set_inter_op_parallelism_threads(int(threads[0]))
    for name, (model, images) in subjects().items():
        assert_matches_baseline(model, folder, name, images=images, update="missing")
