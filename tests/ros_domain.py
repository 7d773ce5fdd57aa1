"""A ROS domain for the tests alone, out of reach of every robot, on this machine and elsewhere."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from synseg_ros.demo.dead_ports import remove_dead_ports
from synseg_ros.demo.processes import DOMAINS, lock_domain

# What else would lead out of the machine, or to other processes on it.
LEADING_OUT = (
    "ROS_STATIC_PEERS",
    "ROS_LOCALHOST_ONLY",
    "ROS_DISCOVERY_SERVER",
    "ROS_SUPER_CLIENT",
    "ROS2_EASY_MODE",
    "FASTDDS_DEFAULT_PROFILES_FILE",
    "FASTRTPS_DEFAULT_PROFILES_FILE",
    "CYCLONEDDS_URI",
    "ZENOH_ROUTER_CONFIG_URI",
    "ZENOH_SESSION_CONFIG_URI",
    "ZENOH_CONFIG_OVERRIDE",
)

SHARED_PORTS = range(7000, 7400)  # of Fast DDS's participants in all domains
FRESH_SECONDS = 60.0  # a younger one may belong to a process of another domain that is just starting


def isolated(domain: int) -> dict[str, str]:
    """Return the environment variables that keep ROS in one domain on this machine.

    Fast DDS has sockets to the network even in the range LOCALHOST, in which it ignores the transport that is asked
    for. With shared memory alone it has none.
    """
    if os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps").startswith("rmw_fastrtps"):
        reach = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET", "FASTDDS_BUILTIN_TRANSPORTS": "SHM"}
    else:
        reach = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    return {"ROS_DOMAIN_ID": str(domain), **reach}


@contextlib.contextmanager
def own_domain() -> Iterator[int]:
    """Take a domain that no other tests on this machine have, and set the environment for it."""
    with contextlib.ExitStack() as stack:
        domain = next((number for number in DOMAINS if _lock(number, stack)), DOMAINS[-1])
        remove_dead_ports(SHARED_PORTS, FRESH_SECONDS)
        variables = isolated(domain)
        before = {name: os.environ.get(name) for name in (*variables, *LEADING_OUT)}
        for name in LEADING_OUT:
            os.environ.pop(name, None)
        os.environ.update(variables)
        try:
            yield domain
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _lock(domain: int, stack: contextlib.ExitStack) -> bool:
    if os.environ.get("ROS_DOMAIN_ID") == str(domain):  # where the robot of this shell is
        return False
    file = lock_domain(domain)
    if file is not None:
        stack.enter_context(file)
    return file is not None
