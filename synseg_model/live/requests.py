"""What pages send, as JSON: checked, and carried out by the session."""

from __future__ import annotations

import json
from typing import Any

from synseg_model.live.session import RequestError, Session

__all__ = ["LARGEST_REQUEST", "carry_out"]

LARGEST_REQUEST = 65536  # bytes; the longest vocabulary that a model accepts by default has about 20,000 characters


def carry_out(text: str, session: Session) -> None:
    """Carry out one request of a page.

    Args:
        text: a JSON object: {"do": "labels", "labels": [...]}, {"do": "threshold", "label": ..., "threshold": ...},
            {"do": "show", "label": ..., "on": ...}, {"do": "names", "on": ...} or {"do": "pause", "on": ...}.
        session: what carries it out.

    Raises:
        RequestError: for anything else.
    """
    try:
        request = json.loads(text)
    except (ValueError, RecursionError):
        raise RequestError("the request is not JSON") from None
    kind = request.get("do") if isinstance(request, dict) else None
    if kind == "labels":
        labels = request.get("labels")
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise RequestError("labels: expected a list of texts")
        session.ask(labels)
    elif kind == "threshold":
        session.set_threshold(_text(request, "label"), request.get("threshold"))
    elif kind == "show":
        session.show(_text(request, "label"), _switch(request))
    elif kind == "names":
        session.show_names(_switch(request))
    elif kind == "pause":
        session.pause(_switch(request))
    else:
        raise RequestError(f"request {str(kind)[:40]!r}: expected labels, threshold, show, names or pause")


def _text(request: dict[str, Any], name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str):
        raise RequestError(f"{name} is {type(value).__name__}: expected a text")
    return value


def _switch(request: dict[str, Any]) -> bool:
    value = request.get("on")
    if not isinstance(value, bool):
        raise RequestError(f"on is {type(value).__name__}: expected true or false")
    return value
