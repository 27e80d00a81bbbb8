"""The page and its files, read once at the start; nothing comes from anywhere else."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

STATIC = Path(__file__).parent / "static"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def page_routes() -> list[Route]:
    """`/` and one route for each file below `/static/`; there is no path to traverse."""
    routes = [
        Route(f"/static/{path.name}", _serve(path))
        for path in sorted(STATIC.iterdir())
        if path.suffix in _TYPES
    ]
    return [Route("/", _serve(STATIC / "index.html")), *routes]


def _serve(path: Path) -> Callable[[Request], Awaitable[Response]]:
    content = path.read_bytes()
    headers = {
        "etag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        # Asked again each time, answered with 304: after an upgrade no old script is left.
        "cache-control": "no-cache",
    }
    media_type = _TYPES[path.suffix]

    async def file(request: Request) -> Response:
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)

    return file
