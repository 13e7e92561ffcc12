"""Test the page in a real browser: escaped names, search, filters, swipe and export."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import pytest
from tests.report.conftest import BIDIRECTIONAL, EVIL, EVIL_SCRIPT, add_changed_model

from convlens.report.assemble import assemble
from convlens.report.page import render
from convlens.report.spool import Spool

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None,
        reason="needs Chromium and ChromeDriver: apt-get install chromium chromium-driver",
    ),
]
webdriver = pytest.importorskip("selenium.webdriver", reason="needs pip install '.[browser]'")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--disable-dev-shm-usage",
)


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory, downloads: Path) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    with webdriver.Chrome(options=options, service=service) as started:
        started.set_window_size(1280, 900)
        yield started


@pytest.fixture
def page(driver: Any, spool: Spool, tmp_path: Path) -> Iterator[Any]:
    """Open the report; after the test, check that it logged nothing and loaded nothing."""
    with opened(driver, spool, tmp_path) as shown:
        yield shown


@pytest.fixture
def changed(driver: Any, tmp_path: Path) -> Iterator[Any]:
    """Open the report of a model of 12 layers of which the fifth changed, and of a green one."""
    (tmp_path / "spool").mkdir()
    spool = Spool(tmp_path / "spool")
    add_changed_model(spool, "changed.keras", 12, 4, others=["finite"])
    add_changed_model(spool, "green.keras", 5, None)
    spool.add_event({"kind": "finished"})
    with opened(driver, spool, tmp_path) as shown:
        yield shown


@contextmanager
def opened(driver: Any, spool: Spool, folder: Path) -> Iterator[Any]:
    place = folder / "report.html"
    place.write_text(render(assemble(spool), spool), encoding="utf-8")
    driver.get_log("browser")
    driver.get_log("performance")
    driver.get(place.as_uri())
    yield driver
    assert driver.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [
        m["params"]["request"]["url"]
        for m in messages
        if m["method"] == "Network.requestWillBeSent"
    ]
    assert urls
    assert {url.partition(":")[0] for url in urls} <= {"file", "data", "blob"}
    driver.get("about:blank")


def find(page: Any, selector: str) -> Any:
    return page.find_element(By.CSS_SELECTOR, selector)


def titles(page: Any) -> list[str]:
    """Return the titles of the items that are not hidden or folded."""
    shown = page.find_elements(
        By.CSS_SELECTOR,
        "#items > .entry:not([hidden]) .name, .items[open] .entry:not([hidden]) .name",
    )
    return [element.get_attribute("textContent") for element in shown]


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 10
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_hostile_names_are_shown_as_text_and_do_not_run(page):
    assert page.title.startswith("5 of 8 items failed")
    shown = find(page, "main").get_attribute("textContent")
    assert EVIL in shown
    assert EVIL_SCRIPT in shown
    assert len(page.find_elements(By.CSS_SELECTOR, "img[src='x']")) == 0
    assert len(page.find_elements(By.CSS_SELECTOR, "[onerror]")) == 0
    broken = "return [...document.images].filter(i => i.complete && !i.naturalWidth).length"
    assert page.execute_script(broken) == 0


def test_the_search_filters_items_and_is_stored_in_the_url(page):
    failures = titles(page)
    assert set(failures) == {"dead", "baseline", "baseline too", EVIL_SCRIPT}
    page.find_element(By.TAG_NAME, "body").send_keys("/")
    assert page.switch_to.active_element.get_attribute("id") == "search"
    page.switch_to.active_element.send_keys("dead FILTERS")
    assert titles(page) == ["dead"]
    assert "q=dead FILTERS" in unquote_plus(page.current_url)
    assert find(page, "#shown").text == "1 of 6 items"
    page.refresh()
    assert titles(page) == ["dead"]
    find(page, "#search").send_keys("nothing like it")
    assert titles(page) == []
    find(page, "#none-reset").click()
    assert titles(page) == failures


def test_items_can_be_filtered_by_field_and_status(page):
    find(page, "[data-status='failed']").click()
    assert set(titles(page)) == {"dead", "baseline", "baseline too", EVIL_SCRIPT}
    find(page, "#layer option[value='=conv_b']").click()
    assert set(titles(page)) == {"dead", "baseline too"}
    assert "status=failed" in page.current_url
    find(page, "#reset").click()
    options = find(page, "#model").find_elements(By.TAG_NAME, "option")
    next(option for option in options if option.get_attribute("value") == f"={EVIL}").click()
    assert titles(page) == [EVIL_SCRIPT]
    page.refresh()
    assert titles(page) == [EVIL_SCRIPT]


def test_a_cell_of_the_overview_opens_its_item(page):
    find(page, "a.cell.passed[href^='#i-']").click()
    opened = find(page, ".entry.open .title[aria-expanded='true']")
    assert opened.is_displayed()
    assert "item=i-" in page.current_url
    page.back()
    assert "item=" not in page.current_url


def test_the_keyboard_moves_between_items(page):
    body = page.find_element(By.TAG_NAME, "body")
    body.send_keys("j")
    first = page.switch_to.active_element
    first.send_keys("j")
    second = page.switch_to.active_element
    assert first != second
    second.send_keys("k")
    assert page.switch_to.active_element == first
    state = first.get_attribute("aria-expanded")
    first.send_keys(Keys.ENTER)
    assert first.get_attribute("aria-expanded") != state
    body.send_keys("?")
    assert find(page, "#help").is_displayed()
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not find(page, "#help").is_displayed()


def test_pictures_can_be_compared_in_all_views(page):
    pair = find(page, ".entry.open .pair")
    for view in ("swipe", "blink", "difference", "side"):
        button = pair.find_element(By.CSS_SELECTOR, f".views [data-view='{view}']")
        page.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()
        assert pair.get_attribute("data-view") == view
        assert button.get_attribute("aria-pressed") == "true"
        expected, actual, difference = (
            pair.find_element(By.CSS_SELECTOR, f".shot.{name}")
            for name in ("expected", "actual", "difference")
        )
        if view == "swipe":
            slider = pair.find_element(By.CSS_SELECTOR, "input[type=range]")
            cut = "return getComputedStyle(arguments[0].querySelector('img')).clipPath"
            assert "50%" in page.execute_script(cut, actual)
            slider.send_keys(Keys.HOME)
            assert "50%" not in page.execute_script(cut, actual)
        if view == "blink":
            until(lambda: "lit" in pair.get_attribute("class"))
            until(lambda: "lit" not in pair.get_attribute("class"))
        if view == "difference":
            assert difference.is_displayed()
            assert not expected.is_displayed()


def test_each_accepted_change_is_exported_once(page, downloads):
    accept = page.find_elements(By.CSS_SELECTOR, ".entry.open .accept")
    assert len(accept) == 2
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", accept[0])
    accept[0].click()
    assert [button.text for button in accept] == ["Accepted", "Accepted"]
    assert find(page, "#accepted-count").text == "1 change accepted"
    page.refresh()
    find(page, "#export").click()
    file = downloads / "convlens-accept.json"
    until(file.exists)
    assert json.loads(file.read_text(encoding="utf-8")) == {
        "format": "convlens-accept",
        "version": 1,
        "accept": [{"key": f"m::baseline {EVIL}", "fingerprint": "f00d"}],
    }
    find(page, "#forget").click()
    assert not find(page, "#accepted").is_displayed()


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_not_wider_than_the_window(page, width):
    page.set_window_size(max(width, 500), 900)
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    try:
        find(page, "#unfold").click()
        wide = "return document.documentElement.scrollWidth"
        assert page.execute_script(wide) <= width
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_in_both_color_schemes(page, scheme):
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    colors = """
    const parse = (c) => c.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255);
    const light = (c) => parse(c).map((v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
      .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
    const body = getComputedStyle(document.body);
    const [a, b] = [light(body.color), light(body.backgroundColor)].sort((x, y) => y - x);
    return [(a + .05) / (b + .05), light(body.backgroundColor)];
    """
    contrast, paper = page.execute_script(colors)
    assert contrast > 7
    assert (paper > 0.5) == (scheme == "light")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def is_visible(page: Any, element: Any) -> bool:
    """Return whether a click at the center of an element would hit it."""
    return page.execute_script(
        """
        const box = arguments[0].getBoundingClientRect();
        scrollBy(0, box.top - 300);
        const { left, right, top, bottom } = arguments[0].getBoundingClientRect();
        const met = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
        return left >= 0 && right <= innerWidth && arguments[0].contains(met);
        """,
        element,
    )


@pytest.mark.parametrize("width", [360, 400])
def test_failures_are_visible_in_a_narrow_window(page, width):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False},
    )
    try:
        page.refresh()
        failed = page.find_elements(By.CSS_SELECTOR, ".overview tr.layer .cell.failed")
        assert len(failed) == 4
        assert all(is_visible(page, cell) for cell in failed)
        cut = find(page, f".overview th[title='{EVIL}']")
        assert cut.size["width"] < 120
        # The check can fail: an element moved out of the window is not visible.
        page.execute_script("arguments[0].style.marginLeft = '600px'", failed[0])
        assert not is_visible(page, failed[0])
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_swipe_line_is_at_the_border_of_the_pictures(page):
    pair = find(page, ".entry.open .pair")
    frame = pair.find_element(By.CSS_SELECTOR, ".actual .frame")
    line = "const s = getComputedStyle(arguments[0], '::after'); return [s.content, s.left]"
    assert page.execute_script(line, frame)[0] == "none"
    button = pair.find_element(By.CSS_SELECTOR, "[data-view='swipe']")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    _, left = page.execute_script(line, frame)
    assert float(left.removesuffix("px")) == pytest.approx(frame.size["width"] / 2, abs=1)


def test_bidirectional_characters_in_names_are_shown_as_escapes(page):
    shown = find(page, "main").get_attribute("textContent")
    assert BIDIRECTIONAL not in shown
    assert r"unit \u202eerutcip" in shown


def test_no_container_of_items_is_a_grid_in_print(page):
    """In print, browsers draw items of a grid over each other at a page break."""
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        display = "return getComputedStyle(arguments[0]).display"
        for name in ("#items", ".body", ".figures", "section.comparison", ".pairs", ".pair"):
            assert page.execute_script(display, find(page, name)) == "block", name
        assert not find(page, ".filters").is_displayed()
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@contextmanager
def narrow(page: Any, width: int = 390) -> Iterator[None]:
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": True},
    )
    try:
        page.refresh()
        yield
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_page_of_300_layers_is_small_and_light(driver, tmp_path):
    """The numbers grow with the layers and not with their square; the time is only printed."""
    (tmp_path / "spool").mkdir()
    spool = Spool(tmp_path / "spool")
    add_changed_model(spool, "deep.keras", 302, 128, others=["finite", "dead"])
    with opened(driver, spool, tmp_path) as page:
        size = (tmp_path / "report.html").stat().st_size
        elements = page.execute_script("return document.querySelectorAll('*').length")
        took = "return performance.getEntriesByType('navigation')[0].loadEventEnd"
        print(f"{size} bytes, {elements} elements, {page.execute_script(took):.0f} ms")
        assert size < 5_000_000
        assert elements < 2_000
        page.find_element(By.TAG_NAME, "body").send_keys("/")
        page.switch_to.active_element.send_keys("_29_")
        assert find(page, "#shown").text == "30 of 906 items"


def test_what_changed_is_told_first_and_whole(changed):
    card = find(changed, "main > :first-child .card")
    for text in (
        "changed.keras",
        "the first layer that diverges is 'stage_0_block_4_convolution'",
        "2 of 6 channels diverge; the worst is channel 3",
        "the weights of 'stage_0_block_4_convolution' changed",
        "pytest --convlens-update=failed changed.keras::baseline",
        "stage_0_block_5_convolution … stage_1_block_1_convolution: 7 follow",
    ):
        assert text in card.text
    shots = card.find_elements(By.CSS_SELECTOR, ".shot img")
    assert [shot.get_attribute("alt") for shot in shots] == ["expected", "actual", "difference"]
    assert card.rect["y"] < 300
    assert find(changed, ".filters").rect["y"] < find(changed, ".overview").rect["y"]
    # The pictures and the button are there once.
    assert len(changed.find_elements(By.CSS_SELECTOR, ".accept")) == 1
    find(changed, "#unfold").click()
    assert len(changed.find_elements(By.CSS_SELECTOR, ".accept")) == 1


def test_the_effect_of_accepting_is_told_before_the_click(changed):
    told = find(changed, ".card .accepting").text
    assert "Accepting records the whole model anew" in told
    assert "'stage_0_block_4_convolution', and 7 layers behind it" in told
    assert "4 others agree" in told
    names = find(changed, ".accepting .names").text.split(", ")
    assert names[0] == "stage_0_block_5_convolution"
    assert len(names) == 7


def test_passes_and_followers_are_folded(changed):
    assert titles(changed) == ["baseline"]
    folds = changed.find_elements(By.CSS_SELECTOR, "details.items > summary")
    texts = [" ".join(fold.text.split()) for fold in folds]
    assert texts[0].endswith("changed.keras 7 follow stage_0_block_4_convolution")
    assert texts[1].endswith("changed.keras 16 passed")
    assert texts[2].endswith("green.keras 5 passed")
    assert not changed.find_elements(By.CSS_SELECTOR, ".items .entry")
    folds[2].click()
    until(lambda: len(titles(changed)) == 6)


def test_the_overview_has_a_row_for_the_cause_and_folds_the_rest(changed):
    def rows() -> list[str]:
        shown = changed.find_elements(By.CSS_SELECTOR, ".overview tbody tr th")
        return [row.text for row in shown if row.is_displayed()]

    assert rows() == [
        "changed.keras",
        "stage_0_block_0_convolution … stage_0_block_3_convolution: 4 passed",
        "stage_0_block_4_convolution",
        "stage_0_block_5_convolution … stage_1_block_1_convolution: 7 follow",
        "green.keras",
        *(f"stage_0_block_{n}_convolution" for n in range(5)),
    ]
    red = changed.find_elements(By.CSS_SELECTOR, ".overview tr.model .cell.failed")
    assert [cell.text for cell in red] == ["✗\n1 +7"]
    assert red[0].get_attribute("aria-label") == "1 failed, 7 follow, 4 passed of 12"
    find(changed, "tr.span.follow .fold").click()
    assert len(rows()) == 17
    find(changed, "#layer option[value='=stage_0_block_7_convolution']").click()
    assert rows() == ["changed.keras", "stage_0_block_7_convolution"]


def test_keys_go_to_the_next_and_the_previous_failure(page):
    seen = []
    for _ in range(6):
        page.switch_to.active_element.send_keys("n")
        focused = page.switch_to.active_element
        inner = focused.find_elements(By.CSS_SELECTOR, ".name")
        seen.append(inner[0].text if inner else focused.text)
    wanted = ["dead", EVIL_SCRIPT, "baseline", "baseline too"]
    assert set(seen[:4]) == set(wanted)
    assert "test_bad" in seen[4]
    assert seen[5] == seen[0]
    page.switch_to.active_element.send_keys("p")
    assert "test_bad" in page.switch_to.active_element.text
    find(page, "#help-open").click()
    assert "next failure" in find(page, "#help").text
    find(page, "#help button").click()


def test_a_card_is_one_failure_for_the_keys(changed):
    for _ in range(2):
        changed.switch_to.active_element.send_keys("n")
        assert "card" in changed.switch_to.active_element.get_attribute("class")


def test_all_columns_and_names_are_in_a_narrow_window(changed):
    with narrow(changed):
        find(changed, ".card .fold-table summary").click()
        until(lambda: changed.find_elements(By.CSS_SELECTOR, ".layers td"))
        cells = changed.find_elements(By.CSS_SELECTOR, ".layers tr:nth-child(-n+3) > *")
        cells += changed.find_elements(By.CSS_SELECTOR, ".overview tr.model > *")
        cells += changed.find_elements(By.CSS_SELECTOR, ".overview thead th")
        assert len(cells) > 20
        inside = """
          const { left, right } = arguments[0].getBoundingClientRect();
          const { scrollWidth, clientWidth } = arguments[0];
          return left >= 0 && right <= innerWidth && scrollWidth <= clientWidth + 1;
        """
        assert all(changed.execute_script(inside, cell) for cell in cells)
        names = [th.text for th in changed.find_elements(By.CSS_SELECTOR, ".layers tbody th")]
        assert names[:2] == ["stage_0_block_0_convolution", "stage_0_block_1_convolution"]
        assert changed.execute_script("return document.documentElement.scrollWidth") <= 390


def test_a_change_is_accepted_from_its_card(changed, downloads):
    file = downloads / "convlens-accept.json"
    file.unlink(missing_ok=True)
    find(changed, ".card .accept").click()
    assert find(changed, ".card .accept").text == "Accepted"
    find(changed, "#export").click()
    until(file.exists)
    accepted = json.loads(file.read_text(encoding="utf-8"))["accept"]
    assert accepted == [{"key": "changed.keras::baseline", "fingerprint": "f00d"}]
    file.unlink()


def test_a_link_leads_into_a_folded_part(changed):
    find(changed, ".card a.go").click()
    assert find(changed, ".entry.told").is_displayed()
    cell = find(changed, ".overview tr.model .cell.passed")
    changed.execute_script("arguments[0].scrollIntoView({block: 'center'})", cell)
    cell.click()
    until(lambda: find(changed, ".items[open] .entry:not([hidden])").is_displayed())
    changed.back()
