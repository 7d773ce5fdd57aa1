"""Protect the promises that training, evaluation and the demo camera make use of in generated scenes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from training.scenes import scenes
from training.scenes.captions import article
from training.scenes.objects import draw_object
from training.scenes.plan import draw_sprite
from training.scenes.scenes import SceneVideo, make_scene
from training.scenes.vocabulary import NOUNS_PLURAL

ROOT = Path(__file__).resolve().parents[3]


def _digest(scene: scenes.Scene) -> str:
    held = scene.image.tobytes() + scene.index_map.tobytes() + scene.caption.encode()
    return hashlib.sha256(held).hexdigest()


def _things(scene: scenes.Scene) -> list[tuple[str, str]]:
    return [(s.color, s.noun) for s in scene.segments if s.kind == "thing"]


def test_vocabulary_has_the_promised_breadth():
    assert len(scenes.NOUNS) >= 24
    assert len(scenes.COLORS) >= 10
    assert len(scenes.STUFF) >= 8
    assert not set(scenes.NOUNS) & set(scenes.STUFF)


def test_colors_are_far_apart():
    colors = np.array(list(scenes.COLORS.values()), float)
    distance = np.linalg.norm(colors[:, None] - colors[None], axis=-1) + 1e3 * np.eye(len(colors))
    assert distance.min() > 80


def test_novel_pairs_are_about_15_percent_of_base_nouns_and_cover_every_noun_and_color():
    total = len(scenes.BASE_NOUNS) * len(scenes.COLORS)
    assert 0.12 < len(scenes.NOVEL_PAIRS) / total < 0.18
    assert {noun for _, noun in scenes.NOVEL_PAIRS} == set(scenes.BASE_NOUNS)
    assert {color for color, _ in scenes.NOVEL_PAIRS} == set(scenes.COLORS)


def test_scene_is_the_same_on_every_call():
    make_scene(1)
    first = _digest(make_scene(5))
    make_scene(2)
    assert _digest(make_scene(5)) == first
    assert _digest(make_scene(6)) != first


def test_scene_is_the_same_in_another_process():
    code = (
        "import hashlib; from training.scenes.scenes import SceneVideo, make_scene\n"
        "for s in (make_scene(11), SceneVideo(3, (96, 128)).frame(40)):\n"
        "    held = s.image.tobytes() + s.index_map.tobytes() + s.caption.encode()\n"
        "    print(hashlib.sha256(held).hexdigest())"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    here = [_digest(make_scene(11)), _digest(SceneVideo(3, (96, 128)).frame(40))]
    assert run.stdout.split() == here


def test_generator_needs_no_torch():
    code = "import sys, training.scenes.scenes; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


@pytest.mark.parametrize("size", [(128, 128), (96, 200), (200, 96), (32, 33), (240, 320)])
def test_image_and_index_map_have_the_asked_size(size):
    scene = make_scene(4, size)
    assert scene.image.shape == (*size, 3)
    assert scene.image.dtype == np.uint8
    assert scene.index_map.shape == size
    assert scene.index_map.dtype == np.uint8


def test_masks_of_segment_names_partition_the_image():
    for seed in range(60):
        scene = make_scene(seed)
        names = {f"{s.color} {s.noun}" if s.color else s.noun for s in scene.segments}
        cover = sum(scene.mask(name).astype(int) for name in names)
        assert np.all(cover == 1)


def test_mask_of_a_noun_is_the_union_of_its_colors():
    scene, noun = next(
        (scene, noun)
        for scene in map(make_scene, range(500))
        for _, noun in _things(scene)
        if len({color for color, other in _things(scene) if other == noun}) > 1
    )
    union = np.any([scene.mask(f"{color} {noun}") for color in scenes.COLORS], axis=0)
    assert np.array_equal(scene.mask(noun), union)
    for color in scenes.COLORS:
        assert not np.any(scene.mask(f"{color} {noun}") & ~scene.mask(noun))


def test_mask_ignores_case_and_outer_spaces():
    scene = make_scene(8)
    color, noun = _things(scene)[0]
    assert np.array_equal(scene.mask(f"  {color.upper()} {noun.title()} "), scene.mask(f"{color} {noun}"))
    assert scene.mask(f"{color} {noun}").any()


def test_mask_of_an_absent_label_is_empty():
    scene = make_scene(8)
    absent = next(noun for noun in scenes.NOUNS if noun not in scene.labels)
    assert scene.mask(absent).shape == scene.index_map.shape
    assert not scene.mask(absent).any()


@pytest.mark.parametrize("label", ["zebra", "red", "red grass", "", "red red ball", "turquoise ball"])
def test_mask_refuses_words_outside_the_vocabulary_and_names_them(label):
    with pytest.raises(ValueError, match=f"no label '{label}'"):
        make_scene(0).mask(label)


def test_labels_are_exactly_those_with_a_mask():
    known = [*scenes.STUFF, *scenes.NOUNS, *(f"{c} {n}" for c in scenes.COLORS for n in scenes.NOUNS)]
    for seed in range(5):
        scene = make_scene(seed, (64, 64))
        assert set(scene.labels) == {label for label in known if scene.mask(label).any()}


def test_every_thing_stays_visible_enough(monkeypatch):
    drawn = []
    monkeypatch.setattr(scenes, "paste", lambda image, sprite: drawn.append(sprite))
    for seed in range(100):
        drawn.clear()
        scene = make_scene(seed, objects=(3, 6))
        visible = scene.areas[-len(drawn) :]
        assert len(drawn) == len(_things(scene))
        assert visible.min() >= scenes.min_visible_pixels((128, 128))
        assert np.all(visible >= scenes.MIN_VISIBLE_FRACTION * np.array([sprite.area for sprite in drawn]))


def test_masks_lie_where_things_were_pasted(monkeypatch):
    drawn = []
    monkeypatch.setattr(scenes, "paste", lambda image, sprite: drawn.append(sprite))
    for seed in range(20):
        drawn.clear()
        scene = make_scene(seed)
        expected = scene.index_map.copy()
        for index, sprite in enumerate(drawn, len(scene.segments) - len(drawn)):
            window, silhouette = sprite.inside(expected.shape)
            expected[window][silhouette] = index
        assert np.array_equal(scene.index_map, expected)


def test_every_stuff_region_stays_visible():
    for seed in range(200):
        assert make_scene(seed, (64, 64), objects=(4, 8)).areas.min() > 0


def test_number_of_things_covers_the_asked_range():
    counts = {len(_things(make_scene(seed, (48, 48), objects=(2, 4)))) for seed in range(60)}
    assert counts == {2, 3, 4}


def test_a_dozen_things_fit_into_the_smallest_image():
    assert len(_things(make_scene(3, (32, 32), objects=(12, 12)))) == 12


def test_base_scenes_hold_no_novel_noun_or_pair():
    for seed in range(250):
        for pair in _things(make_scene(seed, (48, 48), "base")):
            assert pair[1] in scenes.BASE_NOUNS
            assert pair not in scenes.NOVEL_PAIRS


def test_novel_scenes_hold_a_novel_noun_or_pair():
    for seed in range(250):
        things = _things(make_scene(seed, (48, 48), "novel"))
        assert any(pair[1] in scenes.NOVEL_NOUNS or pair in scenes.NOVEL_PAIRS for pair in things)


def test_base_scenes_show_every_base_noun_and_color_and_all_stuff():
    segments = {s for seed in range(250) for s in make_scene(seed, (48, 48), "base").segments}
    seen = {name for s in segments for name in (s.noun, s.color)}
    assert seen - {None} == {*scenes.BASE_NOUNS, *scenes.COLORS, *scenes.STUFF}


def test_base_captions_never_name_a_novel_noun():
    for seed in range(100):
        words = make_scene(seed, (48, 48), "base").caption.replace(",", "").split()
        assert not {form for noun in scenes.NOVEL_NOUNS for form in (noun, NOUNS_PLURAL[noun])} & set(words)


def test_captions_name_only_what_is_visible():
    nouns = {form: noun for noun, plural in NOUNS_PLURAL.items() for form in (noun, plural)}
    for seed in range(100):
        scene = make_scene(seed, (64, 64))
        for caption in scene.captions(4):
            words = caption.replace(",", "").split()
            for i, word in enumerate(words):
                if word in scenes.STUFF:
                    assert word in scene.labels, caption
                if word in nouns:
                    color = words[i - 1] if words[i - 1] in scenes.COLORS else ""
                    assert f"{color} {nouns[word]}".strip() in scene.labels, caption


def test_captions_name_nearly_all_things_with_their_colors():
    named = total = 0
    for seed in range(100):
        scene = make_scene(seed, (64, 64))
        words = " ".join(scene.caption.replace(",", "").split())
        for color, noun in set(_things(scene)):
            total += 1
            named += f"{color} {noun}" in words or f"{color} {NOUNS_PLURAL[noun]}" in words
    assert named / total > 0.8


def test_captions_count_equal_things():
    images = (make_scene(seed, (64, 64), objects=(2, 2)) for seed in range(300))
    scene = next(s for s in images if len(set(_things(s))) == 1)
    color, noun = _things(scene)[0]
    assert any(f"two {color} {NOUNS_PLURAL[noun]}" in caption for caption in scene.captions(6))


def test_captions_are_different_and_begin_with_the_caption():
    scene = make_scene(12)
    captions = scene.captions(10)
    assert len(set(captions)) == 10
    assert captions[0] == scene.caption
    assert scene.captions(4) == captions[:4]


def test_article_fits_the_next_sound():
    assert article("orange fish") == "an orange fish"
    assert article("umbrella") == "an umbrella"
    assert article("blue arrow") == "a blue arrow"


def test_things_show_their_color():
    """The mean colour inside a mask is nearest to the named colour, for nearly all things."""
    table = np.array(list(scenes.COLORS.values()), float)
    names, right, total = list(scenes.COLORS), 0, 0
    for seed in range(100):
        scene = make_scene(seed)
        for index, segment in enumerate(scene.segments):
            if segment.color:
                middle = np.median(scene.image[scene.index_map == index], axis=0)
                right += names[int(np.argmin(np.linalg.norm(table - middle, axis=1)))] == segment.color
                total += 1
    assert right / total > 0.85


def test_turning_a_thing_by_a_full_circle_changes_nothing():
    look = SceneVideo(1)._looks[0]
    once, again = (draw_object(look, 50.25, 40.5, 30.0, angle) for angle in (10.0, 370.0))
    assert np.array_equal(once.alpha, again.alpha)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed must be 0 or more, not -1"),
        ({"size": (16, 128)}, r"at least 32 pixels each, not \(16, 128\)"),
        ({"size": (128, 128, 3)}, "size is"),
        ({"split": "train"}, "unknown split 'train'"),
        ({"objects": (0, 3)}, "objects is"),
        ({"objects": (4, 3)}, "objects is"),
        ({"objects": (1, 13)}, "<= 12"),
    ],
)
def test_make_scene_refuses_what_it_cannot_draw(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_scene(**{"seed": 0} | arguments)


def test_captions_refuse_a_count_below_one():
    with pytest.raises(ValueError, match="at least 1"):
        make_scene(0).captions(0)


def test_video_refuses_bad_arguments():
    with pytest.raises(ValueError, match="not -2"):
        SceneVideo(0, (96, 128)).frame(-2)
    with pytest.raises(ValueError, match="fps"):
        SceneVideo(0, (96, 128), fps=0)
    with pytest.raises(ValueError, match="unknown split"):
        SceneVideo(0, (96, 128), split="none")


def test_video_frames_do_not_depend_on_the_order_of_access():
    forward, backward = SceneVideo(2, (96, 128)), SceneVideo(2, (96, 128))
    ahead = [_digest(forward.frame(i)) for i in (0, 7, 31)]
    back = [_digest(backward.frame(i)) for i in (31, 7, 0)]
    assert ahead == back[::-1]


def test_video_keeps_its_segments():
    video = SceneVideo(4, (96, 128))
    assert {video.frame(i).segments for i in (0, 50, 500)} == {video.segments}


def test_video_moves_everything_smoothly():
    video = SceneVideo(5, (480, 640))
    for thing in range(len(video.segments) - len(video.background.stuff)):
        poses = [video.pose(thing, index / 30) for index in range(900)]
        path = np.array([(p.x * 640, p.y * 480) for p in poses])
        steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
        turns = np.abs(np.diff([p.angle for p in poses]))
        assert steps.max() < 8
        assert np.ptp(path[:, 0]) > 60
        assert turns.max() < 6
        assert np.ptp([p.angle for p in poses]) > 10


def test_video_things_are_visible_most_of_the_time_and_sometimes_occlude_each_other():
    shown, overlaps = [], 0
    for seed in range(4):
        video = SceneVideo(seed, (96, 128))
        stuff = len(video.background.stuff)
        for index in range(0, 900, 60):
            scene = video.frame(index)
            shown += (scene.areas[stuff:] >= scenes.min_visible_pixels((96, 128))).tolist()
            poses = [video.pose(thing, index / 30) for thing in range(len(video._looks))]
            sprites = [draw_sprite(*each, (96, 128)) for each in zip(video._looks, poses, strict=True)]
            overlaps += scene.areas[stuff:].sum() < sum(sprite.area for sprite in sprites) - 5
    assert np.mean(shown) > 0.9
    assert overlaps > 3


def test_video_obeys_its_split():
    for seed in range(30):
        things = [(s.color, s.noun) for s in SceneVideo(seed, (64, 64), split="base").segments if s.color]
        assert all(scenes.is_base(*pair) for pair in things)


def test_video_background_is_still_where_nothing_moves():
    video = SceneVideo(6, (96, 128))
    first, second = video.frame(0), video.frame(3)
    stuff = len(video.background.stuff)
    far = (first.index_map < stuff) & (second.index_map < stuff)
    assert np.array_equal(first.index_map[far], second.index_map[far])
    difference = np.abs(first.image.astype(int) - second.image.astype(int)).max(-1)[far]
    assert np.median(difference) < 20
