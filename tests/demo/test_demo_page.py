"""The page in a real browser: user actions and their visible results."""

import base64
import re
from io import BytesIO

import numpy as np
import pytest
import torch
from imports import ROOT
from PIL import Image, ImageSequence

from fourdistill.inference.pipeline import FourDistillPipeline

PICTURE = "figure.drawn:visible > img"
STEPS = 2


@pytest.fixture
def page(browser, served):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page, asked = context.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    open_page(page, served)
    yield page
    context.close()
    assert [url for url in asked if not url.startswith((served.address, "data:", "blob:"))] == []


@pytest.fixture(scope="module")
def pipe():
    pipe = FourDistillPipeline.from_pretrained(ROOT / "data/base/mini", adapter=ROOT / "models/mini-adapter")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def open_page(page, served):
    page.goto(served.address)
    page.wait_for_selector(PICTURE)  # it opens with a drawing of the first example


def example(name):
    return Image.open(ROOT / "examples" / f"{name}.png").convert("RGB")


def drawn_by(pipe, name, **command):
    """The pipeline's image from an example, as an array."""
    given = {"time": 0.0, "azimuth": 0.0, "elevation": 0.0, "radius": 1.0, "num_inference_steps": STEPS, **command}
    image = pipe(example(name), generator=torch.Generator().manual_seed(0), **given).images[0]
    return np.asarray(image)


def shown(page):
    """The displayed picture, as an array."""
    url = page.locator(PICTURE).get_attribute("src")
    return np.asarray(Image.open(BytesIO(base64.b64decode(url.split(",", 1)[1]))).convert("RGB"))


def wait_until_shown(page, expected):
    """Wait up to half a minute for exactly these pixels."""
    for _ in range(150):
        if np.array_equal(shown(page), expected):
            return
        page.wait_for_timeout(200)
    raise AssertionError("the page never showed what the pipeline draws")


def set_number(page, label, value):
    field = page.get_by_label(f"number input for {label}", exact=True)
    field.fill(str(value))
    field.press("Enter")


def upload(page, file):
    page.locator("input[type=file]").set_input_files(file)


def test_upload_and_sliders_draw_what_the_pipeline_draws(page, pipe):
    upload(page, ROOT / "examples/walk.png")
    wait_until_shown(page, drawn_by(pipe, "walk"))
    slider = page.get_by_role("slider", name="range slider for Azimuth, degrees")
    slider.press("ArrowRight")
    wait_until_shown(page, drawn_by(pipe, "walk", azimuth=1.0))
    page.get_by_role(
        "img", name="camera 1° to the right", exact=True
    ).wait_for()  # the drawing of the camera has its own event
    set_number(page, "Time", 0.25)
    wait_until_shown(page, drawn_by(pipe, "walk", azimuth=1.0, time=0.25))


def test_every_setting_reaches_the_pipeline(page, pipe):
    page.get_by_role("button", name="How it is drawn").click()
    page.get_by_label("camera", exact=True).uncheck()
    page.get_by_role("textbox", name="Prompt").fill("a man in a red top")
    strength = "As in the picture … as in the prompt"
    values = {strength: 0.4, "Guidance": 2.0, "Steps": 3}
    for label, value in values.items():
        set_number(page, label, value)
    command = {"prompt_strength": 0.4, "guidance_scale": 2.0, "num_inference_steps": 3}
    command |= {"azimuth": None, "elevation": None, "radius": None, "prompt": "a man in a red top"}
    page.get_by_role("button", name="Draw", exact=True).click()
    wait_until_shown(page, drawn_by(pipe, "backflip", **command))


def test_orbit_is_saved_as_a_gif(page):
    page.get_by_role("tab", name="Orbit").click()
    set_number(page, "Frames", 3)
    page.locator("button.primary:visible").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Save GIF").click()
    assert download.value.suggested_filename == "orbit.gif"
    with Image.open(download.value.path()) as gif:
        assert gif.format == "GIF" and len(list(ImageSequence.Iterator(gif))) == 3 and gif.size == (128, 128)


def test_grid_has_a_picture_a_cell(page):
    page.get_by_role("tab", name="Grid").click()
    set_number(page, "Rows", 2)
    page.locator("button.primary:visible").click()
    page.wait_for_selector("td img")
    names = [image.get_attribute("alt") for image in page.locator("td img").all()]
    assert names == [
        f"{where}, {when}" for where in ("-90°", "90°") for when in ("0.30 earlier", "same instant", "0.30 later")
    ]


@pytest.mark.parametrize("kind", ["text", "text as png", "too many pixels"])
def test_what_is_no_picture_is_refused(page, tmp_path, kind):
    file = tmp_path / ("notes.txt" if kind == "text" else "notes.png")
    if kind == "too many pixels":
        Image.new("1", (9000, 9000)).save(file)
    else:
        file.write_text("no picture at all")
    upload(page, file)
    said = {
        "text": "Invalid file type",
        "text as png": "notes.png: expected a whole picture",
        "too many pixels": "64 megapixels",
    }[kind]
    page.get_by_text(re.compile(said)).wait_for()


def draw_for_minutes(page):
    """Start a very long drawing."""
    page.get_by_role("tab", name="Time sweep").click()
    page.get_by_role("button", name="How it is drawn").click()
    page.get_by_label("Draw the picture whenever something is moved").uncheck()
    set_number(page, "Frames", 32)
    set_number(page, "Steps", 100)
    page.locator("button.primary:visible").click()
    page.get_by_text(re.compile(r"Drawing - \d")).wait_for()


def test_a_drawing_can_be_stopped(page):
    draw_for_minutes(page)
    page.locator("button:visible", has_text="Stop").click()
    set_number(page, "Frames", 2)
    set_number(page, "Steps", 2)
    page.locator("button.primary:visible").click()
    page.get_by_role("link", name="Save GIF").wait_for()  # long before the first drawing could end


def test_leaving_the_page_ends_its_drawing(browser, served, page):
    draw_for_minutes(page)
    page.goto("about:blank")
    other = browser.new_context().new_page()
    open_page(other, served)  # draws its picture immediately
    other.context.close()


def test_two_people_at_once(browser, page, served, pipe):
    other = browser.new_context().new_page()
    open_page(other, served)
    for each, name in ((page, "walk"), (other, "spin")):
        each.get_by_role("button", name=name).click()
    wait_until_shown(page, drawn_by(pipe, "walk"))
    wait_until_shown(other, drawn_by(pipe, "spin"))
    for each, azimuth in ((page, 30), (other, -60)):
        set_number(each, "Azimuth, degrees", azimuth)
    wait_until_shown(other, drawn_by(pipe, "spin", azimuth=-60.0))
    wait_until_shown(page, drawn_by(pipe, "walk", azimuth=30.0))
    other.context.close()


def test_a_phone_shows_all_and_a_keyboard_reaches_all(browser, served):
    context = browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    page = context.new_page()
    open_page(page, served)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.ariaLabel || document.activeElement.innerText || ''"))
    order = ["Upload file", "backflip", "Picture", "Draw", "Stop", "range slider for Time", "range slider for Radius"]
    places = [next(i for i, name in enumerate(reached) if name.strip() == wanted) for wanted in order]
    assert places == sorted(places), reached
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input, a')].filter(e => e.checkVisibility()"
        " && !(e.ariaLabel || e.innerText.trim() || e.labels?.length)).map(e => e.outerHTML)"
    )
    assert nameless == []
    context.close()
