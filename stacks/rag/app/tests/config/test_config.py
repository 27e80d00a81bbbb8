"""`rag.toml`: what may be said about where to listen and where the index is."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import settings

from rag_app.config import Config, load
from rag_app.errors import ConfigError


def loaded(folder: Path, server: str = "", more: str = "") -> Config:
    """The settings with these lines in `[server]`, and these sections at the end."""
    path = folder / "rag.toml"
    path.write_text(settings(8642, server=server, sections=more), encoding="utf-8")
    return load(path)


def test_without_a_word_everything_stays_on_this_host(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    assert (config.server.host, config.server.behind_gateway) == ("127.0.0.1", False)
    assert config.vectors.kind == "embedded"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "localhost", "::1", "[::1]"])
def test_loopback_needs_no_gateway(tmp_path: Path, host: str) -> None:
    assert loaded(tmp_path, f'host = "{host}"').server.host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.5", "web", "localhost.example"])
def test_an_open_address_needs_a_gateway(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match=r"rag\.toml: server: .*behind_gateway"):
        loaded(tmp_path, f'host = "{host}"')
    opened = loaded(tmp_path, f'host = "{host}"\nbehind_gateway = true')
    assert opened.server.host == host


def test_any_name_needs_a_gateway(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"allowed_hosts .* needs behind_gateway"):
        loaded(tmp_path, 'allowed_hosts = ["*"]')
    assert loaded(tmp_path, 'allowed_hosts = ["*"]\nbehind_gateway = true')


def test_a_server_for_the_index_is_named_with_its_key(tmp_path: Path) -> None:
    section = """[vectors]
kind = "server"
url = "https://qdrant:6333/"
api_key_file = "/run/secrets/qdrant"
ca_file = "tls/ca.pem"
timeout_s = 2.5
"""
    vectors = loaded(tmp_path, more=section).vectors
    assert (vectors.api_key_file, vectors.timeout_s) == (Path("/run/secrets/qdrant"), 2.5)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ('kind = "server"', "needs url"),
        ('kind = "server"\nurl = "qdrant:6333"', "needs url"),
        ('kind = "server"\nurl = "grpc://qdrant:6334"', "needs url"),
        ('kind = "server"\nurl = "http://:6333"', "needs url"),
        ('kind = "server"\nurl = "http://qdrant:0"', "needs url"),
        ('kind = "server"\nurl = "http://qdrant:99999"', "vectors"),
        ('kind = "server"\nurl = "http://me:secret@qdrant:6333"', "no password"),
        ('kind = "server"\nurl = "http://qdrant:6333/dashboard"', "ends with the port"),
        ('url = "http://qdrant:6333"', 'need kind = "server"'),
        ('api_key_file = "key"', 'need kind = "server"'),
        ('kind = "server"\nurl = "http://qdrant:6333"\ntimeout_s = 0.0', "timeout_s"),
        ('kind = "server"\nurl = "http://qdrant:6333"\napi_key = "k"', "api_key"),
        ('kind = "cloud"', "vectors.kind"),
    ],
)
def test_what_makes_no_index_is_refused(tmp_path: Path, lines: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        loaded(tmp_path, more=f"[vectors]\n{lines}\n")


SMALL = """[small]
kind = "openai"
url = "http://small:8000/v1"
model = "small"
"""
LARGE = SMALL.replace("small", "chat")


def with_small(folder: Path, old: str = "", new: str = "") -> Config:
    """The settings with two models and all that a router needs, but for `old`."""
    text = settings(8642, sections=LARGE.replace("[chat]", "[engine]") + SMALL)
    router = {"max_characters": 120, "max_turns": 0, "max_documents": 2, "min_evidence": 0.7}
    lines = "".join(f"router_{name} = {value}\n" for name, value in router.items())
    text = text.replace("[tuning]\n", f"[tuning]\n{lines}")
    text = text.replace("[prompts]\n", '[prompts]\nlarge_words = ["words.txt"]\n')
    assert old in text
    path = folder / "rag.toml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    return load(path)


def test_a_small_model_stands_beside_the_large_one(tmp_path: Path) -> None:
    config = with_small(tmp_path)
    assert config.small is not None
    assert (config.small.model, config.engine.model) == ("small", "chat")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("router_max_turns = 0\n", "", r"small needs tuning\.router_max_turns"),
        ('large_words = ["words.txt"]\n', "", r"small needs prompts\.large_words"),
        ('[engine]\nkind = "openai"', '[engine]\nkind = "extractive"', "both need kind"),
        ("router_min_evidence = 0.7", "router_min_evidence = 1.7", "router_min_evidence"),
    ],
)
def test_a_small_model_needs_a_router_and_a_large_one(
    tmp_path: Path, old: str, new: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        with_small(tmp_path, old, new)
