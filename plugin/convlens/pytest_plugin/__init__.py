"""The pytest layer: options, collection, fixtures and the summary.

pytest loads this package in every run, so it imports neither Keras, TensorFlow nor NumPy; what
needs them is imported where it is used.
"""

from __future__ import annotations

from convlens.pytest_plugin.baselines import baseline
from convlens.pytest_plugin.collection import (
    pytest_collect_directory,
    pytest_collect_file,
    pytest_collection_modifyitems,
    pytest_make_collect_report,
)
from convlens.pytest_plugin.fixtures import (
    conv_layer,
    convlens_images,
    convlens_model,
    convlens_target,
    digits,
    lens,
    mnist_cnn,
    pytest_generate_tests,
)
from convlens.pytest_plugin.items import pytest_runtest_setup, pytest_runtest_teardown
from convlens.pytest_plugin.pretrained import pretrained, vgg16, vgg19
from convlens.pytest_plugin.setup import pytest_addhooks, pytest_addoption, pytest_configure
from convlens.pytest_plugin.summary import pytest_terminal_summary

__all__ = [
    "baseline",
    "conv_layer",
    "convlens_images",
    "convlens_model",
    "convlens_target",
    "digits",
    "lens",
    "mnist_cnn",
    "pretrained",
    "pytest_addhooks",
    "pytest_addoption",
    "pytest_collect_directory",
    "pytest_collect_file",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_make_collect_report",
    "pytest_runtest_setup",
    "pytest_runtest_teardown",
    "pytest_terminal_summary",
    "vgg16",
    "vgg19",
]
