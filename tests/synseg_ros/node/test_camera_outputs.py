"""Every output has its frame's header and size, and is made only while it has a subscriber."""

import numpy as np
import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from synseg_ros.msg import ClassMasks, FrameInfo, Vocabulary

from synseg_model.io.drawing import overlay
from synseg_ros.interfaces.compressed_images import compressed_to_rgb
from synseg_ros.interfaces.image_encodings import image_to_array
from synseg_ros.interfaces.mask_encodings import mask_in_frame
from synseg_ros.interfaces.mask_kinds import MASK_ENCODINGS
from synseg_ros.qos import LATCHED
from tests.synseg_ros.rig import HEIGHT, WIDTH

pytestmark = pytest.mark.ros


def test_every_output_has_the_frames_header_and_size(make_rig):
    rig = make_rig()
    heard = {name: rig.listen(Image, name) for name in ("label_map", "confidence", "overlay")}
    heard["masks"], heard["info"] = rig.listen(ClassMasks, "masks"), rig.listen(FrameInfo, "info")
    rig.connect()
    rig.ask("ball", "cube", "grass")
    rig.show_until(lambda: all(heard.values()), "all outputs")
    rig.bench.spin_until(lambda: len({messages[0].header.stamp.nanosec for messages in heard.values()}) == 1)
    assert {messages[0].header.frame_id for messages in heard.values()} == {"lens"}
    assert {messages[0].header.stamp.sec for messages in heard.values()} == {1000}
    sizes = {(m[0].height, m[0].width) for name, m in heard.items() if name != "info"}
    assert sizes == {(HEIGHT, WIDTH)}
    assert heard["overlay"][0].encoding == "rgb8"


def test_masks_and_label_map_show_each_label_where_it_is(make_rig):
    rig = make_rig()
    masks, label_maps = rig.listen(ClassMasks, "masks"), rig.listen(Image, "label_map")
    rig.connect()
    rig.ask("ball", "cube", "grass")
    rig.show_until(lambda: masks and label_maps, "masks")
    assert [(mask.id, mask.label) for mask in masks[0].masks] == [(1, "ball"), (2, "cube"), (3, "grass")]
    columns = image_to_array(label_maps[0])[HEIGHT // 2]
    assert columns[[WIDTH // 6, WIDTH // 2, 5 * WIDTH // 6]].tolist() == [1, 2, 3]
    assert abs(masks[0].masks[1].roi.x_offset - WIDTH // 3) <= 1


def test_without_subscribers_nothing_is_segmented(make_rig):
    rig = make_rig()
    rig.connect()
    rig.ask("ball")
    rig.show_until(lambda: rig.counts()["idle"] >= 3, "frames that nobody wants")
    assert rig.counts()["segmented"] == 0


def test_an_output_without_subscribers_is_not_made(make_rig, monkeypatch):
    made = []
    monkeypatch.setattr("synseg_ros.interfaces.frame_outputs.overlay", lambda *_: made.append("overlay"))
    rig = make_rig()
    label_maps = rig.listen(Image, "label_map")
    rig.connect()
    rig.ask("ball")
    rig.show_until(lambda: len(label_maps) >= 2, "two label maps")
    assert not made


def test_an_output_that_is_switched_off_is_not_published_and_alone_causes_no_work(make_rig):
    rig = make_rig(publish_masks=False)
    masks = rig.listen(ClassMasks, "masks")
    rig.connect()
    rig.ask("ball")
    rig.show_until(lambda: rig.counts()["idle"] >= 3, "frames that nobody wants")
    assert (rig.counts()["segmented"], masks) == (0, [])
    rig.node.set_parameters([Parameter("publish_masks", value=True)])
    rig.show_until(lambda: masks, "masks")


def test_a_wrong_quality_of_service_is_named_with_both_policies_and_the_fix(make_rig, bench, capfd):
    rig = make_rig()
    bench.node.create_subscription(ClassMasks, "/synseg/camera/masks", print, LATCHED)
    bench.node.create_publisher(Vocabulary, "/synseg/vocab", qos_profile_sensor_data)
    heard = []

    def warned():
        heard.append(capfd.readouterr().err)
        text = "".join(heard)
        return "/synseg/camera/masks: " in text and "/synseg/vocab: " in text

    bench.spin_until(warned, what="two warnings")
    text = "".join(heard)
    assert "asks for durability TRANSIENT_LOCAL and this node offers VOLATILE" in text
    assert "-p qos_overrides./synseg/camera/masks.publisher.durability:=transient_local" in text
    assert "its reliability is BEST_EFFORT and this node asks for RELIABLE" in text
    assert "in /bench" in text
    assert text.count("/synseg/vocab: ") == 1
    assert rig.ask("ball").accepted


@pytest.mark.parametrize("encoding", MASK_ENCODINGS)
def test_masks_are_encoded_as_the_parameter_says_from_the_next_frame_on(make_rig, encoding):
    rig = make_rig()
    masks = rig.listen(ClassMasks, "masks")
    rig.connect()
    rig.ask("ball", "cube")
    rig.show_until(lambda: masks, "masks")
    rig.node.set_parameters([Parameter("mask_encoding", value=encoding)])
    rig.show_until(lambda: masks[-1].masks[0].mask_encoding == encoding, f"masks as {encoding}")
    for message in (masks[0], masks[-1]):
        ball = mask_in_frame(message.masks[0], (HEIGHT, WIDTH))
        assert ball[:, : WIDTH // 2].all() and not ball[:, WIDTH // 2 :].any()


def test_an_unknown_encoding_of_masks_is_refused_with_those_that_are_known(make_rig):
    rig = make_rig(mask_encoding="rle")
    (answer,) = rig.node.set_parameters([Parameter("mask_encoding", value="jpeg")])
    assert (answer.successful, answer.reason) == (False, "mask_encoding is 'jpeg'; accepted: mono8, png, rle")
    assert rig.node.get_parameter("mask_encoding").value == "rle"


def test_the_compressed_overlay_is_the_overlay_and_drawn_once_for_both(make_rig, monkeypatch):
    drawn = []

    def draw(image, result):
        drawn.append(None)
        return overlay(image, result)

    monkeypatch.setattr("synseg_ros.interfaces.frame_outputs.overlay", draw)
    rig = make_rig()
    plain, jpegs = rig.listen(Image, "overlay"), rig.listen(CompressedImage, "overlay/compressed")
    rig.connect()
    rig.ask("ball", "cube")
    rig.show_until(lambda: plain and jpegs, "both overlays")
    rig.bench.spin_until(lambda: len(plain) == len(jpegs) == len(drawn), what="as many overlays as drawings")
    assert [message.header for message in jpegs] == [message.header for message in plain]
    assert jpegs[0].format == "rgb8; jpeg compressed bgr8"
    decoded, original = (image.astype(int) for image in (compressed_to_rgb(jpegs[0]), image_to_array(plain[0])))
    # At 48x60 pixels names fill the image, which costs a JPEG some accuracy; swapped colours would be far off.
    assert 4 * np.abs(decoded - original).mean() < np.abs(decoded[..., ::-1] - original).mean()


def test_the_switch_of_the_overlay_is_that_of_the_compressed_one(make_rig):
    rig = make_rig(publish_overlay=False)
    jpegs = rig.listen(CompressedImage, "overlay/compressed")
    rig.connect()
    rig.ask("ball")
    rig.show_until(lambda: rig.counts()["idle"] >= 3, "frames that nobody wants")
    assert (rig.counts()["segmented"], jpegs) == (0, [])
    rig.node.set_parameters([Parameter("publish_overlay", value=True)])
    rig.show_until(lambda: jpegs, "the compressed overlay")
