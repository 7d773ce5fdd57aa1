"""Instances and scenes that tests draw."""

import numpy as np

from synseg_model.instances import Instance


def box_instance(x, y, width, height, label="cup", label_id=1, score=0.9):
    """Return an instance that fills its box."""
    return Instance(
        label_id=label_id,
        label=label,
        box=(x, y, width, height),
        area=width * height,
        score=score,
        mask=np.ones((height, width), bool),
        center=(x + (width - 1) / 2, y + (height - 1) / 2),
    )


def mask_instance(mask, label="cup", label_id=1):
    """Return the instance of a mask (H,W)."""
    rows, columns = np.nonzero(mask)
    x, y = int(columns.min()), int(rows.min())
    cut = mask[y : rows.max() + 1, x : columns.max() + 1]
    box = (x, y, cut.shape[1], cut.shape[0])
    return Instance(label_id, label, box, len(rows), 0.9, cut, (float(columns.mean()), float(rows.mean())))
