"""The page in a real browser: labels are typed, masks appear, and everything works from the keyboard.

It runs where playwright and a Chromium are installed (Debian's package is chromium). SYNSEG_SCREENSHOTS names a folder
that keeps the screenshots.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="needs the extra live")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")

from synseg_model.io.image_file import read_image

ROOT = Path(__file__).resolve().parents[3]
PHOTOGRAPHS = ROOT / "synseg_ros" / "player" / "photographs"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 60_000  # milliseconds

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")

# The image on the page in 32x24 pixels, RGBA.
THUMBNAIL = """() => {
  const small = new OffscreenCanvas(32, 24).getContext("2d");
  small.drawImage(document.getElementById("image"), 0, 0, 32, 24);
  return Array.from(small.getImageData(0, 0, 32, 24).data);
}"""


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        # Its sandbox needs privileges that containers do not have; the page is our own.
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Run `synseg live` with the model that ships, on a video of a photograph of a cat."""
    folder = tmp_path_factory.mktemp("video")
    photograph = cv2.resize(read_image(PHOTOGRAPHS / "cat.jpg"), (640, 480), interpolation=cv2.INTER_AREA)
    writer = cv2.VideoWriter(str(folder / "cat.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (640, 480))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no Motion JPEG")
    for _ in range(20):
        writer.write(np.ascontiguousarray(photograph[..., ::-1]))
    writer.release()
    command = [sys.executable, "-m", "synseg_model", "live", str(folder / "cat.avi"), "--no-browser"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = ""
    for line in process.stdout:
        said += line
        if found := re.search(r"http://\S+", line):
            break
    else:
        raise AssertionError(f"no address: {said}")
    yield found[0]
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said


@pytest.fixture
def page(browser, url):
    """A page whose script has no error and which loads nothing from elsewhere."""
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.set_default_timeout(PATIENCE)
    errors, elsewhere = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: None if request.url.startswith((url, "blob:", "data:")) else
            elsewhere.append(request.url))  # fmt: skip
    page.goto(url)
    page.wait_for_selector("#waiting", state="hidden")
    yield page
    page.close()
    assert (errors, elsewhere) == ([], [])


def keep(page, name: str, tmp_path: Path) -> None:
    """Keep a screenshot."""
    path = Path(os.environ.get("SYNSEG_SCREENSHOTS", tmp_path)) / f"{name}.png"
    page.screenshot(path=path, full_page=True)
    assert path.stat().st_size > 10_000


def ask(page, labels: str) -> None:
    """Type labels and press Enter."""
    page.fill("#labels", labels)
    page.press("#labels", "Enter")


def thumbnail(page) -> np.ndarray:
    return np.array(page.evaluate(THUMBNAIL)).reshape(24, 32, 4)[..., :3]


def until(page, condition):
    """Poll, as the page's policy forbids playwright's own waiting, which evaluates text."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        page.wait_for_timeout(30)


def test_typed_labels_make_masks_appear_and_switches_hide_them(page, tmp_path):
    plain = thumbnail(page)  # a photograph that does not move
    ask(page, "cat, sofa")
    page.locator("li.present", has_text="cat").wait_for()
    page.get_by_role("img", name=re.compile("shows cat")).wait_for()
    assert float(re.search(r"score (\d\.\d\d)", page.text_content("li.present .score"))[1]) > 0.5
    until(page, lambda: np.abs(thumbnail(page) - plain).mean() > 8)
    keep(page, "labels", tmp_path)
    assert float(page.text_content("#rate")) > 0 and float(page.text_content("#latency")) > 0
    for name in ("cat", "sofa"):
        page.get_by_label(f"show {name}").uncheck()
    until(page, lambda: np.abs(thumbnail(page) - plain).mean() < 2)
    for name in ("cat", "sofa"):
        page.get_by_label(f"show {name}").check()
    until(page, lambda: np.abs(thumbnail(page) - plain).mean() > 8)


def test_a_threshold_is_moved_by_keys_and_empties_the_mask(page):
    ask(page, "cat")
    page.locator("li.present", has_text="cat").wait_for()
    slider = page.get_by_label("threshold of cat")
    slider.focus()
    page.keyboard.press("End")
    page.locator("li:not(.present)", has_text="not found").wait_for()
    assert page.text_content("li .value") == "1.00"
    page.keyboard.press("Home")
    page.locator("li.present", has_text="100 %").wait_for()
    slider.fill("0.5")


def test_labels_are_text_and_refusals_are_shown(page):
    ask(page, "<img src=x onerror=alert(1)>, cat")
    page.locator("li .text", has_text="<img src=x onerror=alert(1)>").wait_for()
    assert page.locator("li img").count() == 0
    ask(page, "cat, " + "long " * 200)
    page.get_by_role("alert").get_by_text("too long").wait_for()
    assert page.locator("li").count() == 2  # the labels before stay
    ask(page, "cat")
    until(page, lambda: page.text_content("#messages") == "" and page.locator("li").count() == 1)


def test_keys_pause_and_take_a_snapshot(page, tmp_path):
    page.keyboard.press("Tab")  # away from the box, to its button
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("Space")
    page.get_by_role("button", name="Go on").wait_for()
    with page.expect_download() as waiting:
        page.keyboard.press("s")
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    assert path.name.startswith("synseg_") and read_image(path).shape == (480, 640, 3)
    page.keyboard.press("/")
    page.keyboard.type("pause s n")  # is text now
    assert page.input_value("#labels").endswith("pause s n")
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("button", name="Pause").wait_for()


def test_another_tab_shares_the_labels(page, browser, url):
    other = browser.new_page()
    other.goto(url)
    ask(page, "cat, blanket")
    other.locator("li", has_text="blanket").wait_for()
    until(other, lambda: other.input_value("#labels") in ("", "cat, blanket"))  # as its box has the focus
    other.close()


def test_a_phone_in_the_dark_gets_one_column_without_scrolling_sideways(browser, url, tmp_path):
    page = browser.new_page(viewport={"width": 360, "height": 740}, color_scheme="dark")
    page.goto(url)
    ask(page, "cat, sofa")
    page.locator("li.present").first.wait_for()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    keep(page, "phone", tmp_path)
    page.close()
