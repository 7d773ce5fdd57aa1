"""The bootstrap says what is wrong in one line, and its steps are done once for the same inputs."""

import contextlib
import fcntl
import importlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

BOOTSTRAP = Path(__file__).resolve().parents[2] / "scripts" / "bootstrap"


@pytest.fixture
def module(monkeypatch, tmp_path):
    """Import a module of the bootstrap, which is a program and no package, for an environment in tmp_path."""
    monkeypatch.setenv("SYNSEG_VENV", str(tmp_path / "venv"))
    monkeypatch.delenv("SYNSEG_EXTRAS", raising=False)
    monkeypatch.delenv("SYNSEG_NEEDS", raising=False)
    monkeypatch.syspath_prepend(str(BOOTSTRAP))
    yield importlib.import_module
    for name in ("machine", "process", "steps"):
        sys.modules.pop(name, None)


@pytest.fixture
def run_bootstrap(tmp_path):
    """Run the bootstrap for an environment in tmp_path with further variables; returns the finished process."""

    def run(**variables):
        ours = ("ROS_DISTRO", "AMENT_PREFIX_PATH", "SYNSEG_ROS_DISTRO", "SYNSEG_NEEDS", "CXX")
        clean = {name: value for name, value in os.environ.items() if name not in ours}
        return subprocess.run(
            [sys.executable, BOOTSTRAP],
            env={**clean, "SYNSEG_VENV": str(tmp_path / "venv"), **variables},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"ROS_DISTRO": "humble", "AMENT_PREFIX_PATH": "/opt/ros/humble"}, "humble"),
        ({"SYNSEG_ROS_DISTRO": "foxy"}, "foxy"),
        ({"CXX": "no-such-compiler"}, "g++"),
    ],
)
def test_what_will_not_do_is_refused_in_one_line(run_bootstrap, tmp_path, variables, named):
    done = run_bootstrap(**variables)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert named in done.stderr
    assert not (tmp_path / "venv").exists()


def test_environment_for_a_sourced_ros_is_not_replaced_in_a_shell_without_it(run_bootstrap, tmp_path):
    stamps = tmp_path / "venv" / "synseg-stamps"
    stamps.mkdir(parents=True)
    made_for = '{"ros": {"distro": "jazzy", "from": "sourced", "prefix": "/opt/ros/jazzy"}}'
    (stamps / "identity.json").write_text(made_for)
    done = run_bootstrap()
    assert done.returncode == 1
    assert "/opt/ros/jazzy" in done.stderr
    assert (stamps / "identity.json").read_text() == made_for


def test_a_complete_environment_does_not_wait_for_another_one_of_the_project(module, run_bootstrap):
    steps = module("steps")
    for step in steps.plan({"distro": "kilted", "from": "wheels", "prefix": ""}):
        step.stamp.parent.mkdir(parents=True, exist_ok=True)
        step.stamp.write_text(step.key)
    project = os.open(steps.ROOT, os.O_RDONLY)
    with contextlib.suppress(BlockingIOError):  # locked it is, too, while `make env` runs
        fcntl.flock(project, fcntl.LOCK_EX | fcntl.LOCK_NB)
    done = run_bootstrap()
    os.close(project)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_run_waits_for_another_one_and_says_so(module, tmp_path, monkeypatch):
    process, said = module("process"), threading.Event()
    monkeypatch.setattr("builtins.print", lambda text, **options: "this project" in text and said.set())

    def take():
        with process.only_one_at_a_time(tmp_path, "this project"):
            pass

    waiting = threading.Thread(target=take)
    with process.only_one_at_a_time(tmp_path, "this project"):
        waiting.start()
        assert said.wait(30) and waiting.is_alive()
    waiting.join(30)
    assert not waiting.is_alive()


def test_missing_python_headers_are_named_with_their_package(module, monkeypatch, tmp_path):
    machine = module("machine")
    monkeypatch.setattr(machine.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    with pytest.raises(module("process").BootstrapError, match=r"Python\.h.*apt install python3\.\d+-dev"):
        machine.check({"from": "wheels", "distro": "kilted", "prefix": ""})


def test_step_is_done_once_for_the_same_inputs(module, tmp_path):
    step, calls = module("steps").Step, []
    step("title", tmp_path / "stamp", lambda: calls.append("first"), "a").run("[1/1]")
    step("title", tmp_path / "stamp", lambda: calls.append("again"), "a").run("[1/1]")
    step("title", tmp_path / "stamp", lambda: calls.append("changed"), "b").run("[1/1]")
    assert calls == ["first", "changed"]


def test_interrupted_step_is_not_done(module, tmp_path):
    def interrupted():
        raise KeyboardInterrupt

    step = module("steps").Step
    step("title", tmp_path / "stamp", lambda: None, "a").run("[1/1]")
    with pytest.raises(KeyboardInterrupt):
        step("title", tmp_path / "stamp", interrupted, "b").run("[1/1]")
    assert not step("title", tmp_path / "stamp", lambda: None, "a").is_done()
    assert not step("title", tmp_path / "stamp", lambda: None, "b").is_done()


def test_package_that_an_interrupted_pip_left_is_not_taken_for_installed(module, tmp_path):
    site = tmp_path / "venv" / "lib" / "python3.11" / "site-packages"
    for name in ("whole-1.0.dist-info", "half-1.0.dist-info"):
        (site / name).mkdir(parents=True)
        (site / name / "METADATA").touch()
    (site / "whole-1.0.dist-info" / "RECORD").touch()
    module("steps").Step("title", tmp_path / "stamp", lambda: None).run("[1/1]")
    assert [path.name for path in site.iterdir()] == ["whole-1.0.dist-info"]


@pytest.fixture
def sleeping(module, monkeypatch, tmp_path):
    """Let the build of the messages be a long sleep; returns the commands that were started."""
    process, started = module("process"), []

    def start(step, command, **variables):
        started.append(process.Command(step, [sys.executable, "-c", "import time; time.sleep(60)"]))
        return started[-1]

    monkeypatch.setattr(process, "LOGS", tmp_path / "log")
    monkeypatch.setattr(module("steps"), "Command", start)
    return started


def test_a_failed_installation_ends_the_build_beside_it(module, sleeping):
    steps = module("steps")
    steps.MESSAGES_STAMP.parent.mkdir(parents=True)
    steps.MESSAGES_STAMP.write_text("of an earlier build")

    def fail():
        assert sleeping[0]._process.poll() is None
        raise steps_error("no network")

    steps_error = module("process").BootstrapError
    with pytest.raises(steps_error, match="no network"):
        steps.MessageBuild("venv").run_beside(fail)
    assert sleeping[0]._process.returncode is not None
    assert not steps.MESSAGES_STAMP.exists(), "what was built by half is not taken for whole"


def test_messages_are_built_once_beside_the_installation(module, sleeping, monkeypatch):
    steps = module("steps")
    monkeypatch.setattr(steps, "run", lambda *arguments: None)
    build = steps.MessageBuild("venv")
    build.run_beside(lambda: None)
    sleeping[0].stop()
    with pytest.raises(module("process").BootstrapError, match="'messages' failed"):
        build.finish()
    assert len(sleeping) == 1


def test_sourced_ros_keeps_its_numpy(module, tmp_path):
    steps = module("steps")
    steps.STAMPS.mkdir(parents=True)
    steps.write_constraints({"from": "sourced", "distro": "jazzy", "prefix": "/opt/ros/jazzy"})
    lines = (steps.STAMPS / "constraints.txt").read_text().splitlines()
    numpy = importlib.import_module("numpy").__version__
    assert [line for line in lines if line.startswith(("numpy", "opencv"))] == [f"numpy=={numpy}"]
    assert any(line.startswith("torch==") for line in lines)


def test_an_environment_beside_the_usual_one_has_messages_of_its_own(module, tmp_path, monkeypatch):
    steps = module("steps").plan({"distro": "jazzy", "from": "wheels", "prefix": ""})
    assert {step.stamp.relative_to(tmp_path / "venv").parts[0] for step in steps} == {"synseg-stamps", "workspace"}


def test_extras_choose_the_libraries_and_nothing_before_them(module, monkeypatch):
    steps = module("steps")
    ros = {"distro": "kilted", "from": "wheels", "prefix": ""}
    everything = [step.key for step in steps.plan(ros)]
    monkeypatch.setattr(steps, "EXTRAS", "onnx")
    assert [a == b for a, b in zip(everything, (step.key for step in steps.plan(ros)), strict=True)] == [
        True, True, False, False,
    ]  # fmt: skip


def test_an_environment_keeps_its_extras_until_others_are_asked_for(module, monkeypatch):
    steps = module("steps")
    assert steps.EXTRAS == steps.TO_RUN
    monkeypatch.setattr(steps, "run_pip", lambda *arguments: None)
    monkeypatch.setattr(steps, "EXTRAS", "onnx")
    steps.STAMPS.mkdir(parents=True)
    steps.install_libraries()
    monkeypatch.delenv("SYNSEG_EXTRAS", raising=False)
    assert importlib.reload(steps).EXTRAS == "onnx"
    monkeypatch.setenv("SYNSEG_EXTRAS", "dev")
    assert importlib.reload(steps).EXTRAS == "dev"


@pytest.mark.parametrize(
    ("there", "needed", "chosen"),
    [
        ("", "", "openvino,bag"),
        ("", "test", "dev"),
        ("onnx,bag,test", "test", "onnx,bag,test"),
        ("dev", "docs", "dev"),
        ("openvino,bag", "docs", "openvino,bag,docs"),
        ("openvino,bag", "torch", "openvino,bag,torch"),
    ],
)
def test_a_target_gets_the_extra_that_it_needs(module, monkeypatch, there, needed, chosen):
    monkeypatch.setenv("SYNSEG_EXTRAS", there)
    assert module("steps").choose_extras(needed) == chosen


def test_what_runs_a_model_is_an_extra_without_torch(module):
    tomllib = pytest.importorskip("tomllib", reason="the standard library reads TOML from Python 3.11 on")
    extras = tomllib.loads((BOOTSTRAP.parents[1] / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    requirements = [each for name in module("steps").TO_RUN.split(",") for each in extras[name]]
    assert requirements
    assert [each for each in requirements if each.startswith(("torch", "synseg["))] == []


def test_failed_command_is_reported_with_its_reason_and_last_lines(module, tmp_path, monkeypatch):
    process = module("process")
    monkeypatch.setattr(process, "LOGS", tmp_path)
    with pytest.raises(process.BootstrapError, match="'tool' failed: ERROR: no such thing") as caught:
        process.run("tool", [sys.executable, "-c", "print('at work'); raise SystemExit('ERROR: no such thing')"])
    assert "at work" in caught.value.output


@pytest.mark.parametrize(
    ("output", "attempts"), [("ReadTimeoutError: Read timed out.", 2), ("ERROR: No matching distribution found", 1)]
)
def test_installation_is_tried_again_after_a_failure_of_the_network_only(module, monkeypatch, output, attempts):
    process, calls = module("process"), []

    def fail_once(step, command):
        calls.append(step)
        if len(calls) == 1:
            raise process.BootstrapError("failed", output)

    monkeypatch.setattr(process, "run", fail_once)
    monkeypatch.setattr(process.time, "sleep", lambda seconds: None)
    with contextlib.suppress(process.BootstrapError):
        process.run_pip("libraries", "torch")
    assert len(calls) == attempts


@pytest.mark.parametrize("is_set", [False, True])
def test_where_no_compiled_files_are_wanted_among_the_sources_they_lie_in_the_environment(
    module, monkeypatch, tmp_path, is_set
):
    own = str(tmp_path / "own") if is_set else None
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    if own:
        monkeypatch.setenv("PYTHONPYCACHEPREFIX", own)
    says = "import sys; print(sys.dont_write_bytecode, sys.pycache_prefix)"
    steps = module("process").environment()
    done = subprocess.run([sys.executable, "-c", says], env=steps, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", own or str(tmp_path / "venv" / "pycache")]
    monkeypatch.delenv("SYNSEG_VENV")
    commands = [BOOTSTRAP.parent / "with_env", "python", "-c", says]
    done = subprocess.run(commands, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", own or str(BOOTSTRAP.parents[1] / ".venv" / "pycache")]
