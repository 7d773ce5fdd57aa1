"""The commands in the documentation are requests that the services take."""

import re
from importlib import import_module
from pathlib import Path

import pytest

pytest.importorskip("synseg_ros.srv", reason="needs ROS 2 and the built messages: use scripts/with_env")
yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).resolve().parents[2]
CALL = re.compile(r'ros2 service call (/\S+) (\w+)/srv/(\w+) (?:\\\n\s*)?"(.*)"')
SUBSTITUTION = re.compile(r"\$\([^)]*\)")


def calls():
    return [
        match.groups() for page in sorted((ROOT / "docs").glob("*.md")) for match in CALL.finditer(page.read_text())
    ]


def fill(message, fields):
    """Set fields as `ros2 service call` does; raise for a name or type that does not fit."""
    for name, value in fields.items():
        if isinstance(value, dict):
            fill(getattr(message, name), value)
        else:
            setattr(message, name, value)


def test_every_service_has_a_command():
    services = {path.stem for path in (ROOT / "srv").glob("*.srv")}
    assert {kind for _, _, kind, _ in calls()} == services


@pytest.mark.parametrize("call", calls(), ids=lambda call: call[3][:40])
def test_a_command_fills_a_request(call):
    name, package, kind, text = call
    request = getattr(import_module(f"{package}.srv"), kind).Request()
    fill(request, yaml.safe_load(SUBSTITUTION.sub("255, 216", text)))
    assert request != type(request)()
    assert name == "/synseg/" + re.sub(r"(?<!^)(?=[A-Z])", "_", kind).lower()
