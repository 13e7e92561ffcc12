"""A block that does not do what its page says fails the test of the page."""

from __future__ import annotations

import pytest
from pages import Block
from running import PageRun


@pytest.fixture
def page_run(user_folder: pytest.Pytester) -> PageRun:
    return PageRun("CHANGELOG.md", user_folder, {})


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("console", "false\n"),
        ("console", "pytest --convlens nosuch.keras\n"),
        ("python", "assert False, 'asserted'\n"),
        ("python", "def test_it(): assert False\n"),
        ("ini", "no section\n"),
        ("toml", "no value\n"),
        ("yaml", "jobs: {one: {steps: [{run: 'false'}]}}\n"),
        ("text", "what nothing printed\n"),
        ("ruby", "puts 1\n"),
        ("", "no language\n"),
    ],
)
def test_a_block_fails(page_run, language, text):
    with pytest.raises(Exception, match=r"exit status|assert|section|toml|Expected|not in|runs"):
        page_run.run(Block("CHANGELOG.md", 1, language, text, None))


def test_a_command_that_should_fail_must(page_run):
    with pytest.raises(AssertionError, match="exit status 0"):
        page_run.run(Block("CHANGELOG.md", 1, "console", "true\n", "mistaken"))


def test_a_block_that_should_raise_must(page_run):
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        page_run.run(Block("CHANGELOG.md", 1, "python", "x = 1\n", "raises"))


def test_what_a_block_raises_is_what_the_text_below_it_shows(page_run):
    raising = "raise ValueError('there are 3 units\\n  unit 7')\n"
    page_run.run(Block("CHANGELOG.md", 1, "python", raising, "raises"))
    page_run.run(Block("CHANGELOG.md", 2, "text", "there are 4 units\n  unit 7\n", None))
    with pytest.raises(AssertionError, match="not in"):
        page_run.run(Block("CHANGELOG.md", 2, "text", "there are none\n", None))


@pytest.mark.parametrize(
    ("shown", "agrees"),
    [
        ("conv2d_1   24   0   0.08, 1.4e-06", True),
        ("conv2d_1 24 0 0.08, 1.4e-06", True),
        ("…_1 …", True),
        ("conv2d_1   24   dead   0.08, 1.4e-06", False),
        ("pool2d_1   24   0   0.08, 1.4e-06", False),
    ],
)
def test_numbers_of_an_output_may_differ_and_words_may_not(page_run, shown, agrees):
    page_run.output = "conv2d_1  3  12  -0.5, 0.1\nconv2d_1 3 12 -0.5, 0.1\n"
    block = Block("CHANGELOG.md", 1, "text", f"{shown}\n", None)
    if agrees:
        page_run.run(block)
    else:
        with pytest.raises(AssertionError, match="not in"):
            page_run.run(block)
