"""The page of an evaluation in a browser: values to point at, series to hide, and nothing fetched."""

import shutil

import pytest

from fourdistill.evaluation.report.page import write_page

CONTROL = """kind,scene,new_scene,commanded_frames,obtained_frames,commanded_azimuth_deg,obtained_azimuth_deg,\
source_azimuth_deg,source_camera,target_camera,found_camera,source_frame,target_frame,found_frame
time,walk,True,-4.0,-4.0,0.0,0.0,10.0,a,a,a,4,0,0
time,walk,True,4.0,3.0,0.0,0.0,10.0,a,a,a,4,8,7
joint,walk,False,4.0,4.0,90.0,90.0,10.0,a,b,b,4,8,8
"""
EDITS = """setting,lambda,text_guidance,clip_t,clip_t_low,clip_t_high,clip_i,clip_i_low,clip_i_high
as pictured,3.0,1.0,0.2,0.1,0.3,0.7,0.6,0.8
as in the prompt,2.0,6.0,0.4,0.3,0.5,0.35,0.2,0.5
lambda 0,0.0,6.0,0.6,0.5,0.7,0.1,0.0,0.2
"""


@pytest.fixture(scope="module")
def browser():
    """Chromium; skips without it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A page without pictures."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "plots").mkdir()
    (folder / "plots" / "control.csv").write_text(CONTROL)
    (folder / "plots" / "editability.csv").write_text(EDITS)
    figures = {"known_scene.time.mae_frames": 0.0, "time.mae_frames": 0.5}
    write_page(folder / "index.html", figures, folder, folder / "plots", "3 commands")
    return folder / "index.html"


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_its_window_fetches_nothing_and_fails_at_nothing(browser, file, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    fetched, failed = [], []
    page.on("request", lambda request: fetched.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto(file.as_uri())
    assert page.locator("svg.chart").count() == 4  # time, azimuth, the grid, the trade-off
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (fetched, failed) == ([file.as_uri()], [])
    page.close()


def test_a_point_tells_its_value_and_the_legend_hides_its_series(browser, file):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(file.as_uri())
    chart, tip = page.locator("svg.chart").last, page.locator("#tip")
    assert not tip.is_visible()
    chart.scroll_into_view_if_needed()
    point = chart.locator(".series .point").first

    def point_at(locator):
        box = locator.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2 + 5, box["y"] + box["height"] / 2 + 5)  # beside it is enough

    point_at(point)
    assert tip.inner_text().splitlines()[:2] == [
        "as pictured: λ 3, text guidance 1",
        "to the prompt: 0.20 (0.10 to 0.30)",
    ]
    box = tip.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    entry, name = chart.locator(".entry").first, chart.get_by_text("as pictured", exact=True)
    assert name.is_visible()
    entry.click()
    assert not point.is_visible() and not name.is_visible() and entry.get_attribute("aria-pressed") == "false"
    page.mouse.move(0, 0)
    assert not tip.is_visible()
    entry.press("Enter")
    assert point.is_visible() and name.is_visible() and entry.get_attribute("aria-pressed") == "true"
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_the_ground(browser, file, scheme):
    page = browser.new_page(color_scheme=scheme)
    page.goto(file.as_uri())
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    inks = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.querySelector('.chart text')).fill,"
        " ...[...document.querySelectorAll('.series .point path')].map((mark) => getComputedStyle(mark).stroke)]"
    )
    for ink in set(inks):
        assert contrast(ink, ground) >= 3, (ink, ground)
    page.close()


def contrast(one, other):
    """WCAG's contrast ratio of two colours as `rgb(...)`."""
    lights = []
    for colour in (one, other):
        shares = [int(part) / 255 for part in colour[4:-1].split(",")]
        linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
        lights.append(0.05 + sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True)))
    return max(lights) / min(lights)
