"""TensorRT without a GPU: engines are built by tensorrt_rtx and kept; what runs them needs a GPU and is not here."""

import dataclasses
import logging
import shutil
import subprocess
import sys

import pytest

from synseg_model import ModelError
from synseg_model.cli.main import main
from synseg_model.config import ImageConfig
from synseg_model.engines.load import load_engine
from synseg_model.engines.tensorrt import flavour as tensorrt_flavour
from synseg_model.engines.tensorrt.build import Plans, Profile, build_plan
from synseg_model.engines.tensorrt.cache import EngineCache
from synseg_model.engines.tensorrt.flavour import device_index, load_flavour, missing
from synseg_model.weights.exported_folder import DECODER, GPU_GRAPHS, IMAGE_ENCODER, LABEL_MAP, MASKS, Export

pytest.importorskip("tensorrt_rtx", reason="comes for x86-64 Linux only")


@pytest.fixture(scope="module")
def flavour():
    return load_flavour()


@pytest.fixture(scope="module")
def built(tmp_path_factory, exported_small, flavour):
    """A cache folder in which a decoder has been built."""
    folder = tmp_path_factory.mktemp("cache")
    assert plans_of(exported_small, flavour, folder).get(DECODER)
    return folder


@pytest.fixture
def plans(tmp_path, built, exported_small, flavour):
    """Plans over a copy of `built`, to be damaged."""
    return plans_of(exported_small, flavour, shutil.copytree(built, tmp_path / "cache"))


def plans_of(exported, flavour, cache, gpu="", profile=None):
    return Plans(exported, flavour, gpu, profile or Profile(), EngineCache(cache))


def refuse_to_build():
    raise AssertionError("built although it is there")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_all_graphs_of_synseg_tiny_build_with_dynamic_profiles(tmp_path, exported_tiny, flavour, precision):
    folder = exported_tiny / precision
    plans = plans_of(folder, flavour, tmp_path)
    for name in GPU_GRAPHS:
        steps: list[tuple] = []
        plan = plans.get(name, report=lambda *step, steps=steps: steps.append(step))
        # Weights are inside; what is fewer would be an engine without them.
        assert len(plan) > 0.8 * Export.read(folder).files[name][0]
        assert steps[-1][1] == steps[-1][2] > 0
        assert plans.cache.read(plans.key(name)) == plan


@pytest.mark.parametrize("name", [LABEL_MAP, MASKS])
def test_what_makes_label_maps_and_masks_builds_for_the_largest_frames(tmp_path, exported_small, flavour, name):
    assert plans_of(exported_small, flavour, tmp_path).get(name)


def test_every_dynamic_size_is_limited_from_one_to_the_most(small_config):
    limits = Profile(labels=50, cameras=3, side=1000).limits(small_config, 16)
    assert limits["labels"] == (1, 20, 50) and limits["batch"] == (1, 1, 3)
    assert limits["height"] == (1, 480, 1000) and limits["width"] == (1, 640, 1000)
    for height, width in [(480, 640), (1, 1000), (1000, 1), (333, 999), (7, 7)]:
        for axis, side in zip(("rows", "columns"), small_config.image.input_size(height, width, 16), strict=True):
            least, usual, most = limits[axis]
            assert least <= side // 16 <= most and least <= usual <= most
            map_axis = {"rows": "map_height", "columns": "map_width"}[axis]
            assert limits[map_axis] == tuple(16 * count for count in limits[axis])
    square = Profile().limits(dataclasses.replace(small_config, image=ImageConfig(352)), 16)
    assert square["rows"] == square["columns"] == (22, 22, 22)


def test_an_engine_is_built_once_and_read_after_that(plans):
    key = plans.key(DECODER)
    assert plans.cache.get(key, refuse_to_build) == plans.cache.read(key)


def test_the_key_has_all_that_an_engine_depends_on(exported_small, flavour, plans, tmp_path):
    key = plans.key(DECODER)
    assert key.graph == Export.read(exported_small).files[DECODER][1]
    assert (key.flavour, key.version, key.precision) == ("tensorrt_rtx", flavour.trt.__version__, "fp32")
    others = [
        plans_of(exported_small, flavour, tmp_path, gpu="NVIDIA RTX").key(DECODER),
        plans_of(exported_small, flavour, tmp_path, profile=Profile(labels=8)).key(DECODER),
        plans.key(IMAGE_ENCODER),
        *(dataclasses.replace(key, **{field.name: "another"}) for field in dataclasses.fields(key)),
    ]
    paths = {plans.cache.path(other) for other in [key, *others]}
    assert len(paths) == len(others) + 1
    assert all(plans.cache.read(other) is None for other in others)


@pytest.mark.parametrize("damage", ["empty", "cut", "one byte", "no header", "another key's"])
def test_a_damaged_or_stale_engine_is_built_again(plans, damage, caplog):
    key = plans.key(DECODER)
    path, plan = plans.cache.path(key), plans.cache.read(key)
    data = bytearray(path.read_bytes())
    if damage == "one byte":
        data[-100] ^= 1
    elif damage == "another key's":
        stale = dataclasses.replace(key, version="10.0.1")
        plans.cache.get(stale, lambda: plan)
        data = plans.cache.path(stale).read_bytes()
    else:
        data = {"empty": b"", "cut": data[:-1], "no header": plan}[damage]
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        assert plans.cache.get(key, lambda: b"built again") == b"built again"
    assert "is damaged or of another key" in caplog.text
    assert plans.cache.get(key, refuse_to_build) == b"built again"


def test_a_new_version_of_tensorrt_builds_anew_and_leaves_the_old_engine(plans):
    key = plans.key(DECODER)
    newer = dataclasses.replace(key, version="99.0")
    assert plans.cache.get(newer, lambda: b"newer") == b"newer"
    assert plans.cache.get(key, refuse_to_build) != b"newer"


def test_an_engine_that_tensorrt_does_not_accept_is_built_again(plans, flavour, caplog):
    key = plans.key(DECODER)
    loaded = plans.cache.get(key, lambda: b"new", load=lambda plan: plan if plan == b"new" else None)
    assert loaded == b"new" and "is not accepted by tensorrt_rtx" in caplog.text


def test_looking_for_an_engine_builds_none_and_deletes_one_that_is_not_accepted(plans, monkeypatch, caplog):
    monkeypatch.setattr("synseg_model.engines.tensorrt.build.build_plan", refuse_to_build)
    assert plans.find(IMAGE_ENCODER) is None
    assert plans.find(DECODER) == plans.cache.read(plans.key(DECODER))
    assert plans.find(DECODER, load=lambda plan: None) is None
    assert "is not accepted by tensorrt_rtx" in caplog.text
    assert not plans.cache.path(plans.key(DECODER)).exists()


def test_after_a_build_that_was_killed_the_next_one_builds_and_clears_up(plans, tmp_path):
    code = f"""
from synseg_model.engines.tensorrt.cache import EngineCache, EngineKey
EngineCache({str(tmp_path)!r}).get(EngineKey(*"abcdefg"), lambda: print("building", flush=True) or input())
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        assert process.stdout.readline() == "building\n"
        process.kill()
    (tmp_path / "engines" / f".{process.pid}.part").write_bytes(b"half of an engine")
    cache = EngineCache(tmp_path)
    assert cache.get(plans.key(DECODER), lambda: b"plan") == b"plan"
    assert {path.name for path in (tmp_path / "engines").iterdir()} == {"lock", cache.path(plans.key(DECODER)).name}


def test_two_processes_at_once_build_one_engine(tmp_path, exported_small, flavour):
    code = f"""
from pathlib import Path
from synseg_model.engines.tensorrt import build as tensorrt_build
from synseg_model.engines.tensorrt.cache import EngineCache
from synseg_model.engines.tensorrt.flavour import load_flavour
print("ready", flush=True)
input()
built = []
build = tensorrt_build.build_plan
tensorrt_build.build_plan = lambda *given: built.append(given) or build(*given)
plans = tensorrt_build.Plans(
    Path({str(exported_small)!r}), load_flavour(), "", tensorrt_build.Profile(), EngineCache({str(tmp_path)!r})
)
assert len(plans.get({DECODER!r})) > 1000
print(len(built))
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    counts = [process.communicate("go\n")[0].strip() for process in processes]
    assert sorted(counts) == ["0", "1"]
    assert [path.suffix for path in tmp_path.joinpath("engines").iterdir() if path.name != "lock"] == [".engine"]


def test_where_nothing_can_be_written_engines_are_built_at_every_start(tmp_path, plans, caplog):
    (tmp_path / "file").touch()
    cache = EngineCache(tmp_path / "file")
    assert cache.get(plans.key(DECODER), lambda: b"plan") == b"plan"
    assert cache.get(plans.key(DECODER), lambda: b"again") == b"again"
    assert "engines are built at every start" in caplog.text


def test_a_build_that_fails_leaves_nothing_and_lets_the_next_one_build(tmp_path, plans):
    cache = EngineCache(tmp_path / "new")
    with pytest.raises(AssertionError):
        cache.get(plans.key(DECODER), refuse_to_build)
    assert cache.get(plans.key(DECODER), lambda: b"plan") == b"plan"


def test_what_tensorrt_cannot_read_or_build_is_said_in_its_words(flavour, exported_small):
    with pytest.raises(ModelError, match=r"tensorrt_rtx .* cannot read decoder\.onnx: "):
        build_plan(flavour, b"no graph", DECODER, {}, has_gpu=False)
    graph = Export.read(exported_small).check_file(exported_small, DECODER).read_bytes()
    limits = dict.fromkeys(("batch", "rows", "columns", "labels"), (4, 2, 1))  # most below least
    with pytest.raises((ModelError, ValueError)):
        build_plan(flavour, graph, DECODER, limits, has_gpu=False)


def test_ctrl_c_ends_a_build(flavour, exported_small, small_config):
    def interrupt(*_):
        raise KeyboardInterrupt

    graph = Export.read(exported_small).check_file(exported_small, DECODER).read_bytes()
    limits = Profile().limits(small_config, 16)
    with pytest.raises(KeyboardInterrupt):
        build_plan(flavour, graph, DECODER, limits, False, interrupt)


def test_the_command_builds_all_engines_and_says_where_they_lie(tmp_path, exported_small, monkeypatch, capsys):
    monkeypatch.setenv("SYNSEG_CACHE_DIR", str(tmp_path))
    assert main(["build-engine", str(exported_small)]) == 0
    said = capsys.readouterr().out
    files = {path.name for path in (tmp_path / "engines").glob("*.engine")}
    assert len(files) == 4 and all(name in said for name in files)
    assert main(["build-engine", str(tmp_path / "nothing")]) == 2


def test_the_command_fails_where_its_engines_cannot_be_kept(tmp_path, exported_small, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SYNSEG_CACHE_DIR", str(tmp_path / "file"))
    assert main(["build-engine", str(exported_small)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "cannot keep the engine of image_encoder.onnx: set $SYNSEG_CACHE_DIR to" in last


@pytest.mark.parametrize("device", ["cpu", "gpu", "cuda:x", ""])
def test_a_device_that_is_no_gpu_is_refused_with_the_choices(device):
    with pytest.raises(ValueError, match="runs on auto, cuda or cuda:N"):
        device_index(device)


def test_rtx_serves_some_gpus_and_tensorrt_needs_one(flavour):
    assert flavour.supports((8, 9)) and flavour.supports(None)
    assert not flavour.supports((9, 0))  # H100 and H200
    plain = dataclasses.replace(flavour, name="tensorrt")
    assert plain.supports((9, 0)) and not plain.supports(None)
    with pytest.raises(ModelError, match=r"tensorrt_rtx .* needs another GPU: .* capability is \(9, 0\)"):
        load_flavour((9, 0))


def test_auto_says_why_it_does_not_take_tensorrt(exported_small, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "synseg_model")
    monkeypatch.setattr("synseg_model.engines.load._has_openvino", lambda: False)
    assert load_engine(exported_small, "auto", "cpu").name == "onnxruntime"
    assert "for tensorrt, the device is cpu" in caplog.text
    monkeypatch.setattr(tensorrt_flavour, "FLAVOURS", ("no_such_tensorrt",))
    assert missing() == "neither tensorrt nor tensorrt_rtx is installed"
