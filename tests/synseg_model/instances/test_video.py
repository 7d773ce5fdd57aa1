"""From masks to ids and positions over a generated video, in which things pass before each other."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from synseg_model.instances import Position, Tracker, find_instances, locate

scenes = pytest.importorskip("training.scenes.scenes")

SIZE, FPS, FRAMES = (240, 320), 15, 75


@pytest.mark.parametrize("seed", [0, 4])
def test_things_of_a_video_keep_their_ids_and_are_where_they_are(seed):
    video = scenes.SceneVideo(seed, size=SIZE, objects=(6, 6), fps=FPS)
    first = len(video.background.stuff)
    nouns = [segment.noun for segment in video.segments[first:]]
    labels = sorted(set(nouns))
    label_of = np.array([0] * first + [1 + labels.index(noun) for noun in nouns], np.uint8)
    tracker, ids, errors = Tracker(), defaultdict(list), []
    for index in range(FRAMES):
        scene = video.frame(index)
        label_map = label_of[scene.index_map]
        instances = find_instances(label_map, np.ones(SIZE, np.float32), labels)
        positions = locate(instances, scene.depth, scene.intrinsics, SIZE)
        given = tracker.update(instances, index / FPS)
        assert len(set(given)) == len(given)
        for instance, number, position in zip(instances, given, positions, strict=True):
            assert isinstance(position, Position)
            pixels = np.bincount(scene.index_map[instance.window][instance.mask], minlength=len(video.segments))
            owner = int(pixels.argmax())
            if pixels[owner] > 0.9 * max(instance.area, scene.areas[owner]):  # the thing, and all of it
                ids[owner].append(number)
                errors.append(abs(position.point[2] - scene.centers[owner, 2]))
    assert len(ids) == 6
    same = sum(Counter(numbers).most_common(1)[0][1] for numbers in ids.values())
    assert same > 0.95 * sum(len(numbers) for numbers in ids.values())
    assert max(errors) < 1e-5
