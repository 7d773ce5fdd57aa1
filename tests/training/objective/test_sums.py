import torch

from training.objective.sums import weighted_sum


def test_a_sum_weighs_the_total_of_a_term_and_tells_its_parts():
    parts = {"masks": torch.tensor(2.0), "competition": torch.tensor(4.0), "total": torch.tensor(4.0)}
    found = weighted_sum([("masks", 0.5, parts), ("named", 3.0, torch.tensor(1.0))])
    assert {name: value.item() for name, value in found.items()} == {
        "total": 5.0, "masks": 2.0, "competition": 4.0, "named": 1.0,
    }  # fmt: skip
    assert "total" in parts, "what a term returned is left as it is"
