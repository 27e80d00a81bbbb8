"""Who may talk to this server from a browser, and what a browser may do with its answers.

Pure ASGI: a wrapper that copies bodies would slow every stream.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag_app.config import ANY_HOST
from rag_app.web.refusal import Refusal, respond

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class SecureHeaders:
    """Adds the security headers that a route has not set itself, to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, secured)


class GuardOrigin:
    """Refuses foreign names (DNS rebinding) and changes asked for by foreign pages.

    Programs send no `Origin`; browsers send it with everything that is not a plain read. The
    name `*` allows all names, for a server whose gateway looks at them.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Iterable[str]) -> None:
        self._app = app
        self._allowed = frozenset(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._judge(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
            return
        await respond(refusal, openai=scope["path"].startswith("/v1/"))(scope, receive, send)

    def _judge(self, scope: Scope) -> Refusal | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if ANY_HOST not in self._allowed and host_name(host) not in self._allowed:
            return Refusal(
                421,
                "host-not-allowed",
                "This server does not answer to that name.",
                hint="Use one of the names in `allowed_hosts`, or add this one to the site values"
                " and type: aibox install",
            )
        if scope["method"] not in _SAFE_METHODS and _is_foreign(headers, host):
            return Refusal(
                403,
                "foreign-origin",
                "A page of another origin may not change anything here.",
                hint=f"Open the page of this server: {host}",
            )
        return None


def host_name(host: str) -> str:
    """The name in a `Host` header, without its port; `[::1]` keeps its brackets."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _is_foreign(headers: Headers, host: str) -> bool:
    origin = headers.get("origin")
    if origin is not None:
        # Behind a TLS proxy the scheme differs from ours; the name and port must not.
        return urlsplit(origin).netloc.lower() != host
    return headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}
