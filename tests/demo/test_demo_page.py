"""The page in a real browser: user actions and their visible results."""

import base64
import re
from io import BytesIO

import av
import numpy as np
import pytest
import torch
from imports import ROOT
from PIL import Image, ImageSequence

from fourdistill.inference.pipeline import FourDistillPipeline

PICTURE = "figure.drawn .stage img"
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


def dial_of(page):
    return page.get_by_role("slider", name="Camera around the subject")


def unfold(page, name):
    page.get_by_role("button", name=name).click()


def make_film(page, path, **numbers):
    """Choose a path, set its numbers, and start it."""
    page.get_by_label(path, exact=True).check()
    for label, value in numbers.items():
        set_number(page, label, value)
    page.get_by_role("button", name="Make the film").click()


def upload(page, file):
    page.locator("input[type=file]").set_input_files(file)


def test_upload_and_controls_draw_what_the_pipeline_draws(page, pipe):
    upload(page, ROOT / "examples/dance.png")
    wait_until_shown(page, drawn_by(pipe, "dance"))
    dial_of(page).press("ArrowRight")
    wait_until_shown(page, drawn_by(pipe, "dance", azimuth=5.0))
    set_number(page, "Time", 0.25)
    wait_until_shown(page, drawn_by(pipe, "dance", azimuth=5.0, time=0.25))
    page.get_by_text("0.25 later, camera 5° to the right").wait_for()


def test_a_picture_can_be_dropped_on_the_canvas(page, pipe):
    content = base64.b64encode((ROOT / "examples/dance.png").read_bytes()).decode()
    page.evaluate(
        """content => {
            const bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0)), given = new DataTransfer();
            given.items.add(new File([bytes], "dance.png", {type: "image/png"}));
            const stage = document.querySelector(".canvas .stage");
            stage.dispatchEvent(new DragEvent("drop", {dataTransfer: given, bubbles: true, cancelable: true}));
        }""",
        content,
    )
    wait_until_shown(page, drawn_by(pipe, "dance"))


def test_the_camera_is_dragged_around_the_subject(page, pipe):
    box = dial_of(page).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y + 60)
    page.mouse.down()
    page.mouse.move(x + 60, y, steps=4)
    page.mouse.up()
    assert dial_of(page).get_attribute("aria-valuetext") == "90° to the right"
    wait_until_shown(page, drawn_by(pipe, "walk", azimuth=90.0))


def test_a_preview_is_refined(page, pipe):
    unfold(page, "Elevation, radius, steps, seed")
    remark = "preview, 4 of 12 steps"  # shown for half a second, so watched for in the page
    page.evaluate(
        """remark => new MutationObserver(() => { window.previewed ||= document.body.innerText.includes(remark); })
            .observe(document.body, {subtree: true, childList: true, characterData: true})""",
        remark,
    )
    set_number(page, "Steps", 12)
    page.wait_for_function("window.previewed")
    wait_until_shown(page, drawn_by(pipe, "walk", num_inference_steps=12))
    page.get_by_role("link", name="Save PNG").wait_for()


def test_every_setting_reaches_the_pipeline(page, pipe):
    unfold(page, "Elevation, radius, steps, seed")
    page.get_by_label("camera", exact=True).uncheck()
    strength = "As in the picture … as in the prompt"
    for label, value in {strength: 0.4, "Guidance": 2.0, "Noise": 0.5, "Steps": 3}.items():
        set_number(page, label, value)
    page.get_by_role("textbox", name="Prompt").fill("a man in a red top")
    command = {"prompt_strength": 0.4, "guidance_scale": 2.0, "noise_scale": 0.5, "num_inference_steps": 3}
    command |= {"azimuth": None, "elevation": None, "radius": None, "prompt": "a man in a red top"}
    wait_until_shown(page, drawn_by(pipe, "walk", **command))


def test_a_prompt_can_be_pasted_and_deleted(page, pipe):
    prompt = page.get_by_role("textbox", name="Prompt")
    prompt.fill("a man in a red top")  # at once, as by pasting: no letter is typed
    wait_until_shown(page, drawn_by(pipe, "walk", prompt="a man in a red top"))
    prompt.press("Control+a")
    prompt.press("Delete")
    wait_until_shown(page, drawn_by(pipe, "walk"))


def test_a_film_is_played_and_saved(page):
    unfold(page, "Range and frames of the film")
    make_film(page, "Orbit", Frames=3)
    page.wait_for_selector(".strip button >> nth=2")
    page.get_by_role("button", name="Pause").click()
    page.locator(".strip button").nth(1).click()
    assert page.locator(PICTURE).get_attribute("src") == page.locator(".strip img").nth(1).get_attribute("src")
    files = {}
    for kind in ("GIF", "MP4"):
        with page.expect_download() as download:
            page.get_by_role("link", name=f"Save {kind}").click()
        files[download.value.suggested_filename] = download.value.path()
    assert set(files) == {"orbit.gif", "orbit.mp4"}
    with Image.open(files["orbit.gif"]) as gif:
        assert gif.format == "GIF" and len(list(ImageSequence.Iterator(gif))) == 3 and gif.size == (128, 128)
    with av.open(str(files["orbit.mp4"]), mode="r") as video:
        assert [frame.width for frame in video.decode(video=0)] == [128] * 3


def test_a_grid_has_a_row_a_camera(page):
    unfold(page, "Range and frames of the film")
    make_film(page, "Grid", Cameras=2, Instants=2)
    page.wait_for_selector(".strip .row >> nth=1")
    names = [image.get_attribute("alt") for image in page.locator(".strip img").all()]
    cameras, times = ("camera where it was", "camera 180° to the left"), ("0.50 earlier", "0.50 later")
    assert names == [f"{time}, {camera}" for camera in cameras for time in times]


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
    """Start a very long film."""
    unfold(page, "Range and frames of the film")
    unfold(page, "Elevation, radius, steps, seed")
    set_number(page, "Steps", 100)
    make_film(page, "Time sweep", Frames=32)
    page.get_by_text(re.compile(r"Drawing - \d")).first.wait_for()


def test_a_drawing_can_be_stopped(page):
    draw_for_minutes(page)
    page.get_by_role("button", name="Stop").click()
    set_number(page, "Steps", 2)
    make_film(page, "Time sweep", Frames=2)
    page.get_by_role("link", name="Save GIF").wait_for()  # long before the first film could end


def test_leaving_the_page_ends_its_drawing(browser, served, page):
    draw_for_minutes(page)
    page.goto("about:blank")
    other = browser.new_context().new_page()
    open_page(other, served)  # draws its picture immediately
    other.context.close()


def test_two_people_at_once(browser, page, served, pipe):
    other = browser.new_context().new_page()
    open_page(other, served)
    for each, name in ((page, "dance"), (other, "spin")):
        each.get_by_role("button", name=name).click()
    wait_until_shown(page, drawn_by(pipe, "dance"))
    wait_until_shown(other, drawn_by(pipe, "spin"))
    for each, key in ((page, "PageUp"), (other, "PageDown")):
        dial_of(each).press(key)
    wait_until_shown(other, drawn_by(pipe, "spin", azimuth=-45.0))
    wait_until_shown(page, drawn_by(pipe, "dance", azimuth=45.0))
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
    order = ["Upload file", "backflip", "Camera around the subject", "range slider for Time", "Make the film", "Stop"]
    places = [next(i for i, name in enumerate(reached) if name.strip() == wanted) for wanted in order]
    assert places == sorted(places), reached
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input, a')].filter(e => e.checkVisibility()"
        " && !(e.ariaLabel || e.innerText.trim() || e.labels?.length)).map(e => e.outerHTML)"
    )
    assert nameless == []
    context.close()
