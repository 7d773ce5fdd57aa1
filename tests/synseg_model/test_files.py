"""Files appear whole or not at all, whoever else writes them at the same time."""

import os
import re
import stat
import threading
from pathlib import Path

import pytest

from synseg_model import files
from synseg_model.files import write_whole


def test_threads_that_write_into_one_folder_at_once_do_not_mix_their_bytes(tmp_path):
    everyone_writes = threading.Barrier(2, timeout=30)

    def write(letter):
        def halves(file):
            file.write(letter * 1000)
            file.flush()
            everyone_writes.wait()
            file.write(letter * 1000)

        write_whole(tmp_path / f"{letter.decode()}.txt", halves)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "a.txt": b"a" * 2000,
        "b.txt": b"b" * 2000,
    }


def test_threads_that_write_the_same_file_at_once_leave_one_of_its_contents_whole(tmp_path):
    path, everyone_writes = tmp_path / "file", threading.Barrier(2, timeout=30)

    def write(letter):
        def halves(file):
            file.write(letter * 1000)
            everyone_writes.wait()
            file.write(letter * 1000)

        write_whole(path, halves, durable=False)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in (b"a" * 2000, b"b" * 2000)
    assert list(tmp_path.iterdir()) == [path]


def test_two_hosts_of_one_folder_with_equal_process_ids_have_different_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 7)
    assert files.part_of(tmp_path / "file") != files.part_of(tmp_path / "file")
    assert files.part_of(tmp_path / "file").parent == tmp_path


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_ends_the_writing_early_leaves_the_older_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(file):
        file.write(b"half")
        raise error

    with pytest.raises(type(error)):
        write_whole(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_durable_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced, path = [], tmp_path / "new" / "file"
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(path.exists()) or fsync(number))
    write_whole(path, lambda file: file.write(b"all"))
    assert synced == [False]
    write_whole(path, lambda file: file.write(b"all"), durable=False)
    assert synced == [False]


def test_others_may_read_a_file_as_the_umask_has_it(tmp_path):
    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "file", lambda file: file.write(b"all"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


def test_there_is_one_way_to_write_a_file_whole():
    root = Path(__file__).parents[2]
    packages = ("synseg_model", "synseg_ros", "training")
    sources = [path for package in packages for path in (root / package).rglob("*.py")]
    naming = {path.name for path in sources if re.search(r"mkstemp|getpid\(\)|os\.replace", path.read_text("utf-8"))}
    # A video's temporary file is OpenCV's to write, under a name that is made here too.
    assert naming == {"files.py", "result_files.py"}
