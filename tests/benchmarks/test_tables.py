"""Tables hold what was measured, and say where nothing was."""

import json

import pytest

pytest.importorskip("jsonargparse", reason="needs the extra train")

from benchmarks.tables import COMPILED, GRAPH, NOTHING, TABLES, Results, TablesConfig, fill, main

PAGE = "# Speed\n\n<!-- table: {} -->\nold\n<!-- table end -->\n\nafter\n"


def write(folder, name, seconds, **more):
    folder.mkdir(exist_ok=True)
    machine = {"gpu": "a GPU", "cpu": "a CPU", "torch": "2"}
    (folder / f"{name}.json").write_text(json.dumps({"machine": machine, "seconds": seconds, **more}))


@pytest.mark.parametrize("name", TABLES)
def test_without_measurements_every_cell_says_so(name, tmp_path):
    lines = fill(PAGE.format(name), Results(tmp_path)).splitlines()
    assert lines[0] == "# Speed" and lines[-1] == "after" and "old" not in lines
    rows = [line for line in lines if line.startswith("|")][2:]
    assert rows and all(NOTHING in row for row in rows)


def test_figures_stand_in_their_cells_with_a_link(tmp_path):
    write(tmp_path / "results", "gpu_vit_1", {"20": {GRAPH: 0.0014}, "171": {GRAPH: 0.0051}})
    write(tmp_path / "results", "gpu_vit_1_compiled", {"20": {COMPILED: 0.00114}})
    results = Results(tmp_path / "results", tmp_path / "docs")
    rows = {line.split("|")[1].strip(): line for line in TABLES["gpu-frames"](results) if line.startswith("| ")}
    assert "[1.4](../results/gpu_vit_1.json) | [5.1](../results/gpu_vit_1.json)" in rows[GRAPH]
    assert "[1.14](../results/gpu_vit_1_compiled.json) | not measured" in rows[COMPILED]
    assert TABLES["gpu-frames"](results)[-1] == "Measured on: a GPU, torch 2."


def test_a_target_is_met_by_the_better_of_two_and_rates_from_below(tmp_path):
    write(tmp_path, "gpu_vit_1", {"20": {GRAPH: 0.002}}, after_change_seconds={"20": {GRAPH: 0.003}})
    write(tmp_path, "gpu_vit_1_compiled", {"20": {COMPILED: 0.001}})
    onnx = "onnxruntime, CUDA graph"
    write(tmp_path, "gpu_everyday_1", {"20": {onnx: 0.001}})
    write(tmp_path, "gpu_everyday_8", {"20": {GRAPH: 0.004, onnx: 0.003}})
    rates = {"0": {"images_per_second": 90}, "14": {"images_per_second": 1600}}
    write(tmp_path, "gpu_training", {}, by_reading_processes=rates)
    rows = {line.split(" |")[0]: line for line in TABLES["gpu-targets"](Results(tmp_path, tmp_path))}
    assert "[1 ms](gpu_vit_1_compiled.json)" in rows["| ViT-B/16, K = 20, one frame"]
    assert rows["| ViT-B/16, K = 20, one frame"].endswith("| yes |")
    everyday = rows["| synseg-everyday, K = 20, eight frames"]
    assert "2,000 frames/s" in everyday and everyday.endswith("| no |")
    ratio = rows["| synseg-everyday, K = 20, onnxruntime: eight frames over one"]
    assert "[3 ×](gpu_everyday_8.json)" in ratio and ratio.endswith("| yes |")
    assert "0.5 frames" in rows["| a new vocabulary of about the size, beyond a frame's own time"]
    trained = rows["| a training step, ViT-B/16 at 224 px, reading included"]
    assert "[1,600 images/s](gpu_training.json)" in trained and trained.endswith("| yes |")


def test_a_table_that_nobody_makes_and_a_damaged_file_are_named(tmp_path):
    with pytest.raises(ValueError, match="'speed': expected one of gpu-frames, gpu-targets"):
        fill(PAGE.format("speed"), Results(tmp_path))
    (tmp_path / "gpu_vit_1.json").write_text("{")
    with pytest.raises(ValueError, match=r"gpu_vit_1\.json is no JSON .*measure again"):
        fill(PAGE.format("gpu-frames"), Results(tmp_path))


def test_the_page_is_written_and_checked(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(PAGE.format("cpu-targets"))
    config = TablesConfig(str(tmp_path), str(page))
    assert main(TablesConfig(str(tmp_path), str(page), check=True)) == 1
    assert main(config) == 0 and "1 tables" in capsys.readouterr().out
    assert main(TablesConfig(str(tmp_path), str(page), check=True)) == 0
