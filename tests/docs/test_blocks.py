"""Every block of every page runs."""

from __future__ import annotations

import re
import tomllib

import pytest
from commands import INSTALLING, NOT_RUN, SHORTENED, commands_of
from pages import PAGES, ROOT, blocks_of, text_of
from running import PageRun

WITH_BLOCKS = [page for page in PAGES if blocks_of(page)]
COMMANDS = {
    (page, command)
    for page in PAGES
    for block in blocks_of(page)
    if block.language == "console"
    for line in block.lines
    for command in commands_of(line)
}


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_BLOCKS)
def test_a_page_runs(page, user_folder, mnist_cnn, digits):
    run = PageRun(page, user_folder, {"model": mnist_cnn, **digits._asdict()})
    for block in run.blocks:
        run.run(block)


@pytest.mark.parametrize("page", PAGES)
def test_every_fence_is_a_block(page):
    fences = len(re.findall(r"^```", text_of(page), re.MULTILINE))
    assert fences == 2 * len(blocks_of(page))
    assert not re.search(r"^ +```|^~~~", text_of(page), re.MULTILINE)


def test_what_is_not_run_is_there_and_is_run_elsewhere():
    assert NOT_RUN.keys() <= COMMANDS
    assert SHORTENED.keys() <= {command for _, command in COMMANDS}
    for (_, command), why in NOT_RUN.items():
        assert why.elsewhere is None or command.split()[-1] in text_of(why.elsewhere), command


def test_what_is_installed_exists():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = {".", "pytest-convlens"} | {"-e ."}
    for page in PAGES:
        for block in blocks_of(page):
            if block.language != "console":
                continue
            for line in block.lines:
                for part in line.split(" && "):
                    if not part.startswith(INSTALLING[-1]):
                        continue
                    what = part.removeprefix(INSTALLING[-1]).replace("'", "")
                    name, _, extra = what.partition("[")
                    assert name in known, f"{page}: {part}"
                    extras = extra.rstrip("]").split(",") if extra else []
                    assert set(extras) <= project["optional-dependencies"].keys(), part
