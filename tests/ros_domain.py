"""A ROS domain for the tests alone, out of reach of every robot, on this machine and elsewhere."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

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
        remove_dead_ports(domain)
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


def remove_dead_ports(domain: int, folder: Path = Path("/dev/shm")) -> None:
    """Remove the shared memory of a domain's processes that were killed.

    Fast DDS leaves it. Participants that find a dead port replace it. Two of them at once may make one each, and then
    hear nothing of each other.

    Args:
        domain: Number of the domain.
        folder: Where Linux has shared memory.
    """
    first = 7400 + 250 * domain  # of its ports, as the standard of DDS has it
    for path in folder.glob("fast*_port*"):
        port = re.fullmatch(r"fast(?:dds|rtps)_port(\d+)", path.name)
        if not port or not first <= int(port[1]) < first + 250:
            continue
        locks = [path.with_name(f"{path.name}_{kind}") for kind in ("el", "sl")]
        if not any(map(_is_locked, locks)):
            for file in (path, path.with_name(f"sem.{path.name}_mutex"), *locks):
                file.unlink(missing_ok=True)


def _is_locked(path: Path) -> bool:
    """Tell whether a process listens on a port, by its lock file."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _lock(domain: int, stack: contextlib.ExitStack) -> bool:
    if os.environ.get("ROS_DOMAIN_ID") == str(domain):  # where the robot of this shell is
        return False
    file = lock_domain(domain)
    if file is not None:
        stack.enter_context(file)
    return file is not None
