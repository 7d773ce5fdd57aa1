"""Overlays and contact sheets: right colours in right places, names in any script, and no crash."""

import time

import cv2
import numpy as np
import pytest

from synseg_model import Result, Vocabulary
from synseg_model.io import fonts
from synseg_model.io.drawing import contact_sheet, overlay, palette

CHINESE = "红球"


@pytest.fixture
def no_system_fonts(monkeypatch):
    """Pretend that this machine has no fonts but Pillow's own."""
    monkeypatch.setattr(fonts, "_font_folders", list)
    caches = (fonts._system_fonts, fonts._best_font, fonts.plate)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def blocks(labels: list[str], shape: tuple[int, int] = (120, 160)) -> Result:
    """Give each label an upright stripe of its own; a last stripe stays background."""
    count = len(labels)
    maps = np.zeros((count, 4, count + 1), np.float32)
    for index in range(count):
        maps[index, :, index] = 1
    vocabulary = Vocabulary(tuple(labels), np.full(count, 0.5), np.zeros((count, 4)), "00")
    return Result(vocabulary, maps, shape)


def noise(shape: tuple[int, int] = (120, 160)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)


@pytest.mark.parametrize("count", [0, 1, 24, 1203, 65535])
def test_palettes_have_distinct_colours(count):
    colors = palette(count)
    assert (colors.shape, colors.dtype) == ((count, 3), np.uint8)
    assert len(np.unique(colors, axis=0)) == count


def test_a_longer_palette_only_adds_colours():
    np.testing.assert_array_equal(palette(300)[:40], palette(40))


def test_the_first_colours_are_easily_told_apart():
    colors = palette(24).astype(int)
    distances = np.linalg.norm(colors[:, None] - colors[None], axis=2) + 1000 * np.eye(24)
    assert distances.min() > 40


@pytest.mark.parametrize("count", [-1, 65536])
def test_palettes_of_impossible_sizes_are_refused(count):
    with pytest.raises(ValueError, match=str(count)):
        palette(count)


def test_regions_are_tinted_and_background_stays():
    image, result = noise(), blocks(["car", "tree"])
    drawn = overlay(image, result, opacity=0.5, names=False)
    assert (drawn.shape, drawn.dtype) == (image.shape, np.uint8)
    background = result.label_map == 0
    np.testing.assert_array_equal(drawn[background], image[background])
    for index in range(2):
        inside = cv2.erode((result.label_map == index + 1).astype(np.uint8), np.ones((5, 5))).astype(bool)
        assert inside.any()
        expected = (image[inside].astype(float) + palette(2)[index]) / 2
        np.testing.assert_allclose(drawn[inside], expected, atol=1)


def test_contours_have_the_full_colour_of_their_label():
    result = blocks(["car", "tree"])
    drawn = overlay(noise(), result, names=False)
    last = int(np.flatnonzero(result.label_map[60] == 2).max())
    np.testing.assert_array_equal(drawn[60, last], palette(2)[1])


def test_the_image_itself_is_not_drawn_on():
    image = noise()
    before = image.copy()
    overlay(image, blocks(["car"]))
    np.testing.assert_array_equal(image, before)


def test_names_are_drawn_within_their_regions():
    image, result = np.full((240, 480, 3), 90, np.uint8), blocks(["car", "tree"], (240, 480))
    changed = (overlay(image, result) != overlay(image, result, names=False)).any(axis=2)
    for index in range(2):
        region = result.label_map == index + 1
        assert changed[region].sum() > 200
    assert not changed[result.label_map == 0].any()


def test_names_do_not_cover_each_other():
    shape = (200, 200)
    maps = np.zeros((3, 20, 20), np.float32)
    maps[0, 9, 9], maps[1, 9, 10], maps[2, 10, 9] = 1, 1, 1
    vocabulary = Vocabulary(("first label", "second label", "third label"), np.full(3, 0.5), np.zeros((3, 4)), "00")
    drawn = overlay(np.zeros((*shape, 3), np.uint8), Result(vocabulary, maps, shape))
    for color in palette(3):
        near = np.abs(drawn.astype(int) - color * 0.92).max(axis=2) < 4
        assert cv2.connectedComponentsWithStats(near.astype(np.uint8))[2][1:, cv2.CC_STAT_AREA].max() > 500


def test_an_overlay_without_regions_is_the_image():
    image = noise()
    result = blocks(["car"])
    empty = Result(result.vocabulary, np.zeros_like(result.maps), result.shape)
    np.testing.assert_array_equal(overlay(image, empty), image)


@pytest.mark.parametrize(
    "label", ["Ümläut", "красный мяч", CHINESE, "كرة حمراء", "👩‍🚀", "हिन्दी", "x" * 300, "é" * 300, "\U000f0000", " . "]
)
@pytest.mark.parametrize("shape", [(120, 160), (9, 300), (3, 2), (4, 1), (1, 4), (1, 1)])
def test_names_in_any_script_and_images_of_any_size_are_drawn(label, shape):
    image = noise(shape)
    assert overlay(image, blocks([label, "car"], shape)).shape == image.shape


@pytest.mark.usefixtures("no_system_fonts")
def test_names_that_no_font_can_draw_show_their_number():
    assert fonts.drawable(CHINESE, 7) == ("#7", None)
    assert fonts.drawable(f"ball {CHINESE}", 7) == ("#7 ball", None)
    assert fonts.drawable("ball", 7) == ("ball", None)
    assert fonts.drawable("คำ", 7) == fonts.drawable("लाल", 7) == ("#7", None)
    assert fonts.fit_line(f"a {CHINESE}", 20, 500) == ("a ??", None)
    marked = overlay(noise(), blocks([CHINESE])) != overlay(noise(), blocks([CHINESE]), names=False)
    assert marked.any()


def test_names_beyond_the_own_font_use_one_of_the_machine():
    if not fonts._system_fonts():
        pytest.skip("no fonts are installed here")
    text, path = fonts.drawable("красный", 1)
    assert text == "красный"
    assert path is not None


def test_long_names_and_captions_end_in_an_ellipsis():
    text, _ = fonts.drawable("a very long label indeed, longer than any plate", 1)
    assert len(text) <= fonts.LONGEST_NAME
    assert text.endswith("…")
    line, path = fonts.fit_line("a caption that does not fit", 20, 100)
    assert line.endswith("…")
    assert line.startswith("a c")
    assert path is None


def test_damaged_font_files_are_passed_over(no_system_fonts, monkeypatch, tmp_path):
    (tmp_path / "NotoSans-Regular.ttf").write_bytes(b"no font")
    monkeypatch.setattr(fonts, "_font_folders", lambda: [tmp_path])
    assert fonts._system_fonts()
    assert fonts.drawable(CHINESE, 2) == ("#2", None)


def test_more_labels_than_an_8_bit_map_holds_are_drawn():
    count = 400
    maps = np.zeros((count, 20, 20), np.float32)
    maps[np.arange(count), np.arange(count) // 20, np.arange(count) % 20] = 1
    vocabulary = Vocabulary(tuple(map(str, range(count))), np.full(count, 0.4), np.zeros((count, 4)), "00")
    drawn = overlay(np.zeros((400, 400, 3), np.uint8), Result(vocabulary, maps, (400, 400)), names=False)
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 255


@pytest.mark.parametrize("image", [noise((119, 160)), noise()[..., 0], noise().astype(float)])
def test_images_that_do_not_fit_the_result_are_refused(image):
    with pytest.raises(ValueError, match=r"expected \(120, 160, 3\) of uint8"):
        overlay(image, blocks(["car"]))


def test_an_overlay_is_cheap_enough_for_video():
    image, result = noise((480, 640)), blocks([f"label {i}" for i in range(10)], (480, 640))
    overlay(image, result)
    times = []
    for _ in range(5):
        start = time.thread_time()
        overlay(image, result)
        times.append(time.thread_time() - start)
    assert min(times) < 0.1  # far above what it takes, far below what a mistake would cost


def test_a_contact_sheet_shows_each_image_in_its_cell():
    images = [np.full((60, 80, 3), color, np.uint8) for color in palette(5)]
    sheet = contact_sheet(images, columns=3, tile=80)
    gap = 4
    assert sheet.shape == (2 * (60 + gap) + gap, 3 * (80 + gap) + gap, 3)
    for index, color in enumerate(palette(5)):
        x, y = gap + index % 3 * (80 + gap), gap + index // 3 * (60 + gap)
        np.testing.assert_array_equal(sheet[y : y + 60, x : x + 80], np.broadcast_to(color, (60, 80, 3)))


def test_captions_stand_below_their_images_and_take_room_only_in_their_row():
    images = [np.zeros((60, 80, 3), np.uint8)] * 2
    plain = contact_sheet(images, columns=1, tile=80)
    with_captions = contact_sheet(images, columns=1, captions=["first\nsecond line", ""], tile=80)
    assert with_captions.shape[0] > plain.shape[0] + 20
    below = with_captions[64:100]
    assert (below.min(axis=2) < 120).any()


def test_images_of_other_shapes_are_fitted_into_their_cells():
    tall = np.zeros((300, 30, 3), np.uint8)
    sheet = contact_sheet([np.zeros((60, 80, 3), np.uint8), tall], columns=2, tile=80)
    cell = sheet[4:64, 88:168]
    dark = np.flatnonzero((cell == 0).all(axis=(0, 2)))
    assert 5 <= len(dark) <= 7
    assert (dark[0] + dark[-1]) // 2 == 39


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([],), "no images"),
        (([noise()], 0), "columns 0"),
        (([noise()], 1, ["a", "b"]), "2 captions for 1 images"),
    ],
)
def test_impossible_contact_sheets_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        contact_sheet(*arguments)
