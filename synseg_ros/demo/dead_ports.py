"""What Fast DDS leaves of killed processes in Linux's shared memory.

A participant listens on ports, which are files there. Those of a killed process stay. A new participant takes such a
port as it is, and may then hear nothing: what the killed process never took still fills it.
"""

from __future__ import annotations

import fcntl
import re
import time
from pathlib import Path


def ports_of(domain: int) -> range:
    """Return the ports of a ROS domain, as the standard of DDS has them.

    Args:
        domain: Number of the domain.
    """
    return range(7400 + 250 * domain, 7650 + 250 * domain)


def remove_dead_ports(ports: range, fresh_seconds: float = 0.0, folder: Path = Path("/dev/shm")) -> None:
    """Remove ports that no process listens on.

    Args:
        ports: Their numbers.
        fresh_seconds: How old a port has to be, where another process may be starting.
        folder: Where Linux has shared memory.
    """
    for path in folder.glob("fast*_port*"):
        port = re.fullmatch(r"fast(?:dds|rtps)_port(\d+)", path.name)
        if not port or int(port[1]) not in ports:
            continue
        locks = [path.with_name(f"{path.name}_{kind}") for kind in ("el", "sl")]
        try:
            if time.time() - path.stat().st_mtime >= fresh_seconds and not any(map(_is_locked, locks)):
                for file in (path, path.with_name(f"sem.{path.name}_mutex"), *locks):
                    file.unlink(missing_ok=True)
        except OSError:  # another user's, or gone meanwhile
            continue


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
