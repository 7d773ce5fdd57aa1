"""Of Fast DDS's ports in shared memory, those go that nobody listens on, and no others."""

import fcntl

import pytest

from synseg_ros.demo.dead_ports import ports_of, remove_dead_ports

DEAD, ALIVE, OTHER = ports_of(215)[0], ports_of(215)[10], ports_of(216)[0]


@pytest.fixture
def folder(tmp_path):
    """Shared memory with a dead port, one with a listener, and one of another domain."""
    for port in (DEAD, ALIVE, OTHER):
        for name in (f"fastdds_port{port}", f"sem.fastdds_port{port}_mutex", f"fastdds_port{port}_el"):
            (tmp_path / name).touch()
    with (tmp_path / f"fastdds_port{ALIVE}_el").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield tmp_path


def test_dead_ports_of_the_domain_are_removed(folder):
    remove_dead_ports(ports_of(215), folder=folder)
    left = {path.name for path in folder.iterdir()}
    assert not any(str(DEAD) in name for name in left)
    assert len(left) == 6


def test_ports_of_processes_that_may_be_starting_stay(folder):
    remove_dead_ports(ports_of(215), 60.0, folder)
    assert len(list(folder.iterdir())) == 9
