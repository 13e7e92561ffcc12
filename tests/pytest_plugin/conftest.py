"""Load everything heavy before the first test.

After a run in the same process pytester unloads every module that the run has loaded; TensorFlow
and NumPy do not survive being loaded a second time.
"""

from __future__ import annotations

import importlib
import pkgutil

import keras
import numpy as np
import pytest
from PIL import Image

import convlens


@pytest.fixture(scope="session", autouse=True)
def _everything_is_loaded(mnist_cnn, digits, tmp_path_factory):
    for module in pkgutil.walk_packages(convlens.__path__, "convlens."):
        if ".benchmarks" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    Image.init()
    mnist_cnn.predict(digits.images[:1], verbose=0)
    path = tmp_path_factory.mktemp("loaded") / "model.h5"
    np.savez_compressed(path.with_suffix(".npz"), a=np.zeros(1))
    keras.saving.load_model(convlens.fixtures.mnist_cnn.mnist_cnn_path())
