"""The page of a sweep in a real browser, started once."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import record_maker as made

from bench.analysis.groups import sections
from bench.analysis.runs import read_sweep
from bench.report import html
from bench.report.pages import sweep_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
ARGUMENTS = ("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync")
ARGUMENTS += ("disable-background-networking", "disable-component-update", "disable-dev-shm-usage")
TABLE = "document.querySelectorAll('table')[1]"
SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" width="300pt" height="200pt" viewBox="0 0 300 200">
<rect width="300" height="200" fill="#fff"/>
<g><title>none: 97.10 %</title><circle cx="60" cy="60" r="9"/></g>
<g><title>cross_layer: 98.67 %</title><circle cx="200" cy="120" r="9"/></g></svg>"""


class Page:
    """The page, and what can be asked of it."""

    def __init__(self, driver: Any, path: Path) -> None:
        self.driver, self.path = driver, path

    def open(self, width: int = 1200, scripts: bool = True) -> None:
        self.does("Emulation.setScriptExecutionDisabled", value=not scripts)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.does("Emulation.setDeviceMetricsOverride", **size)
        self.driver.get(self.path.as_uri())
        self.unfold()

    def unfold(self, which: str = "true") -> None:
        """Open the folds for which this script, of `one` and its place `at`, is true, and close the others."""
        self.says(f"document.querySelectorAll('details').forEach((one, at) => {{ one.open = {which} }})")

    def does(self, command: str, **given: Any) -> None:
        self.driver.execute_cdp_cmd(command, given)

    def says(self, script: str) -> Any:
        return self.driver.execute_script(f"return {script}")

    def column(self, at: int) -> list[str]:
        """What stands in the rows of the comparison that are shown."""
        rows = f"[...{TABLE}.tBodies[0].rows].filter(row => row.checkVisibility())"
        return self.says(f"{rows}.map(row => row.cells[{at}].textContent)")

    def click(self, at: int) -> str:
        """On a header of the comparison; what it then says of its order."""
        self.says(f"{TABLE}.tHead.rows[0].cells[{at}].querySelector('button').click()")
        return self.says(f"{TABLE}.tHead.rows[0].cells[{at}].getAttribute('aria-sort')")

    def at(self, name: str) -> int:
        heads = self.says(f"[...{TABLE}.tHead.rows[0].cells].map(head => head.innerText)")
        return next(at for at, head in enumerate(heads) if name in " ".join(head.split()))


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if not BROWSER or not DRIVER:
        pytest.skip("no browser or no driver: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    folder = tmp_path_factory.mktemp("page")
    path = folder / "index.html"
    path.write_bytes(_page(folder / "runs"))
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in (*ARGUMENTS, f"user-data-dir={folder / 'profile'}"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(executable_path=DRIVER))
    try:
        yield Page(driver, path)
    finally:
        driver.quit()


def _page(runs: Path) -> bytes:
    made.write_sweep(runs, *made.grid({"image_cnn": "digits"}))
    asked, note = read_sweep(runs, "quick")
    found = sections(asked)
    for cell in found[0].cells:
        for run in cell.runs:
            asked = [f"dropout={cell.dropout}", f"seed={run.seed}"]
            run.record["overrides"] = ["task=image_cnn", "data=digits", *asked]
    return html.page(sweep_report("quick", found, note), {"image_cnn_pareto.svg": SVG})


def test_it_loads_without_an_error_and_without_the_network(shown):
    shown.open()
    assert shown.says("document.readyState") == "complete"
    assert shown.driver.get_log("browser") == []
    assert shown.says("performance.getEntriesByType('resource').length") == 0
    refused = shown.driver.execute_async_script(
        "const done = arguments[0]; addEventListener('securitypolicyviolation', () => done('refused'), {once: true});"
        "fetch('http://127.0.0.1:9/').then(() => done('fetched'), () => {});"
    )
    assert refused == "refused"
    shown.driver.get_log("browser")


def test_a_click_sorts_by_the_number_and_a_third_gives_the_old_order(shown):
    shown.open()
    at = shown.at("unique parameters")
    before = shown.column(at)
    counts = [int(text.replace(",", "")) for text in before if text]
    holes = [""] * before.count("")
    assert shown.click(at) == "ascending" and holes
    assert shown.column(at) == [f"{count:,}" for count in sorted(counts)] + holes
    assert shown.click(at) == "descending"
    assert shown.column(at) == [f"{count:,}" for count in sorted(counts, reverse=True)] + holes
    assert shown.click(at) == "none" and shown.column(at) == before


def test_sorting_keeps_the_order_of_equals_and_works_from_the_keyboard(shown):
    from selenium.webdriver.common.keys import Keys

    shown.open()
    rows = list(zip(*(shown.column(at) for at in range(3)), strict=True))
    button = shown.driver.find_elements("css selector", "table")[1].find_elements(
        "css selector", "thead button"
    )[1]
    button.send_keys(Keys.ENTER)
    after = list(zip(*(shown.column(at) for at in range(3)), strict=True))
    numbers = [row for row in rows if row[1] != "all"]
    assert sorted(numbers, key=lambda row: float(row[1])) == [row for row in after if row[1] != "all"]


def test_words_and_choices_filter_the_rows(shown):
    from selenium.webdriver.common.keys import Keys

    shown.open()
    everything = shown.column(0)
    box, *selects = shown.driver.find_elements("css selector", ".tools")[1].find_elements(
        "css selector", "input, select"
    )
    box.send_keys("CROSS 0.2")
    assert set(shown.column(0)) == {"cross_layer"} and set(shown.column(1)) == {"0.2"}
    assert "2 of" in shown.says("document.querySelectorAll('.tools output')[1].textContent")
    box.send_keys(Keys.BACKSPACE * len("CROSS 0.2"))
    assert shown.column(0) == everything
    selects[0].send_keys("none")
    assert set(shown.column(0)) == {"none"}


def test_what_is_chosen_stands_in_the_address_and_is_there_again(shown):
    shown.open()
    everything, at = shown.column(0), shown.at("unique parameters")
    box, select, *_ = shown.driver.find_elements("css selector", ".tools")[1].find_elements(
        "css selector", "input, select"
    )
    box.send_keys("0.2")
    select.send_keys("cross_layer")
    shown.click(at)
    shown.click(at)
    rows = [shown.column(0), shown.column(1), shown.column(at)]
    address = shown.driver.current_url
    assert rows[0] and len(rows[0]) < len(everything) and "cross_layer" in address
    shown.driver.get("about:blank")
    shown.driver.get(address)
    assert [shown.column(0), shown.column(1), shown.column(at)] == rows
    assert shown.says(f"{TABLE}.tHead.rows[0].cells[{at}].getAttribute('aria-sort')") == "descending"
    shown.open()
    assert shown.column(0) == everything


def test_a_dark_screen_has_dark_pictures_and_paper_has_none(shown):
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    look = "getComputedStyle(document.querySelector('.plate svg')).filter"
    shown.open()
    assert shown.says(look) == "none"
    shown.does("Emulation.setEmulatedMedia", features=dark)
    assert shown.says(look).startswith("invert")
    shown.does("Emulation.setEmulatedMedia", media="print", features=dark)
    assert shown.says(look) == "none"
    shown.does("Emulation.setEmulatedMedia", media="", features=[])


def test_paper_has_the_answer_and_what_was_opened(shown):
    shown.open()
    shown.unfold("at === 1")
    shown.does("Emulation.setEmulatedMedia", media="print")
    folds = shown.says("[...document.querySelectorAll('main details')].map(one => one.checkVisibility())")
    seen = shown.says("[...document.querySelectorAll('table')].map(one => one.checkVisibility())")
    tools = shown.says("[...document.querySelectorAll('.tools, nav')].some(one => one.checkVisibility())")
    shown.does("Emulation.setEmulatedMedia", media="")
    assert folds.count(True) == 1 and seen[0] and 1 < seen.count(True) < len(seen) and not tools


def test_a_picture_shows_its_values_to_pointer_and_keyboard(shown):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    shown.open()
    tip = "document.getElementById('tip')"
    assert shown.says(f"{tip}.hidden") and shown.says("document.querySelectorAll('.plate title').length") == 0
    circles = shown.driver.find_elements("css selector", ".plate circle")
    ActionChains(shown.driver).move_to_element(circles[1]).perform()
    assert shown.says(f"{tip}.innerText") == "cross_layer: 98.67 %"
    ActionChains(shown.driver).move_to_element_with_offset(circles[0], 60, 60).perform()
    assert shown.says(f"{tip}.hidden")
    svg = shown.driver.find_element("css selector", ".plate svg")
    svg.send_keys(Keys.ARROW_RIGHT)
    assert shown.says(f"{tip}.innerText") == "none: 97.10 %"
    svg.send_keys(Keys.ESCAPE)
    assert shown.says(f"{tip}.hidden")


def test_each_command_can_be_copied(shown):
    shown.open()
    buttons = shown.driver.find_elements("css selector", "td .copy")
    commands = shown.says("[...document.querySelectorAll('td .command')].map(code => code.textContent)")
    assert len(buttons) == len(commands) > 8
    assert all(text.startswith("python -m bench task=image_cnn data=digits ") for text in commands)
    copied = "arguments[0].parentElement.querySelector('code').textContent"
    shown.says("navigator.clipboard.writeText = async text => { window.copied = text }")
    buttons[2].click()
    assert shown.says("window.copied") == shown.driver.execute_script(f"return {copied}", buttons[2])


@pytest.mark.parametrize("width", [400, 1200])
def test_the_body_never_scrolls_sideways(shown, width):
    shown.open(width)
    assert shown.says("document.documentElement.scrollWidth") <= width == shown.says("innerWidth")


def test_without_scripts_there_are_plain_tables(shown):
    shown.open(scripts=False)
    table = shown.driver.find_elements("css selector", "table")[1]
    assert len(table.find_elements("css selector", "tbody tr")) > 8 and "cross_layer" in table.text
    assert not shown.driver.find_elements("css selector", "button, input, select")
    assert len(shown.driver.find_elements("css selector", ".plate title")) == 2
