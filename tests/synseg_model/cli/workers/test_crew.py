"""Tasks are done once, whatever happens to the workers, which are real processes here."""

import json

import pytest

from synseg_model.cli.workers.crew import Crew, shared_folder
from synseg_model.cli.workers.pools import ProcessPool, cpus_each
from synseg_model.cli.workers.report import Report
from tests.synseg_model.cli.workers.works import Doubling


def outcomes_of(work, tasks, folder, workers=2):
    report = Report(folder)
    with shared_folder(folder) as shared, Crew(ProcessPool(workers, gpus=False), work, shared, report) as crew:
        crew.settings(len(tasks))
        return dict(crew.run(tasks)), report


def test_an_item_that_kills_two_workers_fails_and_costs_no_other_item(tmp_path, caplog):
    found, report = outcomes_of(Doubling(tmp_path), [[1, "deadly", 2], [3], ["once"], ["word"]], tmp_path)
    assert {item: outcome.value for item, outcome in found.items() if not outcome.failure} == {
        1: 2,
        2: 4,
        3: 6,
        "once": "once",
    }
    assert found["deadly"].failure.startswith("given up after 2 workers; the worker was lost")
    assert found["word"].failure == "word is no number"
    assert report.images == 4 and report.retries == 4
    report.save(complete=True)
    written = json.loads((tmp_path / "report.json").read_text())
    states = [worker["state"] for worker in written["workers"]]
    assert states.count("lost") == 3 and written["images"] == 4 == sum(w["images"] for w in written["workers"])
    assert not list(tmp_path.glob(".synseg-*"))


def test_a_worker_that_breaks_is_replaced_and_a_full_disk_ends_the_run(tmp_path):
    found, _ = outcomes_of(Doubling(tmp_path), [["broken"], [5]], tmp_path, workers=1)
    assert found["broken"].failure == "given up after 2 workers; RuntimeError: the GPU fell off"
    assert found[5].value == 10
    with pytest.raises(OSError, match="No space left"):
        outcomes_of(Doubling(tmp_path), [["full"], [5]], tmp_path, workers=1)


def test_a_worker_that_cannot_start_or_sees_other_files_ends_the_run_with_its_reason(tmp_path):
    with pytest.raises(ValueError, match="no such model"):
        outcomes_of(Doubling(tmp_path, error="no such model"), [[1]], tmp_path)
    with (
        shared_folder(tmp_path, [tmp_path / "gone"]) as shared,
        pytest.raises(ValueError, match="does not see the inp"),
    ):
        shared.check()


def test_cpus_are_shared_out_by_machine():
    assert cpus_each([8, 8], 2) == 8
    assert cpus_each([8, 4], 3) == 4
    assert cpus_each([2, 2], 9) == 1
