"""What every request has to pass, and what every response tells a browser."""

import ipaddress
import socket

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def own_names(host: str) -> frozenset[str]:
    """The names by which this machine may be asked for, beside addresses."""
    return frozenset(name.lower() for name in ("localhost", host, socket.gethostname()))


class Guard:
    """Refuses what another site makes a browser ask.

    A name that its owner lets lead here (DNS rebinding) would make a page of theirs one of ours, so the Host must be an
    address, which nobody can let lead elsewhere, or one of our names. A browser also says from which site a request
    comes: another may link here, and no more.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str]):
        self.app, self.names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode", "")
        if not self._is_ours(headers.getlist("host")):
            refused = PlainTextResponse("This host is not served here; ask by address, or as localhost.\n", 421)
            await refused(scope, receive, send_guarded)
        elif site not in ("none", "same-origin") and mode != "navigate":
            await PlainTextResponse("Not for pages of other sites.\n", 403)(scope, receive, send_guarded)
        else:
            await self.app(scope, receive, send_guarded)

    def _is_ours(self, hosts: list[str]) -> bool:
        if len(hosts) != 1:
            return False
        host = hosts[0].rpartition(":")[0] if hosts[0].rpartition(":")[2].isdecimal() else hosts[0]
        if host.lower() in self.names:
            return True
        try:
            ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        except ValueError:
            return False
        return True
