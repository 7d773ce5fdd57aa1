"""Finding instances: what counts as one object of a label, and that any label map costs bounded time."""

import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from scipy import ndimage

from synseg_model.instances import FindSettings, find_in_masks, find_instances

LABELS = ("cup", "ball", "person")
SIZE = (480, 640)
WHOLE = FindSettings(min_area=1, bridge=0, neck=0)  # components as they are


def map_with(*shapes, size=SIZE):
    """Draw (label id, x, y, width, height) boxes into a label map."""
    label_map = np.zeros(size, np.uint16)
    for number, x, y, width, height in shapes:
        label_map[y : y + height, x : x + width] = number
    return label_map


def find(label_map, settings=None, labels=LABELS, ids=None, confidence=None):
    plane = np.full(label_map.shape, 0.5, np.float32) if confidence is None else confidence
    return find_instances(label_map, plane, labels, ids, settings)


def whole(instance, size=SIZE):
    """Put an instance's mask back into an image."""
    mask = np.zeros(size, bool)
    mask[instance.window] = instance.mask
    return mask


def test_instances_are_told_apart_and_measured_exactly():
    label_map = map_with((1, 100, 50, 40, 30), (1, 300, 200, 20, 20), (2, 140, 50, 10, 60))
    confidence = np.linspace(0, 1, label_map.size, dtype=np.float32).reshape(SIZE)
    found = find(label_map, confidence=confidence)
    assert [(one.label, one.label_id, one.box, one.area) for one in found] == [
        ("cup", 1, (100, 50, 40, 30), 1200),
        ("ball", 2, (140, 50, 10, 60), 600),
        ("cup", 1, (300, 200, 20, 20), 400),
    ]
    assert [one.center for one in found] == [(119.5, 64.5), (144.5, 79.5), (309.5, 209.5)]
    for one in found:
        assert one.mask.dtype == bool and one.mask.shape == one.box[:1:-1]
        assert one.score == pytest.approx(float(confidence[whole(one)].mean()), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("density", [0.3, 0.6, 0.95])
def test_components_equal_those_of_a_reference(seed, density):
    rng = np.random.default_rng(seed)
    label_map = (rng.integers(1, 4, (40, 53)) * (rng.random((40, 53)) < density)).astype(np.uint16)
    found = find(label_map, FindSettings(min_area=1, most=5000, most_per_label=5000, bridge=0, neck=0))
    expected = set()
    for number in (1, 2, 3):
        components, count = ndimage.label(label_map == number, np.ones((3, 3)))
        expected |= {(number, (components == i).tobytes()) for i in range(1, count + 1)}
    assert {(one.label_id, whole(one, (40, 53)).tobytes()) for one in found} == expected


def test_ids_of_the_vocabulary_name_the_labels():
    found = find(
        map_with((300, 0, 0, 20, 20), (7, 50, 0, 20, 30)), labels=("cup", "ball"), ids=np.array((7, 300), np.uint16)
    )
    assert [(one.label, one.label_id) for one in found] == [("cup", 7), ("ball", 300)]


def test_an_instance_at_every_border_keeps_its_pixels():
    found = find(map_with((1, 0, 0, 640, 480)))
    assert [(one.box, one.area, one.center) for one in found] == [((0, 0, 640, 480), 640 * 480, (319.5, 239.5))]
    corners = find(map_with((1, 0, 0, 10, 10), (1, 630, 0, 10, 10), (1, 0, 470, 10, 10), (1, 630, 470, 10, 10)))
    assert {one.box[:2] for one in corners} == {(0, 0), (630, 0), (0, 470), (630, 470)}


def test_pieces_below_the_least_area_are_noise():
    found = find(map_with((1, 10, 10, 8, 8), (1, 100, 10, 9, 7)), FindSettings(min_area=64))
    assert [one.area for one in found] == [64]


def test_the_largest_stay_per_label_and_in_all():
    shapes = [(1 + i % 2, 30 * (i % 20), 40 * (i // 20), 10, 10 + i // 2) for i in range(40)]
    found = find(map_with(*shapes), FindSettings(most_per_label=6, most=9))
    assert len(found) == 9
    assert max(sum(one.label == label for one in found) for label in LABELS) <= 6
    assert [one.area for one in found] == sorted((one.area for one in found), reverse=True)
    assert found[0].area == 290


def test_an_object_behind_a_pole_is_one_instance():
    found = find(map_with((1, 200, 100, 48, 100), (2, 248, 50, 4, 300), (1, 252, 100, 48, 100)))
    assert [(one.label, one.box) for one in found] == [("cup", (200, 100, 100, 100)), ("ball", (248, 50, 4, 300))]
    assert found[0].area == 9600 and found[0].mask.sum() == 9600
    assert found[0].center == (249.5, 149.5)


def test_the_same_gap_parts_objects_that_are_small():
    assert len(find(map_with((1, 200, 100, 12, 12), (1, 216, 100, 12, 12)))) == 2


def test_two_balls_with_a_gap_stay_two():
    label_map = np.zeros(SIZE, np.uint16)
    for x in (200, 304):
        cv2.circle(label_map, (x, 200), 50, 2, -1)
    assert [one.label for one in find(label_map)] == ["ball", "ball"]


def test_a_corner_near_another_object_does_not_join_them():
    assert len(find(map_with((1, 100, 100, 80, 80), (1, 183, 183, 80, 80)))) == 2


@pytest.mark.parametrize("radius", [20, 50, 110])
@pytest.mark.parametrize("angle", [0, 37, 90])
def test_two_balls_that_touch_are_split(radius, angle):
    label_map = np.zeros(SIZE, np.uint16)
    shift = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))]) * radius * 0.99
    centers = [np.array([320, 240]) - shift, np.array([320, 240]) + shift]
    for center in centers:
        cv2.circle(label_map, np.round(center).astype(int).tolist(), radius, 2, -1)
    found = find(label_map)
    assert len(found) == 2
    assert not (whole(found[0]) & whole(found[1])).any()
    assert sum(one.area for one in found) == np.count_nonzero(label_map)
    for one in found:
        assert min(np.abs(np.subtract(one.center, center)).max() for center in centers) < 0.1 * radius
        assert one.score == pytest.approx(0.5)


def cup_with_handle(label_map):
    cv2.rectangle(label_map, (250, 200), (330, 300), 1, -1)
    cv2.ellipse(label_map, (345, 250), (30, 35), 0, 0, 360, 1, 7)


def person(label_map):
    cv2.circle(label_map, (300, 100), 22, 1, -1)
    cv2.rectangle(label_map, (292, 118), (308, 135), 1, -1)
    cv2.ellipse(label_map, (300, 200), (40, 75), 0, 0, 360, 1, -1)
    cv2.line(label_map, (285, 250), (270, 380), 1, 22)
    cv2.line(label_map, (315, 250), (330, 380), 1, 22)
    cv2.line(label_map, (265, 160), (220, 260), 1, 14)


def ring(label_map):
    cv2.circle(label_map, (300, 240), 100, 1, 25)


def wedge(label_map):
    cv2.fillPoly(label_map, [np.array([(100, 100), (500, 180), (100, 260)])], 1)


@pytest.mark.parametrize("shape", [cup_with_handle, person, ring, wedge])
def test_limbs_handles_and_holes_do_not_split_an_object(shape):
    label_map = np.zeros(SIZE, np.uint16)
    shape(label_map)
    assert len(find(label_map)) == 1


def test_split_and_bridge_can_be_turned_off():
    off = FindSettings(bridge=0, neck=0)
    label_map = np.zeros(SIZE, np.uint16)
    cv2.circle(label_map, (200, 200), 50, 1, -1)
    cv2.circle(label_map, (299, 200), 50, 1, -1)
    assert len(find(label_map, off)) == 1
    assert len(find(map_with((1, 200, 100, 48, 100), (1, 250, 100, 48, 100)), off)) == 2


def test_masks_may_overlap():
    masks = np.zeros((2, *SIZE), bool)
    masks[0, 100:200, 100:200] = masks[1, 120:140, 120:140] = masks[1, 300:320, :20] = True
    activations = np.zeros((2, *SIZE), np.float32)
    activations[0], activations[1] = 0.25, 0.75
    found = find_in_masks(masks, activations, ("cup", "ball"), ids=(4, 2))
    assert [(one.label, one.label_id, one.box, one.score) for one in found] == [
        ("cup", 4, (100, 100, 100, 100), 0.25),
        ("ball", 2, (120, 120, 20, 20), 0.75),
        ("ball", 2, (0, 300, 20, 20), 0.75),
    ]


def test_masks_and_label_map_give_the_same_where_nothing_overlaps():
    rng = np.random.default_rng(3)
    label_map = np.zeros(SIZE, np.uint16)
    for i in range(25):
        center = rng.integers(0, (640, 480)).tolist()
        cv2.ellipse(label_map, center, rng.integers(10, 60, 2).tolist(), 0, 0, 360, int(1 + i % 3), -1)
    confidence = rng.random(SIZE, dtype=np.float32)
    masks = np.stack([label_map == number for number in (1, 2, 3)])
    one, other = find(label_map, confidence=confidence), find_in_masks(masks, [confidence] * 3, LABELS)
    assert len(one) > 5
    assert {(a.label, a.box, a.area, a.center) for a in one} == {(b.label, b.box, b.area, b.center) for b in other}


@pytest.mark.parametrize("labels", [(), LABELS])
def test_an_empty_label_map_has_no_instances(labels):
    assert find(np.zeros(SIZE, np.uint16), labels=labels) == ()
    masks = np.zeros((len(labels), *SIZE), bool)
    assert find_in_masks(masks, masks.astype(np.float32), labels) == ()


def test_ten_thousand_specks_are_noise_and_cost_bounded_time():
    rng = np.random.default_rng(0)
    label_map = np.zeros(SIZE, np.uint16)
    label_map.flat[rng.permutation(label_map.size)[:10_000]] = rng.integers(1, 4, 10_000)
    label_map[200:260, 300:360] = 2
    began = time.thread_time()
    found = find(label_map)
    assert time.thread_time() - began < 0.3  # 4 ms on an idle core
    assert [one.label for one in found] == ["ball"]
    assert len(find(label_map, FindSettings(min_area=1))) == 60  # at most 20 of each label


def test_an_object_in_noise_of_every_pixel_is_found_in_bounded_time():
    label_map = np.random.default_rng(0).integers(0, 4, (960, 1280)).astype(np.uint16)
    label_map[400:600, 300:700] = 2
    began = time.thread_time()
    found = find(label_map)
    assert time.thread_time() - began < 1.5  # 0.06 s on an idle core
    assert found[0].label == "ball" and found[0].area == pytest.approx(80_000, rel=0.1)


@pytest.mark.parametrize("step", [2, 3])
def test_a_label_in_stripes_costs_bounded_time(step):
    label_map = np.zeros(SIZE, np.uint16)
    label_map[:, ::step] = 1
    began = time.thread_time()
    assert len(find(label_map)) <= 20
    assert time.thread_time() - began < 1.0  # 0.05 s on an idle core


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_map": np.zeros((4, 4), np.int64)}, r"label map of shape \(4, 4\), int64: expected \(H,W\) uint8 or"),
        ({"label_map": np.zeros((4, 4, 1), np.uint8)}, r"label map of shape \(4, 4, 1\)"),
        ({"label_map": np.full((4, 4), 9, np.uint16)}, "value 9: expected 0 or one of the labels' ids"),
        ({"confidence": np.zeros((4, 5), np.float32)}, r"confidence of shape \(4, 5\), float32: expected \(4, 4\)"),
        ({"confidence": np.zeros((4, 4))}, "float64"),
        ({"ids": (1, 2)}, r"ids \[1, 2\] for 3 labels"),
        ({"ids": (1, 2, 2)}, "all distinct"),
        ({"ids": (0, 1, 2)}, "expected 1 to 65535"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_value(change, message):
    given = {"label_map": np.zeros((4, 4), np.uint16), "confidence": np.zeros((4, 4), np.float32), "labels": LABELS}
    with pytest.raises(ValueError, match=message):
        find_instances(**(given | change))


@pytest.mark.parametrize(
    ("name", "value"), [("min_area", 0), ("most", 0), ("most_per_label", -1), ("bridge", 1.0), ("neck", -0.1)]
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} {value}"):
        FindSettings(**{name: value})


def test_importing_the_package_loads_no_third_party_module():
    code = "import synseg_model.instances, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "cv2", "scipy", "torch"} & set(done.stdout.split())
