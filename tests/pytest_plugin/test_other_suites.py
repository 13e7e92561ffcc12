"""Suites that have fixtures and parameters of the same names as convlens's."""

from __future__ import annotations

import pytest
from tests.pytest_plugin.test_report import outcomes, read

SUITES = {
    "parametrized": (
        6,
        """
        import pytest
        @pytest.mark.parametrize("conv_layer", ["a", "b"])
        def test_one(conv_layer): assert conv_layer in "ab"
        @pytest.mark.parametrize(("lens", "digits"), [(1, 2)])
        def test_two(lens, digits): assert (lens, digits) == (1, 2)
        @pytest.mark.parametrize("conv_layer, baseline", [(1, 2)])
        def test_three(conv_layer, baseline): assert (conv_layer, baseline) == (1, 2)
        @pytest.mark.parametrize(argnames="conv_layer", argvalues=[1])
        def test_four(conv_layer): assert conv_layer == 1
        @pytest.mark.parametrize("convlens_model", [1])
        @pytest.mark.parametrize("convlens_target", [2])
        def test_five(convlens_model, convlens_target): assert convlens_model == 1
        """,
    ),
    "class": (
        2,
        """
        import pytest
        class TestOwn:
            @pytest.fixture
            def conv_layer(self): return 3
            @pytest.fixture
            def lens(self): return 4
            def test_it(self, conv_layer, lens): assert (conv_layer, lens) == (3, 4)
        @pytest.mark.parametrize("conv_layer", [7])
        class TestMarked:
            def test_it(self, conv_layer): assert conv_layer == 7
        """,
    ),
    "module": (
        7,
        """
        import pytest
        @pytest.fixture(params=["a", "b"])
        def conv_layer(request): return request.param
        @pytest.fixture(scope="module")
        def lens(): return "mine"
        @pytest.fixture
        def digits(lens): return lens
        @pytest.fixture
        def baseline(): return 1
        @pytest.fixture
        def pretrained(): return 2
        @pytest.fixture
        def vgg16(pretrained): return pretrained
        def test_one(conv_layer): assert conv_layer in "ab"
        def test_two(digits, baseline, vgg16): assert (digits, baseline, vgg16) == ("mine", 1, 2)
        @pytest.mark.usefixtures("conv_layer", "lens")
        def test_three(): pass
        @pytest.mark.parametrize("conv_layer", [5, 6], indirect=True)
        def test_four(conv_layer): assert conv_layer in (5, 6)
        """,
    ),
    "hypothesis": (
        2,
        """
        from hypothesis import given, settings, strategies as st
        @settings(max_examples=3, database=None)
        @given(conv_layer=st.integers(), lens=st.text())
        def test_one(conv_layer, lens): assert isinstance(conv_layer, int)
        @settings(max_examples=3, database=None)
        @given(st.integers())
        def test_two(digits): assert isinstance(digits, int)
        """,
    ),
    "unittest": (
        2,
        """
        import unittest
        class TestCase(unittest.TestCase):
            def setUp(self): self.lens = 1
            def test_conv_layer(self): assert self.lens == 1
        class TestAsync(unittest.IsolatedAsyncioTestCase):
            async def test_it(self): pass
        """,
    ),
    "generated": (
        2,
        """
        def pytest_generate_tests(metafunc):
            if "mine" in metafunc.fixturenames:
                metafunc.parametrize("mine", [1, 2])
        def test_one(mine): assert mine in (1, 2)
        """,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("suite", SUITES)
def test_other_suites_may_use_the_names_of_the_fixtures(pytester, suite):
    count, code = SUITES[suite]
    pytester.makepyfile(test_mine=code)
    result = pytester.runpytest("--convlens-report=report.html", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=count)
    # The report does not take them for its own.
    owned = [name for name in outcomes(read(pytester)) if "test_five" not in name]
    assert owned == []


def test_other_suites_may_have_the_fixtures_in_a_conftest(pytester, mnist_items):
    pytester.makeconftest(
        """
        import pytest
        @pytest.fixture
        def conv_layer(): return "mine"
        @pytest.fixture(autouse=True)
        def lens(): return "mine"
        """
    )
    pytester.makepyfile("def test_it(conv_layer, lens): assert conv_layer == lens == 'mine'")
    other = ("--convlens", "mnist_cnn", "-m", "not convlens")
    pytester.runpytest(".", *other).assert_outcomes(passed=1, deselected=mnist_items)


def test_other_suites_of_doctests_and_coroutines_are_left_alone(pytester):
    pytester.makepyfile(
        test_mine="""
        def lens():
            '''
            >>> lens()
            3
            '''
            return 3
        async def test_later(): pass
        """
    )
    pytester.makefile(".txt", test_text=">>> 1 + 1\n2\n")
    result = pytester.runpytest("--doctest-modules", "--convlens-report=report.html")
    found = result.parseoutcomes()
    assert found["passed"] == 2
    assert "errors" not in found
    assert outcomes(read(pytester)) == {}


@pytest.mark.skipif(
    pytest.version_tuple < (9,), reason="pytest 8 hides what an overridden fixture needs"
)
def test_a_fixture_that_overrides_and_uses_ours_still_runs_for_each_layer(pytester):
    pytester.makepyfile(
        """
        import pytest
        @pytest.fixture
        def conv_layer(conv_layer): return conv_layer.upper()
        def test_it(conv_layer): assert conv_layer.startswith("CONV2D_")
        class TestMore:
            @pytest.fixture
            def lens(self, lens): return lens
            def test_it(self, lens): assert lens.name == "mnist_cnn"
        """
    )
    pytester.runpytest().assert_outcomes(passed=4)


def test_a_test_may_name_its_layers_itself(pytester):
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.parametrize("conv_layer", ["conv2d_2", "nosuch"], indirect=True)
        def test_it(lens, conv_layer): assert conv_layer == "conv2d_2"
        def test_late(request): request.getfixturevalue("conv_layer")
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(passed=1, failed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["conv_layer was given 'nosuch', but the convolutional layers of mnist_cnn are conv2d_1, *"]
    )
    result.stdout.fnmatch_lines(["*conv_layer must be an argument of the test*"])


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    "code",
    [
        "@pytest.fixture(params=[1])\ndef convlens_model(request): return 1",
        "@pytest.fixture(params=[1])\ndef convlens_model(): return 1",
        "@pytest.fixture\ndef convlens_model(): yield 1",
        "@pytest.fixture\ndef lens(): return 1",
    ],
)
def test_layers_of_a_model_that_is_not_known_yet_are_refused(pytester, code):
    pytester.makepyfile(f"import pytest\n{code}\ndef test_it(conv_layer): pass")
    result = pytester.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*conv_layer must know the model while tests are collected*"])
