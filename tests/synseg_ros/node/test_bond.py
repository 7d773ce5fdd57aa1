"""Nav2's lifecycle manager finds the bond that it expects; the other side here follows bondcpp's rules."""

import uuid

import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from rclpy.qos import QoSProfile

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("more_messages")]
MANAGER_QOS = QoSProfile(depth=100)


class Manager:
    """One end of a bond, as Nav2's lifecycle manager holds it: it bonds with the first that has the node's name."""

    def __init__(self, bench, name="synseg"):
        from bond.msg import Status

        self.name, self.own, self.sister = name, str(uuid.uuid4()), ""
        self.alive, self.beats, self.strangers = False, 0, []
        self._status = Status
        self._publisher = bench.node.create_publisher(Status, "bond", MANAGER_QOS)
        bench.node.create_subscription(Status, "bond", self._take, MANAGER_QOS)

    def _take(self, message):
        if message.id != self.name or message.instance_id == self.own:
            return
        self.sister = self.sister or message.instance_id
        if message.instance_id != self.sister:
            self.strangers.append(message)
            return
        self.alive, self.beats = message.active, self.beats + 1
        assert 0 < message.heartbeat_period < message.heartbeat_timeout
        self._publisher.publish(self._status(id=self.name, instance_id=self.own, active=message.active))


def test_a_manager_that_activates_the_node_has_a_bond_until_it_is_deactivated(make_rig, bench):
    rig = make_rig(start=False, autostart=False)
    for _ in range(2):
        rig.node.trigger_configure()
        manager = Manager(bench)
        rig.node.trigger_activate()
        bench.spin_until(lambda manager=manager: manager.alive and manager.beats >= 5, what="heartbeats")
        rig.node.trigger_deactivate()
        bench.spin_until(lambda manager=manager: not manager.alive, what="the end of the bond")
        rig.node.trigger_cleanup()
        assert manager.strangers == []


def test_an_end_of_the_process_breaks_the_bond_at_once(make_rig, bench):
    rig = make_rig(start=False, autostart=False)
    manager = Manager(bench)
    rig.node.trigger_configure()
    rig.node.trigger_activate()
    bench.spin_until(lambda: manager.alive)
    rig.node.close()
    bench.spin_until(lambda: not manager.alive)


def test_a_node_that_starts_itself_has_no_bond(make_rig, bench):
    rig = make_rig()
    assert not [publisher for publisher in rig.node.publishers if publisher.topic_name.endswith("/bond")]
