"""Who may use our own pages below `/-/`: same-origin or token for changes, and off loopback token or login to read.

Wire: our choice – design of the project, section 3.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, quote

from aiohttp import web

from cloudfinite.errors import AccessDenied, MissingAuthorization
from cloudfinite.ports import Clock
from cloudfinite.web import replies
from cloudfinite.web.request import Request
from cloudfinite.wire.routing import is_loopback_host

LOGIN_PATH = "/-/login"
COOKIE = "cloudfinite-login"

_COOKIE_LIFE_S = 7 * 24 * 3600
_MAX_FORM_BYTES = 4_096
_PUBLIC = frozenset({"/-/health", "/-/ready", "/-/events/s3", LOGIN_PATH})
_INBOX = "/-/inbox/"
_EVENTS = "/-/events/s3"
_STATIC = "/-/static/"  # the login page's looks
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
# A reverse proxy on this machine makes everybody's requests look local; those that say so are not.
_PROXY_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")


class Guard:
    """Checks requests for our own pages, and makes the login cookie from the admin token."""

    def __init__(self, admin_token: str, clock: Clock) -> None:
        self._token = admin_token
        self._clock = clock

    def check(self, request: Request) -> web.Response | None:
        """None when the request may pass; else the way to the login. Raises AccessDenied, MissingAuthorization."""
        path, is_reading = request.path, request.method in _READING
        is_inbox_post = request.method == "POST" and path.startswith(_INBOX) and "/" not in path[len(_INBOX) :]
        is_public = path in _PUBLIC and (is_reading or path in (_EVENTS, LOGIN_PATH))
        is_public = is_public or (is_reading and path.startswith(_STATIC))
        if is_public or is_inbox_post:
            return None
        if self._has_token(request):
            return None
        if not is_reading and not _is_same_origin(request):
            raise AccessDenied("Changes need the admin token (Authorization: Bearer …) or a page of this server.")
        if is_local(request) or self._has_login(request):
            return None
        if is_reading and "text/html" in request.headers.get("Accept", ""):
            return replies.see_other(request, f"{LOGIN_PATH}?next={quote(path, safe='/')}")
        raise MissingAuthorization(
            "From another machine this needs the admin token (Authorization: Bearer …) or a login.",
            headers=(("WWW-Authenticate", "Bearer"),),
        )

    def _has_token(self, request: Request) -> bool:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self._is_token(token.strip())

    def _is_token(self, text: str) -> bool:
        # An unset token admits nobody.
        return bool(self._token) and hmac.compare_digest(text.encode("utf-8", "replace"), self._token.encode())

    # --- login -----------------------------------------------------------------------------------------------------

    async def log_in(self, request: Request) -> web.Response:
        """Take the token from a form (`token`, and `next`: the page to go to) and give a cookie made with it.

        No Sec-Fetch-Site is asked for: browsers send none to a plain-http address off loopback, and the form holds the
        token. Raises AccessDenied.
        """
        form = parse_qs((await request.body(_MAX_FORM_BYTES)).decode("utf-8", "replace"))
        if not self._is_token(form.get("token", [""])[0].strip()):
            raise AccessDenied("That is not the admin token; it lies in the data folder.")
        expires = str(int(self._clock().timestamp()) + _COOKIE_LIFE_S)
        cookie = f"{COOKIE}={expires}.{self._cookie_mac(expires)}; Path=/-/; Max-Age={_COOKIE_LIFE_S}"
        target = form.get("next", [""])[0]
        is_own = target.startswith("/-/") and "\\" not in target and target.isprintable() and target.isascii()
        return replies.see_other(
            request,
            target if is_own else "/-/console/",
            [("Set-Cookie", cookie + "; HttpOnly; SameSite=Strict")],
        )

    def _has_login(self, request: Request) -> bool:
        try:
            morsel = SimpleCookie(request.headers.get("Cookie", "")).get(COOKIE)
        except CookieError:
            return False
        expires, _, mac = morsel.value.partition(".") if morsel else ("", "", "")
        if not (self._token and expires.isascii() and expires.isdigit() and len(expires) < 13):
            return False
        is_genuine = hmac.compare_digest(mac.encode("utf-8", "replace"), self._cookie_mac(expires).encode())
        return is_genuine and int(expires) > self._clock().timestamp()

    def _cookie_mac(self, expires: str) -> str:
        return hmac.new(self._token.encode(), f"login until {expires}".encode(), hashlib.sha256).hexdigest()


def _is_same_origin(request: Request) -> bool:
    """Whether a page of this server sent it. Over plain http off loopback browsers tell by Origin alone."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    return request.headers.get("Origin", "") in (f"http://{request.host}", f"https://{request.host}")


def is_local(request: Request) -> bool:
    """Whether a request comes from this machine, to this machine, by a name of this machine, through no proxy."""
    transport = request.http.transport
    if transport is None or any(name in request.headers for name in _PROXY_HEADERS):
        return False
    ends = (transport.get_extra_info("peername"), transport.get_extra_info("sockname"))
    return is_loopback_host(request.host) and all(_is_loopback_end(end) for end in ends)


def _is_loopback_end(end: object) -> bool:
    if not isinstance(end, tuple) or not end:
        return False
    address = ipaddress.ip_address(str(end[0]).partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
