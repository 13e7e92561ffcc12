"""The site builds without a warning, has every page, and a page for every check."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from items import checks, table_of_checks
from pages import PAGES, ROOT, text_of
from written import check_written

HOOK = ROOT / ".ci" / "site.py"


def nav_pages() -> list[str]:
    """Return the pages in the navigation of mkdocs.yml, in order."""
    return list(_leaves(yaml.safe_load(text_of("mkdocs.yml"))["nav"]))


def _leaves(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from _leaves(part)


def test_every_page_is_in_the_navigation_once():
    inside = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")}
    listed = nav_pages()
    assert len(listed) == len(set(listed))
    assert inside <= set(listed)


def test_the_navigation_lists_the_checks_of_the_zero_code_run_first_and_in_its_order():
    listed = [page for page in nav_pages() if page.startswith("checks/")]
    known = [f"checks/{name}.md" for name, _ in checks()]
    assert listed[: len(known)] == known


@pytest.mark.parametrize("name", [name for name, _ in checks()])
def test_a_check_has_a_page_in_the_navigation(name):
    assert f"checks/{name}.md" in nav_pages()
    page = text_of(f"docs/checks/{name}.md")
    assert page.startswith(f"# {name}\n")
    for heading in ("How it is measured", "What it catches", "A failure", "What to do"):
        assert f"\n## {heading}\n" in page, f"docs/checks/{name}.md has no part {heading!r}"
    assert "\n::: convlens." in page


def test_the_table_of_checks_is_up_to_date(pytestconfig: pytest.Config):
    write = pytestconfig.getoption("--write-docs")
    check_written("docs/zero-code.md", "checks", table_of_checks(), write)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="needs pip install '.[docs]'")
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", site],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for page in nav_pages():
        html = page.replace("README.md", "index.html").replace(".md", ".html")
        assert (site / html).is_file(), html
    pages = [path.read_text(encoding="utf-8") for path in site.rglob("*.html")]
    assert [p for p in pages if "fonts.googleapis.com" in p or 'src="http' in p] == []
    assert 'id="convlens.engine.ascent.maximize.maximize"' in "".join(pages)


@pytest.mark.slow
def test_a_broken_link_stops_the_build(tmp_path):
    pytest.importorskip("mkdocs", reason="needs pip install '.[docs]'")
    for name in ("mkdocs.yml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    for folder in ("docs", "plugin", "fixtures", ".ci", "benchmarks"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    text = text_of("mkdocs.yml").replace("Home: index.md", "Home: nosuch.md")
    (tmp_path / "mkdocs.yml").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "nosuch.md" in done.stdout + done.stderr


def test_a_section_of_the_readme_becomes_a_page():
    pytest.importorskip("mkdocs", reason="needs pip install '.[docs]'")
    spec = importlib.util.spec_from_file_location("site_hook", HOOK)
    assert spec is not None
    assert spec.loader is not None
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    text = "# Title\n\n## One\n\nfirst\n\n## Two\n\nsecond\n"
    assert hook.section(text, "One") == "# One\n\nfirst\n\n"
    with pytest.raises(ValueError, match="no section 'Three'"):
        hook.section(text, "Three")
