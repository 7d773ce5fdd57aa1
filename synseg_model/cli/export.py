"""`synseg export`: write a model as ONNX graphs, and print how far they are from torch."""

from __future__ import annotations

import argparse

from synseg_model.export.folder import export_model


def run(arguments: argparse.Namespace) -> int:
    """Export and print the parity report."""
    export = export_model(arguments.model, arguments.output, arguments.precision)
    for name, value in export.parity.items():
        print(f"{name.replace('_', ' '):<26}{value:.3g}")
    print(f"{arguments.model} -> {arguments.output}, {export.precision}")
    return 0
