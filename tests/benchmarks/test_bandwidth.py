"""The benchmark of bandwidth weighs every output topic, and its tables say what it measured."""

import json

import pytest

pytest.importorskip("torch", reason="needs the extra dev")
pytest.importorskip("rosbags", reason="needs rosbags: the extra bag")
pytest.importorskip("jsonargparse", reason="needs the extra train")

from benchmarks.bandwidth import BandwidthConfig, main
from benchmarks.tables import TABLES, Results
from synseg_ros.interfaces.frame_outputs import FRAME_OUTPUTS
from synseg_ros.space.object_outputs import OBJECT_OUTPUTS


def test_every_topic_has_a_size_and_small_masks_are_ten_times_smaller(tmp_path):
    output = tmp_path / "bandwidth.json"
    result = main(BandwidthConfig(scenes=1, views=1, repeats=1, model="synseg-tiny", output=str(output)))
    assert json.loads(output.read_text()) == result
    scenes, photographs = result["sources"]["scenes"], result["sources"]["photographs"]
    topics = {name.partition(",")[0] for name in scenes["bytes_per_frame"]}
    assert topics == {output.name for output in FRAME_OUTPUTS} | {*OBJECT_OUTPUTS, "classes/<label>"}
    assert set(scenes["bytes_per_frame"]) - set(photographs["bytes_per_frame"]) == {"objects", "points"}
    pixels, sizes = 640 * 480, scenes["bytes_per_frame"]
    assert pixels < sizes["label_map"] < pixels + 200 and 3 * pixels < sizes["overlay"] < 3 * pixels + 200
    assert scenes["bytes_per_second"]["label_map"] == 30 * sizes["label_map"]
    assert min(scenes["times_smaller_than_mono8"].values()) >= 10
    rows = "\n".join(TABLES["mask-encodings"](Results(tmp_path)) + TABLES["bandwidth"](Results(tmp_path)))
    assert f"| `png` | scenes | {sizes['masks, png']:,} |" in rows and "| label_map | 307 | 9.22 | 307 | 9.22 |" in rows
