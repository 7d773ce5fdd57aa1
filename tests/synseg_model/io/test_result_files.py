"""Results on disk: names that every file system takes."""

from pathlib import Path

from synseg_model.io import result_files


def test_names_beyond_what_file_systems_take_are_shortened():
    paths = [Path("folder") / ("é" * 120 + end + ".png") for end in ("a", "b")]
    names = result_files.image_names(paths)
    assert len(set(names)) == 2
    assert all(len(name.encode()) <= 250 for name in names)
