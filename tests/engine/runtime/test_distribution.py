"""Distribution over several devices: here, logical devices of the CPU, in a separate process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import keras
import pytest

SPREAD = """
    import keras
    import numpy as np
    {devices}
    from convlens import Network, maximize
    from convlens.engine.runtime.backend import distribution_size
    from convlens.fixtures.mnist_cnn import load_mnist_cnn

    # In float64, by short steps, and not by Adam: two devices round differently, and where a ReLU
    # or a maximum hangs on the rounding, the ascents part.
    keras.config.set_floatx("float64")
    model = load_mnist_cnn()
    options = dict(steps=6, step_size=0.01, images_per_unit=2, optimizer="sgd")
    alone = maximize(model, "conv2d_2", range(7), **options)
    {enter}
    network = Network(model)
    assert distribution_size(network.distribution) == 2, network.distribution
    spread = maximize(network, "conv2d_2", range(7), **options)
    np.testing.assert_allclose(spread.images, alone.images, atol=1e-4)
    np.testing.assert_allclose(spread.trace, alone.trace, rtol=1e-3, atol=1e-5)
    few = maximize(network, "conv2d_2", range(7), memory_budget=1, **options)
    np.testing.assert_allclose(few.images, alone.images, atol=1e-4)
    model.get_layer("conv2d_2").kernel.assign(-model.get_layer("conv2d_2").kernel)
    again = maximize(network, "conv2d_2", range(7), **options)
    assert np.abs(again.images - spread.images).max() > 0.1  # new weights reach all devices
    print("devices used:", len({used}))
"""

TENSORFLOW = {
    "devices": """import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    two = [tf.config.LogicalDeviceConfiguration() for _ in range(2)]
    tf.config.set_logical_device_configuration(cpu, two)""",
    "enter": """strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    scope = strategy.scope()
    scope.__enter__()""",
    "used": "{part.device for v in network.variables.copies for part in v._value.values}",
}
JAX = {
    "devices": """import jax
    assert len(jax.devices()) == 2""",
    "enter": """keras.distribution.set_distribution(keras.distribution.DataParallel())
    model = load_mnist_cnn()""",
    "used": "{str(d) for v in network.variables.copies for d in v.value.devices()}",
}


@pytest.mark.slow
def test_images_found_on_two_devices_are_those_of_one():
    parts = JAX if keras.backend.backend() == "jax" else TENSORFLOW
    environment = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "JAX_ENABLE_X64": "1",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SPREAD.format(**parts))],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "devices used: 2"
