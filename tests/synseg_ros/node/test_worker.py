"""The worker's promises: the newest frame wins, tasks come between frames, errors end nothing."""

import threading

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from synseg_ros.node import worker as worker_module
from synseg_ros.node.frames import Frame
from synseg_ros.node.worker import Worker

pytestmark = pytest.mark.ros
PATIENCE = 10.0


class Recorder:
    """Segments by writing down, held up at a gate until the test opens it."""

    def __init__(self):
        self.seen, self.errors = [], []
        self.gate, self.busy, self.done = threading.Event(), threading.Event(), threading.Event()
        self.worker = Worker(self.segment, self.errors.append)

    def segment(self, frames):
        self.busy.set()
        assert self.gate.wait(PATIENCE)
        self.seen.append({frame.camera: frame.message for frame in frames})
        if "broken" in self.seen[-1].values():
            raise RuntimeError("cannot")

    def offer(self, camera, message):
        return self.worker.offer(Frame(camera, message, received=0.0))

    def hold(self):
        """Keep the worker busy with a first frame."""
        self.worker.start()
        self.offer("front", "first")
        assert self.busy.wait(PATIENCE)

    def finish(self):
        self.worker.between_frames(self.done.set)
        self.gate.set()
        assert self.done.wait(PATIENCE)


@pytest.fixture
def recorder():
    recorder = Recorder()
    yield recorder
    recorder.gate.set()
    recorder.worker.stop()


def settle(recorder):
    """Wait until the worker has taken the frames that wait for it."""
    frames_gone = threading.Event()
    recorder.offer("probe", "probe")
    while not any("probe" in frames for frames in recorder.seen):
        frames_gone.wait(0.01)


def test_the_newest_frame_replaces_one_that_waits(recorder):
    recorder.hold()
    free = [recorder.offer("front", frame) for frame in ("second", "third", "fourth")]
    recorder.gate.set()
    settle(recorder)
    assert free == [True, False, False]
    frames = [frames["front"] for frames in recorder.seen if "front" in frames]
    assert frames == ["first", "fourth"]


def test_one_camera_does_not_replace_the_frame_of_another(recorder):
    recorder.hold()
    assert recorder.offer("front", "second")
    assert recorder.offer("rear", "other")
    recorder.gate.set()
    settle(recorder)
    assert {"front": "second", "rear": "other"}.items() <= recorder.seen[1].items()


def test_tasks_run_in_order_before_the_frame_that_waits(recorder):
    recorder.hold()
    recorder.offer("front", "second")
    for name in ("task 1", "task 2"):
        recorder.worker.between_frames(lambda name=name: recorder.seen.append({"front": name}))
    recorder.gate.set()
    settle(recorder)
    assert [frames["front"] for frames in recorder.seen if "front" in frames][:4] == [
        "first",
        "task 1",
        "task 2",
        "second",
    ]


def test_an_error_is_reported_and_the_next_frame_is_segmented(recorder):
    recorder.gate.set()
    recorder.worker.start()
    recorder.offer("front", "broken")
    settle(recorder)
    recorder.offer("front", "good")
    recorder.finish()
    settle(recorder)
    assert [str(error) for error in recorder.errors] == ["cannot"]
    assert {"front": "good"} in recorder.seen


def test_stop_ends_the_thread_and_forgets_what_waits(recorder):
    recorder.hold()
    recorder.offer("front", "second")
    stopper = threading.Thread(target=recorder.worker.stop)
    stopper.start()
    recorder.gate.set()
    stopper.join(PATIENCE)
    assert not stopper.is_alive()
    assert recorder.seen[0] == {"front": "first"}
    assert recorder.offer("front", "late") in (True, False)
    assert len(recorder.seen) <= 2


def test_somebody_else_can_have_work_done_between_frames_and_wait_for_it(recorder):
    recorder.gate.set()
    recorder.worker.start()
    assert recorder.worker.in_turn(lambda: threading.current_thread().name) == "synseg-engine"
    with pytest.raises(KeyError, match="cannot"):
        recorder.worker.in_turn(lambda: {}["cannot"])
    assert recorder.errors == []
    recorder.worker.stop()
    with pytest.raises(RuntimeError, match="has ended"):
        recorder.worker.in_turn(dict)


def test_frames_that_wait_come_before_the_next_of_such_tasks(recorder):
    order, begun, go_on = [], threading.Event(), threading.Event()

    def first():
        begun.set()
        go_on.wait(PATIENCE)
        order.append("first task")

    recorder.gate.set()
    recorder.worker.start()
    waiter = threading.Thread(target=recorder.worker.in_turn, args=[first])
    waiter.start()
    assert begun.wait(PATIENCE)
    recorder.offer("front", "frame")
    recorder.worker.between_frames(lambda: order.append((*recorder.seen, "second task")))
    go_on.set()
    waiter.join(PATIENCE)
    settle(recorder)
    assert order == ["first task", ({"front": "frame"}, "second task")]


def test_the_worker_says_how_long_the_last_frames_took(recorder):
    recorder.hold()
    recorder.gate.set()
    settle(recorder)
    assert 0 < recorder.worker.round_seconds < PATIENCE


def test_the_oldest_frame_of_a_round_comes_first(recorder):
    recorder.hold()
    for camera in ("front", "rear", "left", "front"):
        recorder.offer(camera, "second")
    recorder.finish()
    settle(recorder)
    assert list(recorder.seen[1])[:3] == ["rear", "left", "front"]


def test_a_frame_is_done_when_it_has_been_offered_where_frames_are_quick(recorder, monkeypatch):
    monkeypatch.setattr(worker_module, "QUICK_SECONDS", PATIENCE)
    recorder.gate.set()
    recorder.worker.start()
    for number in range(3):
        recorder.offer("front", number)
        assert recorder.seen[-1] == {"front": number}


def test_nobody_waits_for_slow_frames_nor_for_a_worker_that_is_busy(recorder, monkeypatch):
    recorder.hold()
    monkeypatch.setattr(worker_module, "QUICK_SECONDS", 10 * PATIENCE)
    offered = threading.Event()
    for round_seconds in (0.0, 20 * PATIENCE):  # the worker is busy with the first frame, which the gate holds up
        recorder.worker.round_seconds = round_seconds
        thread = threading.Thread(target=lambda: (recorder.offer("front", "second"), offered.set()), daemon=True)
        thread.start()
        assert offered.wait(PATIENCE)
        offered.clear()
    assert recorder.seen == []


def test_a_frame_that_turns_out_slow_is_not_waited_for_to_its_end(recorder):
    recorder.worker.start()
    recorder.offer("front", "first")  # would never return: the gate is closed
    assert recorder.seen == []
