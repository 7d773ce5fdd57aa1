"""A job that takes long shows its steps."""

import logging

from synseg_model.export.steps import Steps


def test_a_step_says_how_long_the_one_before_took(caplog):
    caplog.set_level(logging.INFO)
    step = Steps(logging.getLogger("job"))
    step("first, the long one")
    step("second")
    step("done")
    assert caplog.messages[0] == "first, the long one"
    assert caplog.messages[1].startswith("second (first took 0.")
    assert caplog.messages[2].startswith("done (second took 0.")
