"""What the box says about itself: above all, where questions and documents go."""

from __future__ import annotations

from dataclasses import replace

import pytest
from app_doubles import Box
from starlette.testclient import TestClient

from rag_app.config import Embedding, Engine
from rag_app.web.app import build

HERE = (
    "",
    "http://127.0.0.1:8000/v1",
    "http://[::1]:8000/v1",
    "http://localhost/v1",
    "http://engine.localhost/v1",
)
ELSEWHERE = {
    "https://api.example.com/v1": "api.example.com",
    "http://10.0.0.7:8000/v1": "10.0.0.7",
    "http://localhost.example.com/v1": "localhost.example.com",
    "http://user:secret@gpu-1:8000/v1": "gpu-1",
}


def said(box: Box, engine: Engine, embedding: Embedding | None = None) -> tuple[str, str]:
    config = box.services.config.model_copy(update={"engine": engine, "embedding": embedding})
    app = build(replace(box.services, config=config))
    body = TestClient(app, base_url="http://127.0.0.1:8642").get("/healthz").json()
    return body["engine_host"], body["embedding_host"]


@pytest.mark.parametrize(("url", "host"), [*dict.fromkeys(HERE, "").items(), *ELSEWHERE.items()])
def test_the_host_of_a_model_is_named_unless_it_is_this_one(box: Box, url: str, host: str) -> None:
    embedding = Embedding(url=url, model="m", dimension=2)
    assert said(box, Engine(kind="openai", url=url, model="m")) == (host, "")
    assert said(box, Engine(), embedding) == ("", host)


def test_a_part_of_the_box_is_no_other_host(box: Box) -> None:
    url = "http://chat:8000/v1"
    embedding = Embedding(url=url, model="m", dimension=2, in_box=True)
    assert said(box, Engine(kind="openai", url=url, model="m", in_box=True), embedding) == ("", "")


def test_an_engine_that_is_not_used_gets_nothing(box: Box) -> None:
    assert said(box, Engine(kind="extractive", url="https://api.example.com/v1")) == ("", "")
