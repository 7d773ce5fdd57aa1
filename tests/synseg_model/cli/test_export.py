"""`synseg export`: it shows that it lives."""

import pytest

from synseg_model.cli import main as cli


@pytest.mark.slow
@pytest.mark.usefixtures("small_graphs_at_hand")
def test_export_shows_its_steps(small_model, tmp_path, capsys):
    pytest.importorskip("onnxscript", reason="needs the extra export")
    assert cli.main(["export", str(small_model), "--output", str(tmp_path / "out")]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("synseg: ")]
    assert lines[0] == "synseg: loading the model"
    assert lines[1].startswith("synseg: turning the network into graphs, which takes longest (loading the model took ")
    assert lines[-1].startswith("synseg: done (comparing the graphs with torch took ")
