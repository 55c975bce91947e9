"""Decide which HTTP requests the server answers: none that come from pages of another origin.

If a user has a page of another origin open, that page can make the browser send requests to this
server, even if the server listens only at 127.0.0.1. The headers Origin and Sec-Fetch-Site, which
browsers set and scripts cannot change, show whether a request comes from such a page. If one of them
shows this, the request is refused. The one exception: a link on any page may open the web page of this
server.

A page could also have a host name of its own that points to 127.0.0.1 (DNS rebinding). Its requests
would seem to come from a page of this server. So the header Host must be an address of this server.

If the server has a token (a secret), every request must contain the token, too; see `Guard`.
"""

import hmac
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::")  # values of `--host` that mean all addresses of this machine
HTTP_PORT = 80  # the port that browsers leave out of an address and of the header Host

# Headers of every answer. Among other things, they tell the browser to load scripts and styles from
# this server only, not to show the page within another page, and to store no answer in its cache.
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
    """Why an HTTP request is not served."""

    status: int  # the status code of the HTTP answer
    message: str


@dataclass(frozen=True)
class Guard:
    """Decides which HTTP requests are served.

    Attributes:
      host: the address at which the server listens, as in `--host`.
      port: the port at which the server listens.
      token: a secret that every request must contain: in a cookie or, on the first visit, in the
        address. If it is "", requests need no secret.
    """

    host: str
    port: int
    token: str = ""

    def refusal(
        self, method: str, path: str, headers: Mapping[str, str], shown: str
    ) -> RefusedRequest | None:
        """Return why a request is refused; None if the request is served.

        Args:
          method: the HTTP method, such as GET.
          path: the path in the address, such as /events.
          headers: the headers of the request, by their names in lower case.
          shown: the token that the request contains, or "".
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
            # A link on another site may open the page itself, but no other address of this server.
            opens = method == "GET" and path == "/" and headers.get("sec-fetch-mode") == "navigate"
            if not (opens and headers.get("sec-fetch-dest") == "document"):
                return RefusedRequest(403, "requests of other pages are not served")
        if self.token and not hmac.compare_digest(shown.encode(), self.token.encode()):
            return RefusedRequest(
                401, "the token is missing or wrong; open the address that was printed"
            )
        return None

    def _is_own(self, host: str) -> bool:
        """Return whether `host`, the value of the HTTP header Host, names this server."""
        if self.port == HTTP_PORT and not re.search(r":\d+$", host):
            host += f":{HTTP_PORT}"
        name, colon, port = host.lower().rpartition(":")
        if not colon or port != str(self.port):
            return False
        name = name.removeprefix("[").removesuffix("]")
        if self.host in LOOPBACK:
            return name in LOOPBACK
        if self.host in EVERYWHERE:
            # Apart from localhost, only IP addresses are accepted. An attacker could let a host name
            # of their own point to this machine (DNS rebinding); an IP address does not allow this.
            return name == "localhost" or _is_address(name)
        return name in (self.host.lower(), *LOOPBACK)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
