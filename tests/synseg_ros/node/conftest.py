"""A camera with depth."""

import pytest


@pytest.fixture
def make_scene(make_rig):
    from tests.synseg_ros.node.depth_scene import DEPTH, Scene

    def make(**parameters):
        return Scene(make_rig(**{"depth_topics": [DEPTH], **parameters}))

    return make
