"""Which requests are served: those of this page at this address, with the token if there is one.

A page of another origin could otherwise send requests to a server on loopback by the visitor's own
browser, also under a name that it lets point to 127.0.0.1 (DNS rebinding). So the header Host must be
an address of this server, and the headers Origin and Sec-Fetch-Site, which browsers set and scripts
cannot change, must not tell of another origin.
"""

import hmac
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::")  # as `--host`: all addresses of this machine
HTTP_PORT = 80  # which browsers leave out of an address

# Headers of every answer. Scripts, styles and pictures come from this server only, and the page cannot
# be shown within another page.
ANSWER_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "media-src 'self' blob:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class RefusedRequest(NamedTuple):
    """Why a request is not served."""

    status: int
    message: str


@dataclass(frozen=True)
class Guard:
    """Decides which requests are served.

    Attributes:
      host: the address at which the server listens, as in `--host`.
      port: its port.
      token: the secret that every request must show in a cookie or, on the first visit, in the address;
        "" asks for none.
    """

    host: str
    port: int
    token: str = ""

    def refusal(
        self, method: str, path: str, headers: Mapping[str, str], shown: str
    ) -> RefusedRequest | None:
        """Return why a request is refused, or None.

        Args:
          method: such as GET.
          path: such as /events.
          headers: by names in lower case.
          shown: the token that the request shows, or "".
        """
        host = headers.get("host", "")
        if not self._is_own(host):
            return RefusedRequest(
                421, "this address is not that of the page; open the one that was printed"
            )
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"http://{host.lower()}":
            return RefusedRequest(403, "requests of other pages are not served")
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            # A link on another page may open this one, but nothing else of it.
            opens = method == "GET" and path == "/" and headers.get("sec-fetch-mode") == "navigate"
            if not (opens and headers.get("sec-fetch-dest") == "document"):
                return RefusedRequest(403, "requests of other pages are not served")
        if self.token and not hmac.compare_digest(shown.encode(), self.token.encode()):
            return RefusedRequest(
                401, "the token is missing or wrong; open the address that was printed"
            )
        return None

    def _is_own(self, host: str) -> bool:
        """Return whether a header Host names this server."""
        if self.port == HTTP_PORT and not re.search(r":\d+$", host):
            host += f":{HTTP_PORT}"
        name, colon, port = host.lower().rpartition(":")
        if not colon or port != str(self.port):
            return False
        name = name.removeprefix("[").removesuffix("]")
        if self.host in LOOPBACK:
            return name in LOOPBACK
        if self.host in EVERYWHERE:
            # No name, since another's name could be made to point here; a number cannot.
            return name == "localhost" or _is_address(name)
        return name in (self.host.lower(), *LOOPBACK)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
