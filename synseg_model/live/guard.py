"""Who may talk to the server: browsers that show this server's own page, and programs that are no browser.

Any web page can make its reader's browser send requests to this machine. Two headers tell such requests apart. `Host`
holds the name that the browser looked up, so it is foreign where a foreign name was made to point to this machine (DNS
rebinding). `Origin` names the page that opens a WebSocket, so it is foreign where another page does.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

__all__ = ["SECURITY_HEADERS", "is_local", "is_our_host", "is_our_origin"]

# The page is plain files of this server: nothing else is loaded, sent to, or allowed to frame it.
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def is_local(host: str) -> bool:
    """Tell whether only programs on this machine reach an address that a server listens on.

    Args:
        host: a name or an address.
    """
    if host == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def is_our_host(header: str, bound: str) -> bool:
    """Tell whether a Host header names this server. A port forward may change the port, so any will do.

    Args:
        header: the header, such as "localhost:8080".
        bound: the host that the server was told to listen on.
    """
    name = _name(header)
    if not name:
        return False
    if _address(name) is not None:  # nobody can make an address point elsewhere
        return True
    own = socket.gethostname().lower()
    return name in {"localhost", bound.lower(), own, f"{own}.local"}


def is_our_origin(origin: str | None, host: str) -> bool:
    """Tell whether a WebSocket was opened by this server's page, or by a program that is no browser.

    Args:
        origin: the Origin header; None where there is none, as only browsers send it.
        host: the Host header.
    """
    if origin is None:
        return True
    return origin.lower() in {f"http://{host.lower()}", f"https://{host.lower()}"}


def _name(header: str) -> str:
    try:
        parts = urlsplit(f"//{header}")
        _ = parts.port  # raises for a port that is no number
    except ValueError:
        return ""
    if parts.path or parts.query or parts.fragment or parts.username is not None:
        return ""
    return (parts.hostname or "").rstrip(".")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
