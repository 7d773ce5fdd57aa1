"""The tests reach no robot: no other domain, no other machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from std_msgs.msg import String

from synseg_ros.qos import LATCHED
from tests.ros_domain import DOMAINS, LEADING_OUT, own_domain

pytestmark = pytest.mark.ros
LOOPBACK = ("0100007F", "00000000000000000000000001000000")


def sockets_of(process="self"):
    """Return the protocols and local addresses of a process's sockets, as /proc has them."""
    descriptors = [os.readlink(path) for path in Path(f"/proc/{process}/fd").iterdir() if path.is_symlink()]
    inodes = {link[8:-1] for link in descriptors if link.startswith("socket:[")}
    found = []
    for protocol in ("udp", "udp6", "tcp", "tcp6"):
        for line in Path(f"/proc/{process}/net/{protocol}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes:
                found.append((protocol, fields[1].partition(":")[0]))
    return found


@pytest.mark.skipif(not Path("/proc/self/net/udp").exists(), reason="sockets are told by Linux's /proc")
def test_a_node_of_the_tests_has_no_socket_that_leads_out_of_this_machine(bench):
    heard = bench.collect(String, "/here", LATCHED)
    bench.node.create_publisher(String, "/here", LATCHED).publish(String(data="hello"))
    bench.spin_until(lambda: heard)
    assert [socket for socket in sockets_of() if socket[1] not in LOOPBACK] == []


def test_the_tests_have_a_domain_that_no_robot_and_no_other_tests_have():
    assert int(os.environ["ROS_DOMAIN_ID"]) in DOMAINS
    assert not set(LEADING_OUT) & set(os.environ)
    code = "from tests.ros_domain import own_domain\nwith own_domain() as domain: print(domain)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() != os.environ["ROS_DOMAIN_ID"]


def test_the_domain_and_the_ways_out_of_the_shell_are_left_and_given_back(monkeypatch):
    before = os.environ["ROS_DOMAIN_ID"]
    monkeypatch.setenv("ROS_DOMAIN_ID", str(DOMAINS[0]))
    monkeypatch.setenv("ROS_STATIC_PEERS", "192.0.2.1")
    with own_domain() as domain:
        assert domain not in (DOMAINS[0], int(before))
        assert os.environ["ROS_DOMAIN_ID"] == str(domain)
        assert "ROS_STATIC_PEERS" not in os.environ
    assert (os.environ["ROS_DOMAIN_ID"], os.environ["ROS_STATIC_PEERS"]) == (str(DOMAINS[0]), "192.0.2.1")
