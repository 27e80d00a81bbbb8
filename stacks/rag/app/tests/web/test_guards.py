"""Host names, origins, security headers, health, metrics and the page's own files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from app_doubles import Box, make_box
from starlette.testclient import TestClient

from rag_app.interfaces import Readiness
from rag_app.web.app import build
from rag_app.web.page import STATIC

POLICY = "content-security-policy"


@pytest.mark.parametrize("host", ["127.0.0.1:8642", "localhost", "LOCALHOST:1", "[::1]:8642"])
def test_allowed_names_are_served(client: TestClient, host: str) -> None:
    assert client.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.", ""])
def test_foreign_names_are_refused(client: TestClient, host: str) -> None:
    response = client.get("/api/documents", headers={"host": host})
    assert response.status_code == 421
    assert response.json()["error"]["reference"] == "host-not-allowed"


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/ask"), ("DELETE", "/api/documents/x"), ("POST", "/v1/chat/completions")],
)
def test_pages_of_other_origins_may_change_nothing(
    client: TestClient, headers: dict[str, str], method: str, path: str
) -> None:
    assert client.request(method, path, headers=headers).status_code == 403


@pytest.mark.parametrize(
    "headers", [{}, {"origin": "http://127.0.0.1:8642"}, {"sec-fetch-site": "same-origin"}]
)
def test_programs_and_our_own_page_may(client: TestClient, headers: dict[str, str]) -> None:
    response = client.post("/api/search", json={"query": "a"}, headers=headers)
    assert response.status_code == 200


@pytest.mark.parametrize("path", ["/", "/api/documents", "/nothing", "/static/app.js", "/healthz"])
def test_every_response_carries_the_security_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    policy = headers[POLICY]
    for directive in ("default-src 'self'", "img-src 'self' data:", "frame-ancestors 'none'"):
        assert directive in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("method", ["PUT", "TRACE", "POST"])
def test_wrong_methods_have_the_error_shape(client: TestClient, method: str) -> None:
    response = client.request(method, "/healthz")
    assert response.status_code == 405
    assert response.json()["error"]["reference"] == "method-not-allowed"


def test_ready_says_why_not(client: TestClient, box: Box) -> None:
    assert client.get("/readyz").json() == {"ready": True}
    box.searcher.readiness = Readiness(ready=False, reason="indexing", pending=3)
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"ready": False, "reason": "indexing", "pending": 3}
    assert client.get("/healthz").status_code == 200


def test_metrics_count_requests_by_route_and_answers_by_engine(
    client: TestClient, box: Box
) -> None:
    client.post("/api/ask", json={"question": "How do I roll back?"})
    client.get("/api/documents/one")
    client.get("/made/up/by/a/visitor")
    text = client.get("/metrics").text
    assert 'rag_requests_total{method="POST",route="/api/ask",status="200"} 1.0' in text
    assert 'route="/api/documents/{id}",status="404"' in text
    assert 'route="other",status="404"' in text
    assert "visitor" not in text
    answers = 'rag_answers_total{degraded="false",engine="extractive",grounded="true"} 1.0'
    assert answers in text
    assert 'rag_documents{state="ready"} 1.0' in text
    assert "rag_passages 7.0" in text
    box.vectors.down = True
    assert client.get("/metrics").status_code == 200


def test_an_unchanged_file_is_not_sent_again(client: TestClient) -> None:
    tag = client.get("/static/app.js").headers["etag"]
    response = client.get("/static/app.js", headers={"if-none-match": tag})
    assert (response.status_code, response.content) == (304, b"")


def test_the_page_names_no_other_address_and_has_nothing_inline(client: TestClient) -> None:
    page = client.get("/").text
    assert re.findall(r'(?:src|href|action)="(?!/|#)[^"]*"', page) == []
    assert re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page) is None
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert re.search(r"https?://|@import|innerHTML|eval\(", text) is None, path.name


def test_behind_a_gateway_any_name_may_be_allowed_but_no_foreign_page(tmp_path: Path) -> None:
    gateway = {"behind_gateway": True, "host": "0.0.0.0", "allowed_hosts": ["*"]}
    box = make_box(tmp_path, server=gateway)
    with TestClient(build(box.services), base_url="https://box.example:8443") as client:
        assert client.get("/api/documents").status_code == 200
        path = "/api/documents/x"
        own, foreign = "https://box.example:8443", "https://evil.example"
        assert client.delete(path, headers={"origin": own}).status_code == 404
        forged = {"origin": foreign, "x-forwarded-host": "evil.example"}
        assert client.delete(path, headers=forged).status_code == 403
