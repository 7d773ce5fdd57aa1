import numpy as np

from training.scenes.pool import PoolConfig, build_pool, read_chunk, render, render_closeup


def test_pool_is_a_function_of_its_settings_and_resumes(tmp_path):
    config = PoolConfig(count=6, sizes=((48, 64),), seed=5, split="base", plain_captions=1)
    [path] = build_pool(config, tmp_path / "a", workers=1)
    first = path.read_bytes()
    path.unlink()
    assert build_pool(config, tmp_path / "a", workers=1) == [path]
    assert path.read_bytes() == first
    chunk = read_chunk(path)
    assert chunk.images.shape == (6, 48, 64, 3) and chunk.index_maps.shape == (6, 48, 64)
    assert chunk.captions.shape == (6, 5) and len(chunk.segments) == 6


def test_finished_chunks_are_not_rendered_again(tmp_path):
    config = PoolConfig(count=3, sizes=((48, 48),), seed=5)
    [path] = build_pool(config, tmp_path, workers=1)
    stamp = path.stat().st_mtime_ns
    build_pool(config, tmp_path, workers=1)
    assert path.stat().st_mtime_ns == stamp


def test_supersampled_scene_keeps_its_truth():
    small, shrunk = (render(7, (96, 96), "all", (2, 3), scale) for scale in (1, 3))
    assert small.segments == shrunk.segments and shrunk.image.shape == (96, 96, 3)
    assert (small.index_map == shrunk.index_map).mean() > 0.95


def test_closeup_shows_the_thing_that_its_captions_name():
    for seed in range(20):
        scene, captions = render_closeup(seed, (64, 64), "all", (1, 2))
        noun = captions[-2]
        color = captions[-1].split()[1]
        assert scene.mask(f"{color} {noun}").mean() > 0.05
        assert all(noun in caption for caption in captions)
        assert scene.image.dtype == np.uint8 and scene.image.shape == (64, 64, 3)
