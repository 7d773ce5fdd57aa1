"""The open pages: each gets the newest state and the newest frame, as fast as it can take them and no faster."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Callable

from aiohttp import WSMsgType, web

from synseg_model.live.requests import carry_out
from synseg_model.live.session import DrawnFrame, RequestError, Session

__all__ = ["Pages"]

_MOST_ANSWERS = 20  # that wait for a page that does not read them


class Page:
    """Send to one page. What it has not taken yet is replaced by what is newer.

    Args:
        socket: the connection.
    """

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self._texts: deque[str] = deque(maxlen=_MOST_ANSWERS)  # to this page alone
        self._state: str | None = None
        self._frame: DrawnFrame | None = None
        self._ready = True  # for a frame: the one before has been shown
        self._news = asyncio.Event()

    def tell(self, text: str) -> None:
        """Send a text as it is."""
        self._texts.append(text)
        self._news.set()

    def set_state(self, state: str) -> None:
        """Send a state, unless a newer one comes first."""
        self._state = state
        self._news.set()

    def set_frame(self, frame: DrawnFrame) -> None:
        """Send a frame once the page is ready, unless a newer one comes first."""
        self._frame = frame
        self._news.set()

    def ready(self) -> None:
        """Note that the page has shown the latest frame."""
        self._ready = True
        self._news.set()

    async def send(self) -> None:
        """Send until the connection ends."""
        with contextlib.suppress(ConnectionError):
            while True:
                await self._news.wait()
                self._news.clear()
                while self._texts:
                    await self._socket.send_str(self._texts.popleft())
                if self._state is not None:
                    state, self._state = self._state, None
                    await self._socket.send_str(state)
                if self._frame is not None and self._ready:
                    frame, self._frame, self._ready = self._frame, None, False
                    await self._socket.send_str(json.dumps(frame.about))
                    await self._socket.send_bytes(frame.jpeg)


class Pages:
    """Know all open pages, and connect them with the session.

    Made and used in the event loop; `state_changed` and `frame_drawn` may be called from any thread.

    Args:
        loop: the event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pages: dict[Page, web.WebSocketResponse] = {}
        self.session: Session | None = None  # set once, before the first page

    def __len__(self) -> int:
        return len(self._pages)

    def state_changed(self) -> None:
        """Send the session's state to all pages."""
        self._call(self._send_state)

    def frame_drawn(self, frame: DrawnFrame) -> None:
        """Send a frame to all pages."""
        self._call(self._send_frame, frame)

    async def serve(self, socket: web.WebSocketResponse) -> None:
        """Serve one page until it closes.

        Args:
            socket: its connection, prepared.
        """
        page = Page(socket)
        self._pages[page] = socket
        self.session.count_pages(len(self._pages))
        page.set_state(json.dumps(self.session.state()))
        if self.session.drawn is not None:
            page.set_frame(self.session.drawn)
        sender = asyncio.create_task(page.send())
        try:
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    continue
                if message.data == "next":
                    page.ready()
                    continue
                try:
                    carry_out(message.data, self.session)
                except RequestError as error:
                    page.tell(json.dumps({"type": "error", "text": str(error)}))
        finally:
            sender.cancel()
            del self._pages[page]
            self.session.count_pages(len(self._pages))

    async def close(self) -> None:
        """Close all connections; pages try to come back."""
        for socket in list(self._pages.values()):
            await socket.close(code=1001, message=b"the server ends")

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(function, *arguments)

    def _send_state(self) -> None:
        state = json.dumps(self.session.state())
        for page in self._pages:
            page.set_state(state)

    def _send_frame(self, frame: DrawnFrame) -> None:
        for page in self._pages:
            page.set_frame(frame)
