"""The page in Chromium, as a visitor uses it; needs the extra `web`, Playwright and Chromium."""

import base64
import contextlib
import io
import os
import re
import socket
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")
playwright = pytest.importorskip("playwright.sync_api")

from nst_jax import images
from nst_jax.app import recorder
from nst_jax.app.web import command, settings
from nst_jax.app.web.security import Guard
from nst_jax.descent import Rest
from tests import browser, small

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser.chromium() is None, reason="Chromium is not installed"),
]
SECONDS = 240  # after which a test that waits fails
DESKTOP, PHONE = {"width": 1360, "height": 860}, {"width": 390, "height": 844}
WORDS_OF = settings.stylize_words
SHOTS = os.environ.get("NST_JAX_SCREENSHOTS")  # a folder, to look at the page with one's own eyes


def until(condition):
    end = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)
    return found


def shot(page, name):
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


@pytest.fixture(scope="module")
def address():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(settings, "stylize_words", lambda c: [*WORDS_OF(c), *small.SHALLOW_FLAGS])
        yield from served()


def served(port=0):
    """Yield the address of a server; it ends when the generator does."""
    listening, running = socket.create_server(("127.0.0.1", port)), []
    guard = Guard("127.0.0.1", listening.getsockname()[1])
    thread = threading.Thread(
        target=command.serve, args=(guard, listening, running.append), daemon=True
    )
    thread.start()
    until(lambda: running and running[0].started)
    yield command.address_of(guard)
    running[0].should_exit = True
    thread.join(SECONDS)
    listening.close()
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as tool:
        found = tool.chromium.launch(
            executable_path=browser.chromium(), args=["--no-sandbox", "--disable-gpu"]
        )
        yield found
        found.close()


@pytest.fixture
def visit(chromium, address):
    """Return a function that opens the page in a browser of its own."""
    with visiting(chromium, address) as opened:
        yield opened


@contextlib.contextmanager
def visiting(chromium, address):
    contexts, errors = [], []

    def opened(size=DESKTOP):
        context = chromium.new_context(viewport=size, accept_downloads=True)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        until(lambda: page.locator("#paintings [aria-pressed=true]").count())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert errors == []


def drop(page, place, path):
    """Drop a file on an element of the page, as from a window of files."""
    files = page.evaluate_handle(
        """([name, text]) => {
          const files = new DataTransfer(), bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
          files.items.add(new File([bytes], name, {type: "image/png"}));
          return files;
        }""",
        [path.name, base64.b64encode(path.read_bytes()).decode()],
    )
    page.dispatch_event(place, "drop", {"dataTransfer": files})


def small_sketch(page, steps):
    """Choose the least work: 128 px and few updates."""
    page.select_option("#size", "128")
    page.locator("#choices details summary").click()
    page.fill("#steps", str(steps))


def said(page, *words):
    """Wait until the line below the picture has one of these words; fail on an error message."""

    def found():
        assert not page.is_visible("#problem"), page.inner_text("#problem")
        return any(word in page.inner_text("#said") for word in words)

    until(found)


def shown_step(page):
    """Return after how many updates the picture is that is shown, which is the one that is named."""
    source, words = page.evaluate(
        "[document.getElementById('after').dataset.source, "
        "document.getElementById('earlier-said').textContent]"
    )
    step = int(re.search(r"/run/.*/(\d+)\.png", source)[1])
    assert re.fullmatch(rf"After {step} updates?", words), (source, words)
    return step


def test_a_visitor_uploads_masks_paints_stops_downloads_and_reloads(visit, tmp_path):
    photo = tmp_path / "my photo.png"
    images.save(photo, small.picture("chelsea", 64, 96))
    page = visit()
    small_sketch(page, 400)
    page.set_input_files("#photos input[type=file]", photo)
    until(lambda: page.locator("#photos [data-name='my_photo.png'][aria-pressed=true]").count())
    said(page, "Instant picture")
    shot(page, "1_instant")

    # Brush over a part by the mouse, and by keys.
    page.click("#parts [data-mask='mask_keep.png']")
    box = page.locator("#brush").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.3)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.5, steps=5)
    page.mouse.up()
    page.focus("#brush")
    for key in ("ArrowDown", "ArrowDown", "Space"):
        page.keyboard.press(key)
    shot(page, "2_brush")
    page.click("#brush-done")
    until(lambda: "Change" in page.inner_text("#parts [data-mask='mask_keep.png']"))

    page.click("#paint")
    until(lambda: page.is_enabled("#show-run") and "of 400 updates" in page.inner_text("#said"))
    until(lambda: shown_step(page) > 0)
    shot(page, "3_painting")
    run = page.locator("#after").get_attribute("data-source").split("/")[2]
    page.click("#pause")
    said(page, "Paused")
    page.reload()
    said(page, "Paused")
    assert page.locator("#after").get_attribute("data-source").split("/")[2] == run
    page.click("#go-on")
    until(lambda: "Paused" not in page.inner_text("#said"))
    page.click("#stop")
    said(page, "Stopped")

    command_line = until(lambda: page.text_content("#command"))
    assert command_line.startswith(
        "nst-jax stylize my_photo.png starry_night.jpg --steps 400 --size 128"
    )
    assert "--protect mask_keep.png" in command_line and "--frames frames" in command_line
    with page.expect_download() as download:
        page.click("#download")
    painted = tmp_path / "painted.png"
    download.value.save_as(painted)
    facts = images.read_metadata(painted)
    assert not facts["finished"] and facts["steps_done"] >= 1
    assert {"content", "style", "protect"} <= facts["inputs"].keys()
    with page.expect_download() as download:
        page.click("#archive")
    names = zipfile.ZipFile(download.value.path()).namelist()
    assert {"my_photo.png", "starry_night.jpg", "mask_keep.png", "command.sh"} <= set(names)

    # Back to an earlier picture, by keys; the run goes on from there.
    page.locator("#earlier").focus()
    page.keyboard.press("Home")
    assert page.inner_text("#earlier-said") == "After 0 updates"
    page.focus("#undo")
    page.keyboard.press("Enter")
    said(page, "Paused at 0 of 400")
    assert shown_step(page) == 0 and page.locator("#earlier").get_attribute("max") == "0"
    until(lambda: page.evaluate("document.activeElement.id") == "go-on")
    shot(page, "4_undone")
    page.keyboard.press("Enter")
    until(lambda: shown_step(page) > 0)
    # Another painting, with other choices, starts from a picture of this one.
    page.locator("#strength").fill("0.5")
    until(lambda: page.is_visible("#other-choices"))
    page.click("#start-from")
    until(lambda: page.inner_text("#paint") == "Paint on from here")
    until(lambda: "It starts from the picture after" in page.inner_text("#starting"))  # run ended
    until(lambda: page.evaluate("document.activeElement.id") == "paint")
    page.click("#paint")
    until(lambda: page.is_enabled("#show-run") and "of 400 updates" in page.inner_text("#said"))
    page.click("#stop")
    said(page, "Stopped")
    page.locator("#typed").evaluate("details => details.open = true")
    until(lambda: "One command is not enough" in page.inner_text("#start-note"))
    assert re.search(
        r"--frames (start_1_after_\d+)\ncp \1/step_\d+\.png \1\.png\n.*--init \1\.png",
        page.text_content("#command"),
    )
    page.locator("#compare").focus()
    page.keyboard.press("End")
    assert page.is_visible("#before")
    shot(page, "4_stopped")


def test_a_photo_with_the_name_of_a_sample_stays_beside_it(visit, tmp_path):
    photo = tmp_path / "chelsea.jpg"
    images.save(photo, small.picture("chelsea", 64, 96))
    page = visit()
    page.click("#photos [aria-label='Remove chelsea.jpg']")
    until(lambda: page.locator("#photos .add").count())
    page.set_input_files("#photos input[type=file]", photo)
    until(lambda: page.locator("#photos [data-name='chelsea.jpg'][aria-pressed=true]").count())
    page.click("#photos .add:has-text('Sample: chelsea')")
    until(lambda: page.locator("#photos [data-name='chelsea_2.jpg'][aria-pressed=true]").count())
    assert page.locator("#photos [data-name='chelsea.jpg']").count() == 1
    until(lambda: not page.locator("#photos .add:has-text('Sample: chelsea')").count())


def test_the_default_recipe_with_all_its_layers_from_upload_to_film(visit, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "stylize_words", WORDS_OF)  # all layers, unlike the other tests
    photo, painting = tmp_path / "cat.jpg", tmp_path / "night.png"
    images.save(photo, small.picture("chelsea", 96, 144))
    images.save(painting, small.picture("starry_night", 96, 120))
    page = visit()
    small_sketch(page, 6)
    page.set_input_files("#photos input[type=file]", photo)
    page.set_input_files("#paintings input[type=file]", painting)
    until(lambda: page.locator("#paintings [data-name='night.png'][aria-pressed=true]").count())
    page.click("#paint")
    said(page, "Finished: 6 updates")
    assert shown_step(page) == 6
    expected = "nst-jax stylize cat.jpg night.png --steps 6 --size 128 -o picture.png"
    until(lambda: page.text_content("#command") == expected)
    shot(page, "7_finished")
    painted, films = tmp_path / "painted.png", {}
    with page.expect_download() as download:
        page.click("#download")
    download.value.save_as(painted)
    for kind in ("gif", "webp"):
        with page.expect_download() as download:
            page.click(f"#films [data-kind={kind}]")
        assert download.value.suggested_filename == f"painting.{kind}"
        films[kind] = Image.open(io.BytesIO(Path(download.value.path()).read_bytes()))
    facts = images.read_metadata(painted)
    assert facts["finished"] and facts["steps_done"] == 6
    assert facts["recipe"] == "default"
    taps = {f"relu{number}_1" for number in range(1, 6)}
    assert taps <= facts["losses"]["style_layers"].keys()
    for film in films.values():
        assert film.n_frames >= 3 and film.size == (128, 85)
    last = images.to_uint8(images.load(painted))
    films["webp"].seek(films["webp"].n_frames - 1)
    shown = np.asarray(films["webp"].convert("RGB"), float)
    assert np.abs(shown - last).mean() < 12  # a film ends with the picture, compressed


def test_the_page_warns_of_a_painting_that_came_to_rest_far_from_its_goal(visit, monkeypatch):
    monkeypatch.setattr(recorder, "rest_of", lambda totals, scales: Rest(1, 2, 0.97))
    page = visit()
    small_sketch(page, 2)
    page.click("#paint")
    said(page, "Finished")
    words = page.inner_text("#warning")
    assert words.startswith("The loss has not changed since update 1 of 2")
    assert "so the picture is hardly painted; choose another recipe" in words
    shot(page, "8_at_rest")
    page.click("#show-instant")
    assert not page.is_visible("#warning")


def test_two_visitors_wait_for_each_other_also_on_a_phone(visit):
    first, second = visit(), visit(PHONE)
    for page in (first, second):
        small_sketch(page, 300)
    first.click("#paint")
    until(lambda: first.is_visible("#stop"))
    second.click("#paint")
    said(second, "1 painting is before yours")
    shot(second, "5_phone")
    first.click("#stop")
    said(first, "Stopped")
    until(lambda: "before yours" not in second.inner_text("#said"))
    second.click("#stop")
    said(second, "Stopped")
    width = second.evaluate_handle("document.documentElement").get_property("scrollWidth")
    assert width.json_value() <= PHONE["width"]  # nothing is wider than the screen
    for control in second.locator("input:visible, select:visible, button:visible").all():
        assert named(control), control.get_attribute("id")


def named(control):
    """Return the accessible name of a control, as a screen reader would say it."""
    found = re.match(r"""- '?\w+ "([^"]+)\"""", control.aria_snapshot())
    return found and found[1]


def test_files_are_dropped_and_paintings_mixed(visit, tmp_path):
    photo, painting = tmp_path / "my_photo.png", tmp_path / "my_painting.png"
    images.save(photo, small.picture("chelsea", 64, 96))
    images.save(painting, small.picture("gravel", 64, 64))
    page = visit()
    page.select_option("#size", "128")
    drop(page, "#frame", photo)
    until(lambda: page.locator("#photos [data-name='my_photo.png'][aria-pressed=true]").count())
    drop(page, "#paintings", painting)
    chosen = page.locator("#paintings [aria-pressed=true]")
    until(lambda: chosen.count() == 1 and chosen.get_attribute("data-name") == "my_painting.png")
    page.click("#paintings [data-name='starry_night.jpg']")
    until(lambda: page.locator("#shares input[type=range]").count() == 2)
    page.get_by_label("Share of my_painting.png").fill("1")
    expected = "my_photo.png my_painting.png:1 starry_night.jpg:0.5"
    until(lambda: expected in (page.text_content("#command") or ""))
    assert page.locator("#shares output").all_inner_texts() == ["67 %", "33 %"]
    drop(page, "#photos", Path(__file__))  # no picture
    until(lambda: page.is_visible("#problem"))
    assert "test_web_browser" in page.inner_text("#problem")


def test_a_part_that_is_brushed_gets_another_style(visit, tmp_path):
    painting = tmp_path / "my_painting.png"
    images.save(painting, small.picture("gravel", 64, 64))
    page = visit()
    small_sketch(page, 4)
    page.set_input_files("#paintings input[type=file]", painting)
    until(
        lambda: page.locator("#paintings [data-name='my_painting.png'][aria-pressed=true]").count()
    )
    page.click("#more-parts")
    page.locator("#brush-size").fill("200")
    box = page.locator("#brush").bounding_box()
    for height in (0.2, 0.5, 0.8):  # over the left half
        page.mouse.move(box["x"] + box["width"] * 0.1, box["y"] + box["height"] * height)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * height, steps=4)
        page.mouse.up()
    page.click("#brush-undo")
    page.click("#brush-done")
    part = page.locator("#parts [data-mask='mask_1.png']")
    until(lambda: part.inner_text() == "Change")
    assert page.get_by_label("Style of part 1").input_value() == "starry_night.jpg"
    page.click("#paint")
    said(page, "Finished: 4 updates")
    until(lambda: "--region mask_1.png:starry_night.jpg" in (page.text_content("#command") or ""))
    shot(page, "8_part")
    with page.expect_download() as download:
        page.click("#archive")
    with zipfile.ZipFile(download.value.path()) as archive:
        mask = np.asarray(Image.open(io.BytesIO(archive.read("mask_1.png"))).convert("L"))
    height, width = mask.shape
    assert mask[height // 5, width // 4] == mask[height // 2, width // 4] == 255
    assert mask[height * 4 // 5, width // 4] < 128  # the last stroke was undone
    assert mask[:, width * 3 // 4 :].max() == 0


def part_button(name):
    return f"#parts [data-mask='mask_{name}.png']"


def brush_a_dot(page, control):
    """Press a control that begins brushing, brush a dot by keys, and end brushing."""
    page.click(control)
    page.focus("#brush")
    page.keyboard.press("Space")
    page.click("#brush-done")


def hold(page, pattern):
    """Let requests of these addresses wait; return them, and a function that sends them on."""
    held = []
    page.route(pattern, lambda route: held.append(route))

    def go_on():
        for route in held:
            route.continue_()
        page.unroute(pattern)

    return held, go_on


BRUSHED = """() => {
  const canvas = document.getElementById("brush"), pen = canvas.getContext("2d");
  const {data} = pen.getImageData(0, 0, canvas.width, canvas.height);
  return data.filter((value, at) => at % 4 === 3 && value > 128).length;
}"""  # number of pixels of the mask


def test_a_second_press_while_a_mask_is_loaded_deletes_no_mask(visit):
    page, keep, deleted = visit(), part_button("keep"), []
    page.on("request", lambda one: one.method == "DELETE" and deleted.append(one.url))
    page.select_option("#size", "128")
    brush_a_dot(page, keep)
    until(lambda: page.inner_text(keep) == "Change")
    brushed = page.evaluate(BRUSHED)
    assert brushed > 100
    held, go_on = hold(page, "**/pictures/mask_keep.png*")
    page.click(keep)
    until(lambda: page.wait_for_timeout(50) or held)
    page.click(keep)
    page.wait_for_timeout(300)
    page.click("#more-parts")  # the latest press counts
    page.wait_for_timeout(300)
    go_on()
    page.wait_for_timeout(700)
    assert page.inner_text("#brush-what") == "Brush over the part"
    assert page.evaluate(BRUSHED) == 0
    page.click("#brush-done")
    until(lambda: not page.is_visible("#brushing"))
    assert page.inner_text(keep) == "Change" and not deleted
    page.click(keep)
    until(lambda: page.is_visible("#brushing"))
    assert page.evaluate(BRUSHED) == brushed


def test_what_happens_in_another_tab_deletes_no_mask(visit, tmp_path):
    images.save(tmp_path / "my_photo.png", small.picture("chelsea", 64, 96))
    page, keep, deleted = visit(), part_button("keep"), []
    page.select_option("#size", "128")
    brush_a_dot(page, keep)
    until(lambda: "--protect mask_keep.png" in (page.text_content("#command") or ""))
    other = page.context.new_page()
    for tab in (page, other):
        tab.on("request", lambda one: one.method == "DELETE" and deleted.append(one.url))
    other.goto(page.url)
    until(lambda: other.inner_text(keep) == "Change")  # both show the same photo
    other.set_input_files("#photos input[type=file]", tmp_path / "my_photo.png")
    mine = "#photos [data-name='my_photo.png']"
    until(lambda: other.locator(f"{mine}[aria-pressed=true]").count())
    assert other.inner_text(keep) == "Brush"
    page.click("#photos [aria-label='Remove my_photo.png']")
    chelsea = "#photos [data-name='chelsea.jpg'][aria-pressed=true]"
    until(lambda: other.locator(chelsea).count())
    for tab in (page, other):
        tab.wait_for_timeout(300)
        assert tab.inner_text(keep) == "Change"
    assert [url.rpartition("/")[2] for url in deleted] == ["my_photo.png"]

    # Without its storage, a reloaded page begins without choices.
    page.add_init_script("Storage.prototype.getItem = () => null")
    page.reload()
    until(lambda: page.locator(chelsea).count())
    until(lambda: "--protect mask_keep.png" in (page.text_content("#command") or ""))
    assert len(deleted) == 1


def test_masks_come_back_with_their_photo(visit, tmp_path):
    images.save(tmp_path / "my_photo.png", small.picture("chelsea", 64, 96))
    page, keep = visit(), part_button("keep")
    page.select_option("#size", "128")
    page.click(keep)
    page.focus("#brush")
    page.keyboard.press("Space")  # the mask would be sent half a second later
    page.set_input_files("#photos input[type=file]", tmp_path / "my_photo.png")
    until(lambda: "instant my_photo.png" in (page.text_content("#command") or ""))
    assert "--protect" not in page.text_content("#command") and page.inner_text(keep) == "Brush"
    page.click("#photos [data-name='chelsea.jpg']")
    until(lambda: "instant chelsea.jpg" in (page.text_content("#command") or ""))
    assert "--protect mask_keep.png" in page.text_content("#command")
    page.click("#photos [data-name='my_photo.png']")
    brush_a_dot(page, keep)  # this takes the place of the mask over the other photo
    mine = r"instant my_photo\.png .* --protect mask_keep\.png"
    until(lambda: re.search(mine, page.text_content("#command") or ""))
    page.click("#photos [data-name='chelsea.jpg']")
    until(lambda: "instant chelsea.jpg" in (page.text_content("#command") or ""))
    assert "--protect" not in page.text_content("#command") and page.inner_text(keep) == "Brush"


def test_the_instant_picture_has_the_kept_part_when_another_part_is_brushed_next(visit):
    page = visit()
    page.select_option("#size", "128")
    page.click(part_button("keep"))
    page.focus("#brush")
    page.keyboard.press("Space")
    page.click("#more-parts")  # without Done
    until(lambda: page.inner_text("#brush-what") == "Brush over the part")
    page.click("#brush-done")
    until(lambda: "--protect mask_keep.png" in (page.text_content("#command") or ""))
    assert "--region" not in page.text_content("#command")  # nothing was brushed for the other part


def test_masks_and_the_brush_go_with_their_photo(visit, tmp_path):
    images.save(tmp_path / "my_photo.png", small.picture("chelsea", 64, 96))
    page, keep = visit(), part_button("keep")
    page.select_option("#size", "128")
    page.set_input_files("#photos input[type=file]", tmp_path / "my_photo.png")
    until(lambda: page.locator("#photos [data-name='my_photo.png'][aria-pressed=true]").count())
    brush_a_dot(page, keep)
    until(lambda: "--protect mask_keep.png" in (page.text_content("#command") or ""))
    page.focus("#photos [aria-label='Remove my_photo.png']")
    page.keyboard.press("Enter")
    until(lambda: page.evaluate("document.activeElement.dataset.name") == "chelsea.jpg")
    until(lambda: "instant chelsea.jpg" in (page.text_content("#command") or ""))
    assert "--protect" not in page.text_content("#command")
    assert page.inner_text(keep) == "Brush"

    page.set_input_files("#photos input[type=file]", tmp_path / "my_photo.png")
    until(lambda: page.locator("#photos [data-name='my_photo.png'][aria-pressed=true]").count())
    page.click(keep)
    page.focus("#brush")
    page.keyboard.press("Space")  # the mask would be sent half a second later
    page.click("#photos [data-name='chelsea.jpg']")
    assert not page.is_visible("#brushing")
    page.wait_for_timeout(1000)
    assert page.inner_text(keep) == "Brush"


def test_a_part_whose_painting_is_removed_gets_another_one(visit, tmp_path):
    images.save(tmp_path / "my_painting.png", small.picture("gravel", 64, 64))
    page, select = visit(), "[aria-label='Style of part 1']"
    page.select_option("#size", "128")
    page.set_input_files("#paintings input[type=file]", tmp_path / "my_painting.png")
    until(lambda: page.locator("#paintings [data-name='my_painting.png']").count())
    brush_a_dot(page, "#more-parts")
    until(lambda: page.inner_text(part_button("1")) == "Change")
    assert page.input_value(select) == "starry_night.jpg"
    page.click("#paintings [aria-label='Remove starry_night.jpg']")
    until(lambda: page.input_value(select) == "my_painting.png")


def test_a_refused_file_keeps_its_message_and_the_other_files_are_added(visit, tmp_path):
    names = ["first.png", "broken.png", "last.png"]
    for name in names:
        images.save(tmp_path / name, small.picture("gravel", 64, 64))
    (tmp_path / "broken.png").write_text("no picture")
    clear = Image.new("RGBA", (64, 48), (200, 100, 0, 100))
    clear.save(tmp_path / "clear.png")
    page = visit()
    page.select_option("#size", "128")
    page.set_input_files("#photos input[type=file]", tmp_path / "clear.png")
    until(lambda: "clear.png" in page.inner_text("#photo-notes"))
    assert "transparent parts read as white" in page.inner_text("#photo-notes")
    page.set_input_files("#paintings input[type=file]", [tmp_path / name for name in names])
    both = "instant clear.png first.png:0.5 last.png:0.5"
    until(lambda: both in (page.text_content("#command") or ""))
    assert "broken.png" in page.inner_text("#problem")
    assert page.locator("#paintings [data-name='first.png']").count() == 1
    assert page.input_value("#paintings input[type=file]") == ""
    page.click("#paintings [data-name='first.png']")  # what the visitor does clears the message
    assert not page.is_visible("#problem")


def test_paintings_added_together_are_all_chosen_as_many_as_can_be_mixed(visit, tmp_path):
    names = [f"{number}.png" for number in range(5)]
    for name in names:
        images.save(tmp_path / name, small.picture("gravel", 32, 32))
    page = visit()
    page.select_option("#size", "128")
    page.set_input_files("#paintings input[type=file]", [tmp_path / name for name in names])
    until(lambda: page.locator("#paintings [data-name='4.png']").count())
    assert chosen_paintings(page) == names[:4]
    page.set_input_files("#paintings input[type=file]", tmp_path / "0.png")
    until(lambda: chosen_paintings(page) == ["0_2.png"])  # one that is added alone is chosen alone


def chosen_paintings(page):
    """Return the names of the chosen paintings."""
    names = "tiles => tiles.map(tile => tile.dataset.name)"
    return page.eval_on_selector_all("#paintings [aria-pressed=true]", names)


def test_the_number_of_updates_is_a_whole_number(visit):
    page, asked = visit(), []
    page.on("request", lambda request: asked.append(request.url))
    small_sketch(page, "5.5")
    expected = "Updates: enter a whole number from 1 to 10000, not 5.5, or leave it empty."
    page.press("#steps", "Tab")
    until(lambda: page.inner_text("#problem") == expected)
    page.click("#paint")
    assert page.inner_text("#problem") == expected and not any("/run" in url for url in asked)
    page.fill("#steps", "5")
    page.click("#paint")
    said(page, "Finished: 5 updates")


def test_one_press_paints_once_and_the_command_is_copied_without_a_clipboard(visit):
    page, asked = visit(), []
    page.on("request", lambda request: asked.append(request.url))
    small_sketch(page, 2)
    page.evaluate("paint => { paint.onclick(); paint.onclick(); }", page.query_selector("#paint"))
    said(page, "Finished")
    assert sum(url.endswith("/run") for url in asked) == 1
    until(lambda: "stylize" in (page.text_content("#command") or ""))
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.click("#typed summary")
    page.click("#copy")
    until(lambda: page.evaluate("getSelection().toString()") == page.text_content("#command"))
    assert not page.is_visible("#problem")


# Keep the stream of events and the newest one, so that a test can send the page another state.
LISTENING = """
window.EventSource = class extends EventSource {
  constructor(...given) {
    super(...given);
    window.stream = this;
    this.addEventListener("message", event => { window.newest = JSON.parse(event.data); });
  }
};"""
TELL = """pictures => stream.onmessage({data: JSON.stringify({...newest, run: {
  id: "run_9", state: "painting", place: 0, why: "", notes: [], warning: "", keep: false, stage: "",
  step: pictures.at(-1), total: 90, loss: null, shares: {}, left: "", command: "", pictures}})})"""


def test_the_chosen_earlier_picture_stays_when_the_server_deletes_others(visit):
    page = visit()
    page.add_init_script(LISTENING)
    page.reload()
    said(page, "Instant picture")
    page.evaluate(TELL, [0, 10, 20])
    page.click("#show-run")
    page.evaluate(TELL, [0, 10, 20, 30])
    assert shown_step(page) == 30  # it follows the newest
    page.locator("#earlier").fill("2")
    page.evaluate(TELL, [0, 10, 20, 30, 40])
    assert shown_step(page) == 20
    page.evaluate(TELL, [0, 20, 40])
    assert shown_step(page) == 20 and page.is_visible("#undo")
    page.evaluate(TELL, [0, 40, 50])
    assert shown_step(page) == 0  # the chosen one is gone, and this one was before it


def test_a_stroke_belongs_to_one_finger_and_to_the_first_button(visit):
    page = visit()
    page.click(part_button("keep"))
    page.locator("#brush-size").fill("8")
    painted = page.evaluate(
        """() => {
          const canvas = document.getElementById("brush"), box = canvas.getBoundingClientRect();
          canvas.setPointerCapture = () => {}; // browsers refuse it for pointers of scripts
          const send = (kind, pointerId, x, button = 0) => canvas.dispatchEvent(new PointerEvent(kind, {
            pointerId, button, clientX: box.left + x * box.width, clientY: box.top + box.height / 2}));
          send("pointerdown", 1, 0.2);
          send("pointerdown", 2, 0.8);
          send("pointermove", 1, 0.3);
          send("pointermove", 2, 0.7);
          send("pointerup", 2, 0.7);
          send("pointermove", 1, 0.4);
          send("pointerup", 1, 0.4);
          send("pointerdown", 1, 0.9, 2);
          const pen = canvas.getContext("2d"), y = Math.round(canvas.height / 2);
          return [0.2, 0.35, 0.5, 0.7, 0.8, 0.9].map(
            x => pen.getImageData(Math.round(x * canvas.width), y, 1, 1).data[3] > 128);
        }"""
    )
    assert painted == [True, True, False, False, False, False]


# All that can have the focus and can be seen.
FOCUSABLE = """() => [
  ...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")
].filter(one => !one.disabled && one.checkVisibility())"""


def test_every_control_is_reached_by_keys_and_shows_the_focus(visit):
    page = visit()
    said(page, "Instant picture")
    for summary in page.locator("summary").all():
        summary.click()
    page.evaluate(f"window.wanted = ({FOCUSABLE})()")
    count = page.evaluate("wanted.length")
    assert count > 20
    page.evaluate("document.activeElement.blur()")
    reached, unseen = set(), []
    for _ in range(count + 3):
        page.keyboard.press("Tab")
        number, name, outline = page.evaluate(
            """() => {
              const one = document.activeElement, tile = one.closest(".tile") ?? one;
              const styles = [one, tile].map(each => getComputedStyle(each));
              const seen = style => style.outlineStyle !== "none" && style.outlineWidth !== "0px";
              return [wanted.indexOf(one), one.id || one.textContent.trim(), styles.some(seen)];
            }"""
        )
        reached.add(number)
        if number >= 0 and not outline:
            unseen.append(name)
    assert reached >= set(range(count)), page.evaluate(
        "missed => missed.map(one => wanted[one].outerHTML.slice(0, 80))",
        sorted(set(range(count)) - reached),
    )
    assert not unseen
    for control in page.locator("input:visible, select:visible, button:visible").all():
        assert named(control), control.get_attribute("id")


def test_the_gallery_shows_the_photo_in_all_styles_and_mixes_some(visit):
    page = visit()
    page.select_option("#size", "128")
    page.click("#of-gallery")
    until(lambda: page.locator("#gallery .tile").count() == 26)
    until(lambda: page.locator("#gallery .tile").last.get_attribute("style"))
    page.click("#gallery [data-name='mosaic']")
    until(lambda: "mosaic" in (page.text_content("#command") or ""))
    assert page.locator("#shares input[type=range]").count() == 2
    assert page.is_disabled("#paint")
    shot(page, "6_gallery")


def test_a_page_says_that_the_server_is_gone_and_that_it_was_started_again(chromium):
    serving = contextlib.contextmanager(served)
    with contextlib.ExitStack() as stack:
        with serving() as address:
            page = stack.enter_context(visiting(chromium, address))()
        until(lambda: "connection to nst-jax is lost" in page.inner_text("#problem"))
        port = int(address.rpartition(":")[2].strip("/"))
        stack.enter_context(serving(port))
        until(lambda: "was started again" in page.inner_text("#problem"))
        page.reload()
        until(lambda: page.locator("#paintings [aria-pressed=true]").count())
        said(page, "Instant picture")
        assert page.inner_text("#problem") == ""


def test_the_picture_of_the_documents_is_small():
    assert (Path(__file__).parents[1] / "docs" / "web.jpg").stat().st_size < 150_000
