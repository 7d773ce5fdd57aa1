"""The server over real connections: labels typed in give masks, and strangers, floods and slow pages do no harm."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket

import cv2
import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="needs the extra live")

import aiohttp

from synseg_model.io.sources import open_source
from synseg_model.live.requests import LARGEST_REQUEST
from synseg_model.live.server import MOST_PAGES, LiveServer
from synseg_model.live.source_feed import SourceFeed

PATIENCE = 60.0


class Tab:
    """A page's side of the WebSocket."""

    def __init__(self, connection):
        self.connection = connection
        self.state, self.about, self.image, self.errors, self.frames = None, None, None, [], 0

    async def do(self, kind: str, **request):
        await self.connection.send_str(json.dumps({"do": kind, **request}))

    async def receive(self):
        """Take one message as the page does; after an image, ask for the next."""
        message = await self.connection.receive(timeout=PATIENCE)
        if message.type is aiohttp.WSMsgType.BINARY:
            self.image = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
            self.frames += 1
            await self.connection.send_str("next")
        elif message.type is aiohttp.WSMsgType.TEXT:
            content = json.loads(message.data)
            if content["type"] == "state":
                self.state = content
            elif content["type"] == "frame":
                self.about = content
            else:
                self.errors.append(content["text"])
        else:
            raise ConnectionError(f"the connection ended: {message}")

    async def until(self, condition):
        while not condition(self):
            await self.receive()


@pytest.fixture
def serve(segmenter, clip):
    """Run a coroutine with a server of a video and a client session."""

    def serve(check):
        async def run():
            server = LiveServer(SourceFeed(open_source(clip), segmenter, "clip"))
            await server.start()
            try:
                async with aiohttp.ClientSession(server.url) as client:
                    await asyncio.wait_for(check(server, client), 2 * PATIENCE)
            finally:
                await server.stop()

        asyncio.run(run())

    return serve


@contextlib.asynccontextmanager
async def opened(client, **options):
    async with client.ws_connect("/live", **options) as connection:
        yield Tab(connection)


def test_labels_that_are_typed_give_masks_from_the_next_frame_on(serve):
    async def check(server, client):
        async with opened(client) as tab:
            await tab.until(lambda tab: tab.image is not None)
            assert tab.image.shape == (120, 160, 3) and tab.about["found"] == {}
            await tab.do("labels", labels=["car", " Tree "])
            await tab.until(lambda tab: tab.about["found"] and tab.frames)
            assert [each["label"] for each in tab.state["labels"]] == ["car", "Tree"]
            assert [*tab.about["found"]] == ["car", "Tree"]
            await tab.do("threshold", label="car", threshold=0.0)
            await tab.until(lambda tab: tab.about["found"]["car"][2] == 1.0)
            await tab.do("threshold", label="car", threshold=1.0)
            await tab.until(lambda tab: tab.about["found"]["car"][2] == 0.0)
            await tab.do("pause", on=True)
            await tab.until(lambda tab: tab.state["paused"])

    serve(check)


def test_a_mask_is_seen_in_the_image(serve):
    async def check(server, client):
        async with opened(client) as tab:
            await tab.do("pause", on=True)
            await tab.do("labels", labels=["car"])
            await tab.until(lambda tab: tab.state and tab.state["labels"] and tab.state["paused"])
            await tab.do("pause", on=False)
            await tab.until(lambda tab: tab.about and tab.about["found"])
            await tab.do("pause", on=True)
            await tab.do("threshold", label="car", threshold=1.0)
            await tab.until(lambda tab: tab.about["found"]["car"][2] == 0.0 and tab.about["latency_ms"] is None)
            frames = tab.frames
            await tab.until(lambda tab: tab.frames > frames)
            plain = tab.image
            await tab.do("threshold", label="car", threshold=0.0)
            await tab.until(lambda tab: tab.about["found"]["car"][2] == 1.0)
            frames = tab.frames
            await tab.until(lambda tab: tab.frames > frames)
            color = np.array(tuple(bytes.fromhex(tab.state["labels"][0]["color"][1:])))
            expected = 0.55 * plain + 0.45 * color
            assert np.abs(tab.image - expected)[10:-10, 10:-10].mean() < 10

    serve(check)


def test_several_tabs_share_labels_and_each_sees_refusals(serve):
    async def check(server, client):
        async with opened(client) as one, opened(client) as other:
            await one.do("labels", labels=["car"])
            for tab in (one, other):
                await tab.until(lambda tab: tab.state and tab.state["labels"])
            await other.do("labels", labels=["<b>bold</b>", "\u202e"])
            for tab in (one, other):
                await tab.until(lambda tab: tab.state["refusal"])
                assert "U+202E" in tab.state["refusal"]
                assert [each["label"] for each in tab.state["labels"]] == ["car"]

    serve(check)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("no JSON", "not JSON"),
        ("[" * 5000, "not JSON"),
        ("3", "expected labels, threshold"),
        ('{"do": "reboot"}', "'reboot'"),
        ('{"do": "labels", "labels": "car"}', "expected a list"),
        ('{"do": "labels", "labels": [1]}', "expected a list of texts"),
        ('{"do": "labels"}', "expected a list"),
        ('{"do": "show", "label": 3, "on": true}', "label is int"),
        ('{"do": "pause", "on": 1}', "expected true or false"),
        ('{"do": "threshold", "label": "nothing", "threshold": 0.5}', "not in use"),
    ],
)
def test_a_request_that_makes_no_sense_is_answered_and_the_page_goes_on(serve, text, error):
    async def check(server, client):
        async with opened(client) as tab:
            await tab.connection.send_str(text)
            await tab.until(lambda tab: tab.errors)
            assert error in tab.errors[0]
            await tab.until(lambda tab: tab.frames)

    serve(check)


def test_a_request_that_is_too_large_ends_its_connection_alone(serve):
    async def check(server, client):
        async with opened(client) as tab, opened(client) as flood:
            await flood.do("labels", labels=["x" * LARGEST_REQUEST])
            with pytest.raises(ConnectionError):
                await flood.until(lambda tab: False)
            frames = tab.frames
            await tab.until(lambda tab: tab.frames > frames + 2)

    serve(check)


def test_a_page_that_takes_nothing_holds_up_nobody(serve):
    async def check(server, client):
        async with opened(client) as slow, opened(client) as quick:
            await quick.until(lambda tab: tab.frames >= 10)
            await slow.receive()  # its state
            while slow.frames < 2:  # one frame was on the way, and the next one is the newest
                await slow.receive()
            frames = quick.frames
            await quick.until(lambda tab: tab.frames > frames + 2)

    serve(check)


@pytest.mark.parametrize("origin", ["http://evil.example", "http://localhost:3000", "null"])
def test_a_socket_that_another_page_opens_is_refused(serve, origin):
    async def check(server, client):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.ws_connect("/live", origin=origin)
        assert refused.value.status == 403

    serve(check)


def test_the_own_page_may_open_a_socket(serve):
    async def check(server, client):
        async with opened(client, origin=server.url.rstrip("/")) as tab:
            await tab.until(lambda tab: tab.state)

    serve(check)


@pytest.mark.parametrize("path", ["/", "/page.js", "/live", "/snapshot.png"])
def test_a_foreign_name_is_refused_on_every_path(serve, path):
    async def check(server, client):
        async with client.get(path, headers={"Host": "evil.example"}) as answer:
            assert answer.status == 403

    serve(check)


def test_files_come_with_a_strict_policy_and_load_nothing_from_elsewhere(serve):
    async def check(server, client):
        texts = []
        for path in ("/", "/page.css", "/page.js", "/labels.js"):
            async with client.get(path) as answer:
                assert answer.status == 200
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
                texts.append(await answer.text())
        assert [text for text in texts if "//cdn" in text or "https://" in text or "innerHTML" in text] == []
        for path in ("/page.js/../../session.py", "/session.py", "/..%2Fsession.py"):
            async with client.get(path) as answer:
                assert answer.status == 404

    serve(check)


def test_a_snapshot_is_the_newest_image_without_loss(serve):
    async def check(server, client):
        async with client.get("/snapshot.png") as answer:
            assert answer.status == 404 and "no image yet" in await answer.text()
        async with opened(client) as tab:
            await tab.until(lambda tab: tab.frames)
            await tab.do("pause", on=True)
            await tab.until(lambda tab: tab.state["paused"])
            async with client.get("/snapshot.png") as answer:
                assert answer.content_type == "image/png"
                assert 'filename="synseg_' in answer.headers["Content-Disposition"]
                png = cv2.imdecode(np.frombuffer(await answer.read(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
            np.testing.assert_array_equal(png, server.session.drawn.image)

    serve(check)


def test_so_many_pages_and_no_more(serve):
    async def check(server, client):
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(MOST_PAGES):
                await stack.enter_async_context(opened(client))
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client.ws_connect("/live")
            assert refused.value.status == 503

    serve(check)


def test_a_port_that_is_taken_is_named(segmenter, clip):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        feed = SourceFeed(open_source(clip), segmenter, "clip")
        refused = f"cannot listen on 127.0.0.1 port {port}: .*; choose another --port or --host"
        with pytest.raises(OSError, match=refused):
            asyncio.run(LiveServer(feed, port=port).start())
