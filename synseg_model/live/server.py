"""The web server of `synseg live`: the page's files, a WebSocket for frames and requests, and snapshots."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
from aiohttp import web

from synseg_model.live.feed import Feed
from synseg_model.live.guard import SECURITY_HEADERS, is_local, is_our_host, is_our_origin
from synseg_model.live.pages import Pages
from synseg_model.live.requests import LARGEST_REQUEST
from synseg_model.live.session import Session

__all__ = ["LiveServer", "run_server"]

logger = logging.getLogger(__name__)

MOST_PAGES = 16
HEARTBEAT_SECONDS = 20.0  # after which a page that is gone without a word is noticed
CLOSE_SECONDS = 2.0

_FILES = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js", "/labels.js": "labels.js"}
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


class LiveServer:
    """Serve the page of one feed.

    Args:
        feed: what the page shows. The server starts and closes it.
        host: name or address to listen on.
        port: port to listen on; 0 for any free one.

    Attributes:
        host: as given.
        session: what all pages share, once the server has started.
        url: where the page is, once the server has started.
    """

    def __init__(self, feed: Feed, host: str = "127.0.0.1", port: int = 0) -> None:
        self._feed, self.host, self._port = feed, host, port
        self._runner: web.AppRunner | None = None
        self.session: Session | None = None
        self.url = ""

    async def start(self) -> None:
        """Listen, and start the feed.

        Raises:
            OSError: where nobody can listen on that host and port.
        """
        self._pages = Pages(asyncio.get_running_loop())
        self.session = self._pages.session = Session(self._feed, self._pages.state_changed, self._pages.frame_drawn)
        application = web.Application(middlewares=[self._guard], client_max_size=LARGEST_REQUEST)
        for path in _FILES:
            application.router.add_get(path, _send_file)
        application.router.add_get("/live", self._live)
        application.router.add_get("/snapshot.png", self._snapshot)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=CLOSE_SECONDS)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            reason = error.strerror or str(error)
            where = f"{self.host} port {self._port}"
            raise OSError(f"cannot listen on {where}: {reason}; choose another --port or --host") from None
        port = self._runner.addresses[0][1]
        shown = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host
        self.url = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"
        self.session.start()

    async def stop(self) -> None:
        """Close all pages, the feed and the port."""
        await self._pages.close()
        # In a thread: the feed's threads may be waiting to call this loop, or for a driver.
        await asyncio.to_thread(self.session.close)
        await self._runner.cleanup()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if not is_our_host(request.headers.get("Host", ""), self.host):
            raise web.HTTPForbidden(text="This name is not the server's: open the address that `synseg live` prints.")
        return await handler(request)

    async def _live(self, request: web.Request) -> web.StreamResponse:
        if not is_our_origin(request.headers.get("Origin"), request.headers["Host"]):
            raise web.HTTPForbidden(text="Another page opened this connection.")
        if len(self._pages) >= MOST_PAGES:
            raise web.HTTPServiceUnavailable(text=f"{MOST_PAGES} pages are open already.")
        # JPEGs do not get smaller.
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_SECONDS, max_msg_size=LARGEST_REQUEST, compress=False)
        await socket.prepare(request)
        await self._pages.serve(socket)
        return socket

    async def _snapshot(self, request: web.Request) -> web.StreamResponse:
        drawn = self.session.drawn
        if drawn is None:
            raise web.HTTPNotFound(text="There is no image yet.")
        png = await asyncio.to_thread(_encode_png, drawn.image)
        name = datetime.now().strftime("synseg_%Y%m%d_%H%M%S.png")
        headers = {**SECURITY_HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}
        return web.Response(body=png, content_type="image/png", headers=headers)


async def run_server(server: LiveServer, started: Callable[[LiveServer], None]) -> None:
    """Run a server until the process is asked to end, by Ctrl-C or SIGTERM.

    Args:
        server: the server.
        started: called once it listens.
    """
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ending.set)
    await server.start()
    try:
        started(server)
        if not is_local(server.host):
            logger.warning(
                "everybody who reaches this machine can see the page and change its labels: --host %s", server.host
            )
        await ending.wait()
    finally:
        await server.stop()


async def _send_file(request: web.Request) -> web.StreamResponse:
    path = Path(__file__).parent / "page" / _FILES[request.path]
    content = await asyncio.to_thread(path.read_text, "utf-8")
    return web.Response(text=content, content_type=_TYPES[path.suffix], headers=SECURITY_HEADERS)


def _encode_png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
