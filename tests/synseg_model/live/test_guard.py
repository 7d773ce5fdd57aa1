"""Requests that other web pages make this machine's browser send are told apart."""

import pytest

from synseg_model.live.guard import is_local, is_our_host, is_our_origin


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.5", "::1", "localhost"])
def test_local_addresses(host):
    assert is_local(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "robot.local", ""])
def test_addresses_that_others_reach(host):
    assert not is_local(host)


@pytest.mark.parametrize(
    "header",
    ["127.0.0.1:8080", "localhost:9000", "LOCALHOST", "[::1]:8080", "192.168.1.5:8080", "Robot:8080", "robot.local"],
)
def test_own_names_and_addresses_are_accepted(header, monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "robot")
    assert is_our_host(header, "0.0.0.0")


@pytest.mark.parametrize(
    "header",
    ["", "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example:80", "a@localhost",
     "localhost/x", "localhost:port", "[::1", "1.2.3"],
)  # fmt: skip
def test_names_that_anybody_could_own_are_refused(header, monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "robot")
    assert not is_our_host(header, "127.0.0.1")


def test_the_name_that_the_server_listens_on_is_accepted():
    assert is_our_host("cam.lab.example:80", "cam.lab.example")


@pytest.mark.parametrize("origin", [None, "http://localhost:8080", "https://LOCALHOST:8080"])
def test_own_origins_are_accepted(origin):
    assert is_our_origin(origin, "localhost:8080")


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://localhost:3000",
        "http://localhost",
        "null",
        "",
        "file://",
        "http://127.0.0.1:8080",
    ],
)
def test_other_origins_are_refused(origin):
    assert not is_our_origin(origin, "localhost:8080")
