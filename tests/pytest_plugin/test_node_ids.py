"""Node ids of a model's items, with the options that take items away."""

from __future__ import annotations

import pytest

ID = "mnist_cnn::gram[conv2d_1]"
NO_TESTS = pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_node_id_whose_item_is_deselected_is_no_error(pytester):
    for options in (
        ("-k", "ascent"),
        ("--deselect", "mnist_cnn::gram"),
        ("--deselect", ID),
        ("-m", "nothing"),
    ):
        result = pytester.runpytest(ID, *options)
        assert result.ret == NO_TESTS
        result.assert_outcomes(deselected=1)
        assert "not found" not in result.stderr.str()
    both = pytester.runpytest("mnist_cnn::gram", "--deselect", ID)
    both.assert_outcomes(passed=2, deselected=1)


@pytest.mark.parametrize("options", [(), ("-k", "gram"), ("-k", "ascent"), ("--lf",), ("--sw",)])
def test_a_node_id_without_an_item_is_an_error_whatever_is_deselected(pytester, options):
    result = pytester.runpytest(ID, "mnist_cnn::gram[conv2d_9]", *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: not found: mnist_cnn::gram?conv2d_9?"])


def test_a_node_id_of_a_model_that_cannot_be_loaded_says_why(pytester):
    result = pytester.runpytest("nomodule:build::gram")
    result.stdout.fnmatch_lines(["*there is no module 'nomodule'*"])
    assert "not found" not in result.stderr.str()


def mislabeled_digits(folder):
    """Write an .npz of the shipped digits with labels that are all wrong, and return its name."""
    import numpy as np

    from convlens.fixtures.digits import load_digits

    images, labels = load_digits()
    np.savez(folder / "wrong.npz", images=images, labels=(labels + 1) % 10)
    return "wrong.npz"


def test_node_ids_and_tests_that_failed_before(pytester):
    wrong = ("--convlens-images", mislabeled_digits(pytester.path))
    names = ("mnist_cnn::accuracy", ID)
    failed = pytester.runpytest(*names, *wrong)
    failed.assert_outcomes(failed=1, passed=1)
    pytester.runpytest(*names, *wrong, "--lf").assert_outcomes(failed=1, deselected=1)
    first = pytester.runpytest(*reversed(names), *wrong, "--ff", "-v")
    first.assert_outcomes(failed=1, passed=1)
    text = first.stdout.str()
    assert text.index("mnist_cnn::accuracy") < text.index("gram[conv2d_1]")
    stepwise = pytester.runpytest(*names, *wrong, "--sw")
    stepwise.assert_outcomes(failed=1, passed=1)
    stepwise = pytester.runpytest(*names, *wrong, "--sw")
    stepwise.assert_outcomes(failed=1, deselected=1)
    again = pytester.runpytest(*names, "--sw")
    again.assert_outcomes(passed=1, deselected=1)


@pytest.mark.slow
def test_node_ids_work_with_xdist(pytester):
    one = pytester.runpytest_subprocess("-n", "1", ID, "mnist_cnn::gram[conv2d_3]")
    one.assert_outcomes(passed=2)
    missing = pytester.runpytest_subprocess("-n", "1", ID, "mnist_cnn::gram[conv2d_9]")
    missing.stdout.fnmatch_lines(["*not found: mnist_cnn::gram?conv2d_9?"])
    assert missing.ret not in (0, NO_TESTS)
