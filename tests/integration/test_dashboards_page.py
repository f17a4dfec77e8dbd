"""The live page in a real browser: Debian's Chromium (`apt install chromium`), driven by Playwright."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import urllib3
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from dashboards.dashboard import saved_objects
from dashboards.panels import RANGE, Names
from embedded import Elasticsearch
from embedded.testing.waiting import wait_until
from tests.integration.served_page import served
from tests.integration.written import Written, hours_ago, mse, r2
from tests.slow import slow_except
from tests.strategies import AWKWARD_NAMES

NEW_DATA_MS = 60_000  # a limit for a busy machine; normally new data appear after 5 s
SCREENSHOTS = Path(__file__).parents[2] / ".local" / "screenshots"
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        pytest.fail("Chromium is needed: apt install chromium (or leave these tests out: -m 'not browser')")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def features() -> tuple[str, ...]:
    """The features' names; a test may set others with a parameter of this name."""
    return ("a", "b.c")


@pytest.fixture
def written(request: pytest.FixtureRequest, search: Elasticsearch, features: tuple[str, ...]) -> Written:
    prefix = re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    return Written(Names(features, "target", prefix), search)


@dataclass
class Seen:
    """A page of the browser, and its errors."""

    page: Page
    address: str
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._log)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", self._asked)

    def _log(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.faults.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((f"{self.address}/", "data:,")):
            self.faults.append(f"left the machine: {request.url}")

    def number(self, panel: str) -> float:
        return float(self.page.locator(f"#{panel}-value").inner_text().replace(",", ""))

    def table(self, panel: str) -> list[list[str]]:
        """The table behind a chart, opened if necessary."""
        box = self.page.locator(f"#{panel}")
        if not box.locator("details").evaluate("details => details.open"):
            box.locator("summary").click()
        expect(box.locator("tbody tr").first).to_be_visible()
        rows: list[list[str]] = box.locator("tbody tr").evaluate_all(
            "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
        )
        return rows

    def drawn(self, panel: str) -> bool:
        """Whether the panel's canvas holds pixels of the panel's own colours, not only of axes and grid."""
        script = """canvas => {
            const copy = new OffscreenCanvas(canvas.width, canvas.height)
                .getContext("2d", {willReadFrequently: true});
            copy.drawImage(canvas, 0, 0);
            const {data} = copy.getImageData(0, 0, canvas.width, canvas.height);
            let vivid = 0;
            for (let i = 0; i < data.length; i += 4) {
                const [r, g, b, a] = data.slice(i, i + 4);
                if (a > 128 && Math.max(r, g, b) - Math.min(r, g, b) > 60) vivid += 1;
            }
            return vivid > 20;
        }"""
        return bool(self.page.locator(f"#{panel} canvas").evaluate(script))

    def on_top(self, selector: str) -> bool:
        """Whether a click in the middle of the element meets it, and nothing that covers it."""
        script = """element => {
            element.scrollIntoView({block: "nearest"});
            const box = element.getBoundingClientRect();
            const hit = document.elementFromPoint(box.x + Math.min(box.width, 60) / 2, box.y + box.height / 2);
            return element.contains(hit);
        }"""
        return bool(self.page.locator(selector).evaluate(script))

    def wait_for_charts(self) -> None:
        """Wait until each chart with data has drawn something."""
        # Read from a copy, because the browser warns of repeated reads from a canvas.
        inked = """canvas => {
            if (!canvas.width || !canvas.height) return false;  // it is being laid out
            const copy = new OffscreenCanvas(canvas.width, canvas.height)
                .getContext("2d", {willReadFrequently: true});
            copy.drawImage(canvas, 0, 0);
            return copy.getImageData(0, 0, canvas.width, canvas.height).data.some(v => v);
        }"""

        def missing() -> str:
            charts = self.page.locator(".chart:not(.empty)")
            blank = [
                i
                for i, chart in enumerate(charts.all())
                if not (chart.locator("canvas").count() == 1 and chart.locator("canvas").evaluate(inked))
            ]
            return f"charts {blank} of {charts.count()} are blank" if blank or not charts.count() else ""

        wait_until(missing, 20)


OpenPage = Callable[..., Seen]


@pytest.fixture
def open_page(chromium: Browser, written: Written) -> Iterator[OpenPage]:
    """Yield a function that opens the page for the written documents; there must be no errors at the end."""
    opened: list[Seen] = []
    with served(written.names, written.search) as address:

        def run(width: int = 1440, *, dark: bool = False, chosen: str = "") -> Seen:
            page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
            opened.append(Seen(page, address))
            page.goto(f"{address}/{chosen}")
            expect(page.locator("#status")).not_to_have_attribute("data-state", "loading", timeout=NEW_DATA_MS)
            return opened[-1]

        yield run
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        for i, seen in enumerate(opened):
            seen.page.screenshot(path=SCREENSHOTS / f"{written.names.prefix}-{i}.png", full_page=True)
            seen.page.close()
    assert [seen.faults for seen in opened] == [[] for _ in opened]


def test_new_data_show_the_right_numbers_within_10_seconds(open_page: OpenPage, written: Written) -> None:
    seen = open_page()
    expect(seen.page.locator("#state")).to_have_text(re.compile("No data yet"))
    expect(seen.page.locator("#train-mse-value")).to_have_text("–")
    written.write(400, noise=3, faults=[("missing", "a")], lag=12)
    expect(seen.page.locator("#state")).to_have_text("Live", timeout=NEW_DATA_MS)
    for name in ("train", "test"):
        assert seen.number(f"{name}-mse") == pytest.approx(mse(written.of(name)), rel=1e-4)
        assert seen.number(f"{name}-r2") == pytest.approx(r2(written.of(name)), rel=1e-4)
    assert (seen.number("model-rows-seen"), seen.number("model-invalid")) == (800, 1)
    ((offset, shown),) = seen.table("train-mse-over-offset")
    assert offset == "0"
    assert float(shown) == pytest.approx(mse(written.of("train")), rel=1e-4)
    seen.wait_for_charts()

    written.write(400, noise=30)
    expect(seen.page.locator("#model-rows-seen-value")).to_have_text("1,600", timeout=NEW_DATA_MS)
    assert seen.number("train-mse") == pytest.approx(mse(written.of("train")), rel=1e-4)
    assert [row[0] for row in seen.table("train-mse-over-offset")] == ["400", "0"]


def shown(values: Any) -> set[str]:
    """The texts of a column of numbers: all with as many decimals as the largest one has room for in 5 digits."""
    decimals = max(0, 4 - math.floor(math.log10(max(abs(value) for value in values))))
    return {f"{value:,.{decimals}f}" for value in values}


CHARTS = ("overview-error", "train-mse-over-offset", "train-points", "model-weights", "model-lag")


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (390, True)])
def test_explanation_is_on_top_of_the_chart_and_a_click_closes_it_again(
    open_page: OpenPage, written: Written, width: int, dark: bool
) -> None:
    """Real clicks with the mouse, at the place of the text: a canvas above it would take them."""
    for hours in (0.03, 0.02, 0.01):
        written.write(200, hours_ago(hours), noise=5, lag=3)
    seen = open_page(width, dark=dark)
    seen.wait_for_charts()
    for panel in CHARTS:
        assert seen.drawn(panel), panel
        summary = seen.page.locator(f"#{panel} summary")
        summary.scroll_into_view_if_needed()
        summary.click()
        expect(seen.page.locator(f"#{panel} tbody tr").first).to_be_visible()
        for part in ("summary", "details > p", "details > button", "thead th >> nth=0"):
            assert seen.on_top(f"#{panel} {part}"), (panel, part)
        assert seen.on_top(f"#{panel} summary"), panel
        box = summary.bounding_box()
        assert box is not None
        seen.page.mouse.click(box["x"] + 20, box["y"] + box["height"] / 2)
        expect(seen.page.locator(f"#{panel} details")).not_to_have_attribute("open", "")
        assert seen.on_top(f"#{panel} canvas"), panel
        assert seen.drawn(panel), panel


def test_numbers_of_every_panel_can_be_downloaded(open_page: OpenPage, written: Written) -> None:
    hostile = '=HYPERLINK("http://example.org"),"x"'
    written.write(50, hours_ago(0.02), noise=5, faults=[(hostile, "a")])
    written.write(50)
    seen = open_page()
    seen.wait_for_charts()
    found = {}
    for panel in seen.page.locator(".panel:not(.note)").all():
        name = str(panel.get_attribute("id"))
        panel.locator("summary").click()
        with seen.page.expect_download() as download:
            panel.locator("button").click()
        assert download.value.suggested_filename == f"{name}.csv"
        text = Path(download.value.path()).read_text(encoding="utf-8-sig")
        found[name] = [*csv.reader(text.splitlines())]
        assert len(found[name]) >= 2 and len({len(row) for row in found[name]}) == 1, name
        panel.locator("summary").click()
    assert float(found["train-rmse"][1][0]) == pytest.approx(mse(written.of("train")) ** 0.5, rel=1e-12)
    assert found["model-invalid-reasons"] == [
        ["Reason", "Field", "Topic", "Records"],
        [f"'{hostile}", "a", "train", "1"],
    ]
    weights = [float(text) for text in found["model-weights"][1][1:]]
    assert weights == pytest.approx([*written.models[-1]["weights"].values()], rel=1e-12)
    drawn = {(float(x), place) for x, *_, place in found["train-points"][1:]}
    assert drawn == {
        (x, f"train-{batch.partition}-{batch.first_offset + i}")
        for batch in written.of("train")
        for i, x in enumerate(batch.x[:, 0].tolist())
    }


def test_points_say_name_rounded_number_and_place_on_hover(open_page: OpenPage, written: Written) -> None:
    written.write(300)
    seen = open_page()
    seen.wait_for_charts()
    box = seen.page.locator("#train-points canvas").bounding_box()
    assert box is not None
    tips: set[str] = set()
    for row, step in product(range(3, 9), range(1, 60)):
        seen.page.mouse.move(box["x"] + box["width"] * step / 60, box["y"] + box["height"] * row / 12)
        if seen.page.locator("#tip").is_visible():
            tips.add(seen.page.locator("#tip").inner_text())
    assert tips
    for tip in tips:
        lines = dict(line.split(": ", 1) for line in tip.replace("\u200b", "").splitlines())
        assert lines.keys() == {"a", "target", "series", "topic-partition-offset"}
        assert re.fullmatch(r"train-[01]-\d+", lines["topic-partition-offset"])
        assert all(len(re.sub(r"\D", "", lines[name]).lstrip("0")) <= 6 for name in ("a", "target")), tip


def test_outliers_are_counted_and_the_others_keep_their_room(open_page: OpenPage, written: Written) -> None:
    """The texts of a canvas cannot be read, so they are recorded where Vega draws them."""
    written.write(300)
    batch = written.of("train")[0]
    written.move(batch, 7, x=1e6)
    seen = open_page()
    seen.wait_for_charts()
    seen.page.evaluate(
        """() => {
            window.texts = [];
            const own = CanvasRenderingContext2D.prototype.fillText;
            CanvasRenderingContext2D.prototype.fillText = function (text, ...more) {
                window.texts.push(String(text));
                return own.call(this, text, ...more);
            };
        }"""
    )
    seen.page.emulate_media(color_scheme="dark")  # draws everything again
    expect(seen.page.locator("#train-points canvas")).to_be_visible()
    wait_until(lambda: "" if "1 point lies outside" in seen.page.evaluate("texts") else "no outlier is counted", 20)
    assert not [text for text in seen.page.evaluate("texts") if text.replace(",", "") in {"200000", "1000000"}]


def test_events_are_marked_and_named(open_page: OpenPage, written: Written) -> None:
    written.allow("models", drift={"properties": {"train": {"type": "boolean"}}})
    written.write(50, hours_ago(0.03))
    written.write(50, hours_ago(0.02), gaps=[1234], drift={"train": True})
    written.write(50, hours_ago(0.01))
    seen = open_page()
    seen.wait_for_charts()
    box = seen.page.locator("#overview-error canvas").bounding_box()
    assert box is not None
    tips: set[str] = set()
    for step in range(int(box["width"])):
        seen.page.mouse.move(box["x"] + step, box["y"] + box["height"] * 0.8)
        if seen.page.locator("#tip").is_visible():
            tips.add(seen.page.locator("#tip").inner_text())
    text = "\n".join(tips)
    assert "drift in train" in text or "1,234 records lost in train-0" in text, tips


def test_newest_micro_batch_says_its_age_run_and_learner(open_page: OpenPage, written: Written) -> None:
    written.write(20, hours_ago(3.1), lag=1234)
    seen = open_page()
    texts = seen.page.locator("#overview-stream dd").all_inner_texts()
    assert texts == ["3 h ago", "rls", "1,234", "40", "test"]
    written.write(20)
    expect(seen.page.locator("#overview-stream dd").first).to_have_text(re.compile(r"^\d+ s ago$"), timeout=NEW_DATA_MS)


def test_page_and_kibana_begin_with_the_same_time_range_and_title(open_page: OpenPage, written: Written) -> None:
    written.write(20)
    seen = open_page()
    dashboard = saved_objects(written.names)[-1]["attributes"]
    assert seen.page.title() == seen.page.locator("h1").inner_text() == dashboard["title"]
    expect(seen.page.locator("#choose-range option:checked")).to_have_text(RANGE[1])
    assert dashboard["timeFrom"] == RANGE[2]


def test_update_keeps_the_drawing_the_open_table_and_the_focus(open_page: OpenPage, written: Written) -> None:
    written.write(50)
    seen = open_page()
    seen.wait_for_charts()
    summary = seen.page.locator("#train-points summary")
    summary.click()
    seen.page.evaluate("window.kept = [...document.querySelectorAll('canvas')]")
    written.write(50)
    expect(seen.page.locator("#model-rows-seen-value")).to_have_text("200", timeout=NEW_DATA_MS)
    assert seen.page.evaluate("kept.length && kept.every(canvas => canvas.isConnected)")
    expect(seen.page.locator("#train-points details")).to_have_attribute("open", "")
    expect(summary).to_be_focused()


def test_choice_is_in_the_url_and_comes_back_with_it(open_page: OpenPage, written: Written) -> None:
    written.write(100, hours_ago(3))
    written.write(50)
    seen = open_page()
    for name, value in (("topic", "test"), ("range", "1h"), ("feature", "b.c")):
        seen.page.locator(f"#choose-{name}").select_option(value)
        expect(seen.page).to_have_url(re.compile(re.escape(value)))
    expect(seen.page.locator("#train-mse")).to_have_count(0)
    expect(seen.page.locator("#test-mse-value")).not_to_have_text("–")
    recent = [batch for batch in written.of("test") if batch.first_offset]
    assert seen.number("test-mse") == pytest.approx(mse(recent), rel=1e-4)
    assert {row[0] for row in seen.table("test-points")} <= shown([x for batch in recent for x in batch.x[:, 1]])
    again = open_page(chosen=seen.page.url.rpartition("/")[2])
    expect(again.page.locator("#choose-feature")).to_have_value("b.c")
    expect(again.page.locator("#train-mse")).to_have_count(0)
    seen.page.go_back()
    expect(seen.page.locator("#choose-feature")).to_have_value("a")


def test_hostile_strings_in_documents_stay_text(open_page: OpenPage, written: Written) -> None:
    hostile = "<script>document.title='x'</script><img src=//example.org onerror=alert(1)>"
    written.write(10, faults=[(hostile, '"><svg onload=alert(2)>')])
    seen = open_page()
    expect(seen.page.locator("#model-invalid-reasons td").first).to_have_text(hostile)
    expect(seen.page.locator("main img, main script, main svg")).to_have_count(0)
    assert seen.page.title() == written.names.title


@pytest.mark.parametrize(
    "features",
    [
        pytest.param(AWKWARD_NAMES[::2], id="awkward", marks=pytest.mark.slow),
        pytest.param(AWKWARD_NAMES[1::2], id="more awkward", marks=pytest.mark.slow),
    ],
)
def test_page_draws_and_lists_a_feature_with_any_name(open_page: OpenPage, written: Written) -> None:
    """Each name appears in a URL, a title, a tooltip, a heading and the name of a line."""
    written.write(60, hours_ago(0.1))
    written.write(60)
    seen = open_page()
    seen.wait_for_charts()
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 1440
    headings = seen.page.locator("#model-weights th")
    seen.page.locator("#model-weights summary").click()
    expect(headings).to_have_text(["micro-batch", *written.names.features], timeout=NEW_DATA_MS)
    cells = seen.page.locator("#model-weights tbody tr").first.locator("td")
    assert [float(text) for text in cells.all_inner_texts()[1:]] == [
        pytest.approx(weight, abs=1e-4) for weight in written.models[-1]["weights"].values()
    ]
    names = written.names.features[::4]
    for name in names:
        seen.page.locator("#choose-feature").select_option(name)
        expect(seen.page.locator("body")).not_to_have_class(re.compile("loading"), timeout=NEW_DATA_MS)
        seen.wait_for_charts()
        box = seen.page.locator("#train-points canvas").bounding_box()
        assert box is not None
        for step in range(1, 40):  # part of the path is over a point
            seen.page.mouse.move(box["x"] + box["width"] * step / 40, box["y"] + box["height"] / 2)
    seen.table("train-points")
    expect(seen.page.locator("#train-points th").first).to_have_text(names[-1], timeout=NEW_DATA_MS)
    number = written.names.features.index(names[-1])
    drawn = {row[0] for row in seen.table("train-points")}
    assert drawn <= shown([x for batch in written.of("train") for x in batch.x[:, number]])


@pytest.mark.slow
@pytest.mark.parametrize("features", [tuple(f"sensor {number}" for number in range(1200))], ids=["1200"])
def test_one_of_1200_features_is_found_by_typing(open_page: OpenPage, written: Written) -> None:
    written.write(20)
    seen = open_page()
    seen.wait_for_charts()
    field = seen.page.locator("#choose-feature")
    expect(field).to_have_value("sensor 0")
    field.click()
    expect(field).to_have_value("")  # so that the browser offers all names
    field.press_sequentially("sensor 11")
    assert seen.page.locator("datalist option").count() == 1200
    field.press_sequentially("99")
    field.press("Enter")
    expect(seen.page).to_have_url(re.compile("feature=sensor\\+1199"))
    seen.table("train-points")
    expect(seen.page.locator("#train-points th").first).to_have_text("sensor 1199", timeout=NEW_DATA_MS)
    field.fill("no such sensor")
    field.blur()
    expect(field).to_have_value("sensor 1199")
    headings = seen.page.locator("#model-weights th")
    seen.page.locator("#model-weights summary").click()
    expect(headings).to_have_count(51, timeout=NEW_DATA_MS)
    found = Axe().run(seen.page).response["violations"]
    assert not [violation for violation in found if violation["impact"] in {"serious", "critical"}]
    seen.page.go_back()
    expect(field).to_have_value("sensor 0", timeout=NEW_DATA_MS)


@pytest.mark.parametrize("features", [("a", "carrier[UA|A A]")], ids=["categories"])
def test_points_are_drawn_over_categories(open_page: OpenPage, written: Written) -> None:
    written.write(40)
    seen = open_page(chosen="?feature=carrier")
    seen.wait_for_charts()
    assert {row[0] for row in seen.table("train-points")} == {"UA", "A A"}
    box = seen.page.locator("#train-points canvas").bounding_box()
    assert box is not None
    for step in range(1, 40):  # part of the path is over a point, which shows its tooltip
        seen.page.mouse.move(box["x"] + box["width"] * step / 40, box["y"] + box["height"] / 2)
    seen.page.locator("#choose-feature").select_option("a")
    expect(seen.page.locator("body")).not_to_have_class(re.compile("loading"), timeout=NEW_DATA_MS)
    seen.table("train-points")
    expect(seen.page.locator("#train-points th").first).to_have_text("a", timeout=NEW_DATA_MS)


def test_lost_records_are_told_apart(open_page: OpenPage, written: Written) -> None:
    written.write(20)
    seen = open_page()
    expect(seen.page.locator("#model-lost-value")).to_have_text("0")
    written.write(20, gaps=[1200, 34])
    expect(seen.page.locator("#model-lost-value")).to_have_text("1,234", timeout=NEW_DATA_MS)
    assert seen.number("model-invalid") == 0
    expect(seen.page.locator("#model-invalid-reasons .rows")).to_have_text("none")


def test_page_says_that_points_are_a_sample(open_page: OpenPage, written: Written) -> None:
    written.write(50)
    seen = open_page()
    expect(seen.page.locator("#updated")).to_have_text(re.compile(r"updated \d\d:\d\d:\d\d$"))
    assert seen.number("model-points-stored") == 1
    written.write(400, fraction=0.07)
    expect(seen.page.locator("#updated")).to_have_text(
        re.compile("· points are a sample: 7 % are stored$"), timeout=NEW_DATA_MS
    )
    assert seen.number("model-points-stored") == 0.07
    assert seen.number("train-mse") == pytest.approx(mse(written.of("train")), rel=1e-4)


def test_stream_that_has_stopped_says_since_when_and_what_waits(open_page: OpenPage, written: Written) -> None:
    written.write(10, hours_ago(1), lag=1234)
    seen = open_page()
    expect(seen.page.locator("#state")).to_have_text(
        re.compile(r"No new data since \d\d:\d\d:\d\d, 1,234 records wait in Kafka")
    )


@pytest.mark.slow
def test_elasticsearch_away_is_said_and_the_page_recovers(
    open_page: OpenPage, written: Written, search: Elasticsearch
) -> None:
    written.write(20)
    seen = open_page()
    before = seen.number("train-mse")
    search.stop()
    try:
        state = seen.page.locator("#state")
        expect(state).to_have_text(
            re.compile("Elasticsearch at .* cannot be reached.*the page shows the state of"), timeout=20_000
        )
        assert seen.number("train-mse") == before
    finally:
        starting = threading.Thread(target=search.start)
        starting.start()
        starting.join()
    expect(state).to_have_text(re.compile("Live|No new data"), timeout=30_000)
    refused = [fault for fault in seen.faults if "503" in fault]  # the browser itself logs each failed request
    assert refused == seen.faults
    seen.faults.clear()


@pytest.mark.parametrize(
    ("width", "dark"), slow_except([(320, True), (1440, False)], product([320, 390, 1000, 1440, 1920], [False, True]))
)
def test_fits_the_width_and_axe_finds_nothing_serious(
    open_page: OpenPage, written: Written, width: int, dark: bool
) -> None:
    written.write(300, hours_ago(0.02), noise=5e4, faults=[("a rather long reason " * 5, "field_with_a_long_name" * 3)])
    written.write(300, noise=3)
    seen = open_page(width, dark=dark)
    seen.wait_for_charts()
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    cut = """() => [...document.querySelectorAll('.panel')].filter(p => p.scrollHeight > p.clientHeight + 2)
                                                            .map(p => p.id)"""
    assert seen.page.evaluate(cut) == []
    assert seen.number("train-mse") > 1e8
    wide = """() => [...document.querySelectorAll('.number strong')]
        .filter(e => e.getBoundingClientRect().right > e.parentElement.getBoundingClientRect().right).map(e => e.id)"""
    assert seen.page.evaluate(wide) == []
    for panel in ("train-points", "model-weights", "train-mse"):
        seen.page.locator(f"#{panel} summary").click()
    found = Axe().run(seen.page).response["violations"]
    serious = [violation for violation in found if violation["impact"] in {"serious", "critical"}]
    assert not serious, json.dumps(serious, indent=1)[:4000]


def test_colours_follow_the_system_without_a_reload(open_page: OpenPage, written: Written) -> None:
    written.write(100)
    seen = open_page()
    seen.wait_for_charts()
    seen.page.emulate_media(color_scheme="dark")
    seen.wait_for_charts()
    expect(seen.page.locator("body")).to_have_css("background-color", "rgb(16, 20, 27)")


def test_every_choice_can_be_made_by_keyboard(open_page: OpenPage, written: Written) -> None:
    written.write(10)
    seen = open_page()
    seen.page.keyboard.press("Tab")
    expect(seen.page.locator("#choose-topic")).to_be_focused()
    seen.page.keyboard.press("ArrowDown")
    expect(seen.page).to_have_url(re.compile("topic=train"))
    expect(seen.page.locator("#choose-topic")).to_be_focused()
    expect(seen.page.locator("#test-mse")).to_have_count(0)
    expect(seen.page.locator("#status")).not_to_have_attribute("data-state", "loading", timeout=NEW_DATA_MS)


def test_policy_keeps_eval_foreign_addresses_and_other_names_out(open_page: OpenPage) -> None:
    seen = open_page()
    headers = urllib3.request("GET", seen.address).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert "Access-Control-Allow-Origin" not in headers
    inline = "Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'})"
    seen.page.evaluate(f"() => document.body.append({inline})")
    seen.page.evaluate("() => fetch('http://127.0.0.1:1/').catch(() => 0)")
    assert seen.page.evaluate("() => window.ran ?? null") is None
    assert len([fault for fault in seen.faults if "Content Security Policy" in fault]) >= 2
    seen.faults.clear()  # this test caused them
    assert urllib3.request("GET", seen.address, headers={"Host": "evil.example"}).status == 400


@pytest.mark.parametrize("query", ["topic=train%22%7D", "range=now-1y", "feature=y", "feature=a&topic=spark-*"])
def test_what_is_not_offered_is_refused(open_page: OpenPage, query: str) -> None:
    address = open_page().address
    for path in ("layout", "data"):
        answer = urllib3.request("GET", f"{address}/api/{path}?{query}")
        assert (answer.status, "must be one of" in answer.data.decode()) == (400, True)
