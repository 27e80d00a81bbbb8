"""What is rendered for containers: hardened throughout, no secret in it, restarts what changed."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import pin_examples
import stack_examples as stacks
from aibox import prerequisites
from aibox.errors import BadUsage
from aibox.prerequisites import Prerequisites
from aibox.render import compose_value
from aibox.site import Container, EmbeddingEndpoint, Engine, Site
from examples import LOCK
from rag_app.config import Config

FULL = stacks.profile_text(
    stacks.CHAT + stacks.EMBEDDING, (*stacks.SERVICES, "embedding", "rerank")
)
TWO = stacks.with_small(FULL)
GPU = stacks.profile_text(stacks.ON_GPUS, extra=stacks.HARDWARE)
SITE = Site(container=Container(names=("box.example.org", "192.0.2.10")))
EMBEDDED = LOCK.replace("[embedding]", '[embedding.cpu]\nmodel = "vectors"\ndimension = 3')


def compose(text: str | None = None, site: Site = SITE, **images: Any) -> dict[str, Any]:
    made = stacks.rendered(stacks.release(text, **images), site)
    return dict(yaml.safe_load(made.files["config/compose.yaml"]))


@pytest.mark.parametrize("text", [None, FULL, TWO, GPU], ids=["cpu", "all", "small", "gpu"])
def test_every_service_is_hardened(text: str | None) -> None:
    read = compose(text)
    for name, service in read["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "gateway" else [])
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert re.fullmatch(r"7000[1-7]:7000[1-7]", service["user"]), name
        assert service["restart"] == "no", name
        assert service["pull_policy"] == "never", name
        assert int(service["mem_limit"].removesuffix("m")) > 0, name
        assert service["memswap_limit"] == service["mem_limit"], name
        assert service["pids_limit"] > 0, name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}, name
        assert service["dns"] == ["127.0.0.1"], name
        assert service["stop_grace_period"].endswith("s"), name
        assert "healthcheck" in service, name
        assert re.fullmatch(r"aibox/[a-z0-9.-]+:[0-9a-f]{16}", service["image"]), name
        refused = {"privileged", "network_mode", "pid", "ipc", "userns_mode", "devices", "build"}
        assert not refused & set(service), name


def test_nothing_but_the_gateway_can_be_reached_or_reaches_out() -> None:
    read = compose(FULL)
    named = "com.docker.network.bridge.name"
    inside, outside = read["networks"]["inside"], read["networks"]["outside"]
    assert inside == {"internal": True, "driver_opts": {named: "aibox-inside"}}
    masquerade = {"com.docker.network.bridge.enable_ip_masquerade": "false"}
    assert outside["driver_opts"] == {named: "aibox-outside", **masquerade}
    for name, service in read["services"].items():
        on = ["inside", "outside"] if name == "gateway" else ["inside"]
        assert service["networks"] == on, name
        assert ("ports" in service) == (name == "gateway")


def test_only_folders_of_the_box_are_mounted_and_few_can_be_written() -> None:
    writable = set()
    for name, service in compose(FULL)["services"].items():
        for mount in service.get("volumes", []):
            assert mount["type"] == "bind"
            assert mount["bind"] == {"create_host_path": False}
            assert re.fullmatch(
                r"(\.\./(config|tree)|\.\./\.\./(data|tls|cache))/\S+", mount["source"]
            )
            if not mount["read_only"]:
                writable.add((name, mount["source"].split("/")[2]))
    assert writable == {
        ("gateway", "tls"),
        *((name, "data") for name in ("web", "ingest", "qdrant")),
        *((name, "cache") for name in ("chat", "embedding", "rerank")),
    }


def test_each_reads_its_own_secrets_alone() -> None:
    read = compose(FULL)
    readers = {
        name: sorted(item["source"] for item in service.get("secrets", []))
        for name, service in read["services"].items()
    }
    assert readers == {
        "gateway": [],
        "web": [
            *("app.chat-api-key", "app.embedding-api-key", "app.qdrant-api-key"),
            "app.rerank-api-key",
        ],
        "ingest": ["app.embedding-api-key", "app.qdrant-api-key"],
        "qdrant": ["qdrant.qdrant-api-key"],
        **{name: [f"{name}.{name}-api-key"] for name in ("chat", "embedding", "rerank")},
    }
    small = compose(TWO)["services"]
    assert [item["source"] for item in small["small"]["secrets"]] == ["small.small-api-key"]
    assert "app.small-api-key" in {item["source"] for item in small["web"]["secrets"]}
    assert small["ingest"]["secrets"] == read["services"]["ingest"]["secrets"]
    for name, secret in read["secrets"].items():
        reader, key = name.split(".")
        assert secret == {"file": f"../../secrets/{reader}/{key}"}


def test_the_footing_makes_what_the_services_need() -> None:
    made = stacks.rendered(stacks.release(FULL), SITE)
    needed = Prerequisites.model_validate(json.loads(made.files["config/footing.json"]))
    read = yaml.safe_load(made.files["config/compose.yaml"])
    owner = {folder.path: needed.users[folder.user] for folder in needed.folders}
    for service in read["services"].values():
        for mount in service.get("volumes", []):
            if not mount["read_only"]:
                path = mount["source"].removeprefix("../../")
                assert f"{owner[path]}:{owner[path]}" == service["user"]
    files = {
        f"../../{prerequisites.path_of_secret(r, s.name)}"
        for s in needed.secrets
        for r in s.readers
    }
    assert {secret["file"] for secret in read["secrets"].values()} == files
    assert len(set(needed.users.values())) == len(needed.users)


@pytest.mark.parametrize("text", [None, FULL, TWO, GPU], ids=["cpu", "all", "small", "gpu"])
def test_rendering_is_deterministic_and_every_file_can_be_read(text: str | None) -> None:
    made = stacks.rendered(stacks.release(text), SITE)
    assert made == stacks.rendered(stacks.release(text), SITE)
    for path, data in made.files.items():
        match path.rpartition(".")[2]:
            case "yaml":
                assert yaml.safe_load(data), path
            case "toml":
                Config.model_validate(tomllib.loads(data.decode()))
            case "json":
                assert json.loads(data), path
            case "py":
                ast.parse(data)
            case _:
                assert path == "config/Caddyfile"
    assert not [path for path in made.files if "supervisord" in path]


def test_the_engine_gets_the_boxs_choices_and_the_locked_arguments() -> None:
    made = stacks.rendered(stacks.release(GPU), SITE)
    assert yaml.safe_load(made.files["config/chat.serve.yaml"]) == {
        "model": "/model",
        "served-model-name": ["small"],
        "runner": "generate",
        "host": "0.0.0.0",
        "port": 8000,
        "tensor-parallel-size": 2,
        "chat-template": "/model/chat_template.jinja",
        "disable-fastapi-docs": True,
        "disable-uvicorn-access-log": True,
        "shutdown-timeout": 120,
        "enforce-eager": True,
        "max-model-len": 1024,
    }
    chat = yaml.safe_load(made.files["config/compose.yaml"])["services"]["chat"]
    (device,) = chat["deploy"]["resources"]["reservations"]["devices"]
    assert device == {
        "driver": "cdi",
        "capabilities": ["gpu"],
        "device_ids": ["nvidia.com/gpu=0", "nvidia.com/gpu=1"],
    }
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK"):
        assert chat["environment"][name] == "1"


def test_an_engine_on_the_cpu_has_no_device() -> None:
    chat = compose()["services"]["chat"]
    assert "deploy" not in chat
    assert chat["environment"]["VLLM_CPU_KVCACHE_SPACE"] == "1"


def test_the_application_asks_the_box_itself() -> None:
    made = stacks.rendered(stacks.release(FULL), SITE)
    read = Config.model_validate(tomllib.loads(made.files["config/rag.toml"].decode()))
    assert (read.server.behind_gateway, read.server.allowed_hosts) == (True, ("*",))
    assert (read.engine.url, read.engine.model) == ("http://chat:8000/v1", "small")
    assert str(read.engine.api_key_file) == "/run/secrets/chat-api-key"
    assert (read.vectors.kind, read.vectors.url) == ("server", "http://qdrant:6333")
    assert read.embedding is not None
    assert (read.embedding.url, read.embedding.in_box) == ("http://embedding:8000/v1", True)
    assert read.rerank is not None
    assert (read.rerank.url, read.rerank.model) == ("http://rerank:8000/v1", "order")
    assert (read.rerank.candidates, str(read.rerank.api_key_file)) == (
        30,
        "/run/secrets/rerank-api-key",
    )


def rag_toml(text: str, site: Site = SITE) -> Config:
    made = stacks.rendered(stacks.release(text), site)
    return Config.model_validate(tomllib.loads(made.files["config/rag.toml"].decode()))


def test_the_application_is_told_of_a_small_model_and_of_its_router() -> None:
    read = rag_toml(TWO)
    assert read.small is not None
    assert (read.small.url, read.small.model) == ("http://small:8000/v1", "smaller")
    assert (read.small.in_box, read.small.timeout_s) == (True, 5.0)
    assert str(read.small.api_key_file) == "/run/secrets/small-api-key"
    assert read.engine.url == "http://chat:8000/v1"
    assert {name: getattr(read.tuning, name) for name in stacks.ROUTER} == stacks.ROUTER
    folder = stacks.STACKS / "prompts"
    assert [(folder / path.name).is_file() for path in read.prompts.large_words] == [True, True]


def test_without_a_small_model_nothing_is_said_of_it() -> None:
    read = rag_toml(FULL)
    assert (read.small, read.prompts.large_words) == (None, ())
    assert "router" not in stacks.release(FULL).manifest().decode()


def test_the_small_model_steps_aside_where_the_site_names_who_answers() -> None:
    engine = Engine(kind="openai", url="http://192.0.2.7/v1", model="m")
    assert rag_toml(TWO, Site(engine=engine)).small is None


def test_the_small_model_is_asked_for_its_health_like_the_large_one() -> None:
    files = stacks.rendered(stacks.release(TWO), SITE).files
    assert b'"/v1/completions"' in files["config/small.ask.py"]
    assert b'"model": "smaller"' in files["config/small.ask.py"]
    assert yaml.safe_load(files["config/small.serve.yaml"])["served-model-name"] == ["smaller"]


def test_a_small_model_restarts_nobody_but_who_asks_it() -> None:
    before, after = (stacks.rendered(stacks.release(text), SITE) for text in (FULL, TWO))
    assert stacks.changed(before, after) == {"small", "web"}


def test_what_counts_as_evidence_is_the_releases_or_the_applications_own() -> None:
    tuned = "dimension = 3\nsimilarity_floor = 0.5\nsimilarity_ceiling = 0.9"
    for text, ends in ((FULL, (0.4, 0.8)), (FULL.replace("dimension = 3", tuned), (0.5, 0.9))):
        made = stacks.rendered(stacks.release(text), SITE)
        read = Config.model_validate(tomllib.loads(made.files["config/rag.toml"].decode()))
        assert read.embedding is not None
        assert (read.embedding.similarity_floor, read.embedding.similarity_ceiling) == ends


def test_another_number_of_candidates_restarts_who_ranks_alone() -> None:
    after = stacks.rendered(stacks.release(FULL.replace("candidates = 30", "candidates = 20")))
    assert stacks.changed(stacks.rendered(stacks.release(FULL)), after) == {"web"}


def test_an_endpoint_of_the_site_opens_a_way_for_who_asks_it_and_nobody_else() -> None:
    engine = Engine(kind="openai", url="http://192.0.2.7/v1", model="m", api_key_file="/etc/key")
    read = compose(site=Site(engine=engine))
    on = {name: service["networks"] for name, service in read["services"].items()}
    assert on["web"] == ["inside", "elsewhere"]
    assert on["ingest"] == ["inside"]
    assert "app.site-engine-api-key" in read["secrets"]
    made = stacks.rendered(stacks.release(FULL, EMBEDDED), Site())
    assert "elsewhere" not in yaml.safe_load(made.files["config/compose.yaml"])["networks"]
    without = stacks.profile_text()
    site = Site(embedding=EmbeddingEndpoint(url="http://192.0.2.7/v1"))
    made = stacks.rendered(stacks.release(without, EMBEDDED), site)
    services = yaml.safe_load(made.files["config/compose.yaml"])["services"]
    assert services["ingest"]["networks"] == ["inside", "elsewhere"]


def test_the_authority_of_an_endpoint_is_handed_to_who_asks_it() -> None:
    named = {"url": "https://192.0.2.7/v1", "model": "m", "ca_file": "/etc/ca.pem"}
    site = Site(engine=Engine(kind="openai", **named))
    made = stacks.rendered(site=site)
    read = Config.model_validate(tomllib.loads(made.files["config/rag.toml"].decode()))
    assert read.engine.ca_file == Path("/run/secrets/site-engine-ca")
    assert "app.site-engine-ca" in compose(site=site)["secrets"]
    assert "ca_file" not in Site().model_dump_json()


@pytest.mark.parametrize(
    ("url", "resolved"),
    [
        ("http://192.0.2.7/v1", set()),
        ("http://[2001:db8::7]/v1", set()),
        ("http://llm.example.org:8000/v1", {"web"}),
    ],
)
def test_only_who_asks_an_endpoint_by_name_asks_the_hosts_resolver(
    url: str, resolved: set[str]
) -> None:
    read = compose(site=Site(engine=Engine(kind="openai", url=url, model="m")))
    assert {n for n, service in read["services"].items() if "dns" not in service} == resolved


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.8.9.1"])
def test_an_endpoint_inside_the_asking_container_is_refused(host: str) -> None:
    site = Site(engine=Engine(kind="openai", url=f"http://{host}:11434/v1", model="m"))
    with pytest.raises(BadUsage, match="container of the application itself"):
        stacks.rendered(site=site)
    with pytest.raises(BadUsage, match=r"embedding\.url"):
        stacks.rendered(
            stacks.release(stacks.profile_text(), EMBEDDED),
            Site(embedding=EmbeddingEndpoint(url=f"http://{host}/v1")),
        )


# -- what is made anew --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "restarted"),
    [
        ("top_k = 6", "top_k = 5", {"web"}),
        ("chunk_size = 600", "chunk_size = 500", {"web", "ingest"}),
        ("How do I roll back?", "How can I roll back?", {"web"}),
    ],
)
def test_a_changed_value_restarts_who_reads_it(old: str, new: str, restarted: set[str]) -> None:
    after = stacks.rendered(stacks.release(lock_text=LOCK.replace(old, new)))
    assert stacks.changed(stacks.rendered(), after) == restarted


@pytest.mark.parametrize("change", ["max-model-len = 1024", "memory_mib = 8000"])
def test_another_argument_restarts_the_engine_and_who_tells_the_release(change: str) -> None:
    text = stacks.profile_text().replace(change, change + "0")
    assert stacks.changed(stacks.rendered(), stacks.rendered(stacks.release(text))) == {
        "chat",
        "web",
    }


@pytest.mark.parametrize(
    ("image", "services"),
    [("gateway", {"gateway"}), ("qdrant", {"qdrant"}), ("app", {"ingest"}), ("vllm", {"chat"})],
)
def test_another_image_restarts_its_own_services(image: str, services: set[str]) -> None:
    platform = pin_examples.platform(seed="another")
    after = stacks.rendered(stacks.release(**{image: {"platforms": (platform,)}}))
    assert stacks.changed(stacks.rendered(), after) == services | {"web"}


@pytest.mark.parametrize(
    ("site", "restarted"),
    [
        (Container(port=8443), {"gateway"}),
        (Container(address="192.0.2.10"), {"gateway"}),
        (Container(names=("box.example.org",)), {"gateway"}),
        (Container(air_gapped=True), set()),
        (Container(memory_mib={"qdrant": 9000}), {"qdrant"}),
    ],
)
def test_a_changed_place_restarts_who_stands_in_it(site: Container, restarted: set[str]) -> None:
    before = stacks.rendered(site=Site())
    assert stacks.changed(before, stacks.rendered(site=Site(container=site))) == restarted


def test_a_changed_certificate_restarts_the_gateway_alone() -> None:
    container = Container(names=("a.example",), certificate_file="/c.pem", key_file="/k.pem")
    site = Site(container=container)
    before = stacks.rendered(site=site, certificate="c" * 64)
    assert stacks.changed(before, stacks.rendered(site=site, certificate="d" * 64)) == {"gateway"}


def test_another_machine_runs_other_images() -> None:
    arm = {"platforms": (pin_examples.platform(), pin_examples.platform("linux/arm64"))}
    made = stacks.release(**dict.fromkeys(stacks.IMAGES, arm))
    images = [
        {s["image"] for s in yaml.safe_load(r.files["config/compose.yaml"])["services"].values()}
        for r in (stacks.rendered(made), stacks.rendered(made, architecture="aarch64"))
    ]
    assert not images[0] & images[1]
    with pytest.raises(BadUsage, match="aarch64"):
        stacks.rendered(architecture="aarch64")


def test_a_limit_for_nobody_is_refused() -> None:
    with pytest.raises(BadUsage, match="'grafana'"):
        stacks.rendered(site=Site(container=Container(memory_mib={"grafana": 100})))


# -- hostile values -----------------------------------------------------------------------------

NASTY = st.text(st.sampled_from("a\"'\n\r\t\\{}$%#: -[]&*!|>`\x00\x7f é한"), max_size=30)
HOSTILE = NASTY.map(lambda text: f"http://x/{text}")


@given(NASTY)
@settings(max_examples=50, deadline=None)
def test_a_hostile_name_never_reaches_the_gateway(name: str) -> None:
    try:
        container = Container(names=(name,))
    except ValidationError:
        return
    assert re.fullmatch(r"[a-z0-9.-]+|[0-9a-f:.]+", container.names[0])


@given(NASTY)
@settings(max_examples=12, deadline=None)
def test_hostile_text_stays_text_wherever_it_is_written(text: str) -> None:
    engine = Engine.model_construct(kind="openai", url="http://x/v1", model=text, api_key_file="")
    site = Site.model_construct(**{**dict(SITE), "engine": engine})
    made = stacks.rendered(site=site)
    read = tomllib.loads(made.files["config/rag.toml"].decode())
    assert read["engine"]["model"] == text
    assert set(yaml.safe_load(made.files["config/compose.yaml"])["services"]) == set(
        stacks.SERVICES
    )


@given(NASTY)
@settings(max_examples=12, deadline=None)
def test_hostile_arguments_stay_one_argument(text: str) -> None:
    release = stacks.release()
    chat = release.serving["chat"]
    chat = chat.model_copy(update={"arguments": {"dtype": text, "speculative-config": {"m": text}}})
    made = stacks.rendered(release.model_copy(update={"serving": {"chat": chat}}))
    read = yaml.safe_load(made.files["config/chat.serve.yaml"])
    assert (read["dtype"], read["speculative-config"]) == (text, {"m": text})
    assert read["host"] == "0.0.0.0"
    assert set(yaml.safe_load(made.files["config/compose.yaml"])["services"]) == set(
        stacks.SERVICES
    )


def test_a_dollar_is_not_composes_own() -> None:
    assert compose_value("a$b${HOME}") == '"a$$b$${HOME}"'
