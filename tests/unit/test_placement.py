"""Which host of several runs what, how services find one another, and what is rendered for each."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
import yaml

import stack_examples as stacks
from aibox import placement, plan, prerequisites
from aibox.errors import BadUsage
from aibox.objects import Placed
from aibox.release import Release
from aibox.site import Group, Host, Site

ADDRESSES = {"door": "10.0.0.1", "data": "10.0.0.2", "cards": "10.0.0.3"}
THREE: dict[str, Sequence[Group]] = {
    "cards": ["gpu"],
    "data": ["vector", "app"],
    "door": ["gateway"],
}


def site(groups: dict[str, Sequence[Group]] | None = None, member: str = "") -> Site:
    hosts = {
        name: Host(address=ADDRESSES[name], groups=tuple(its), user="ann", host_key="ssh-x AAAA")
        for name, its in (groups or THREE).items()
    }
    whole = Site(hosts=hosts)
    return placement.of_host(whole, member) if member else whole


def compose(member: str) -> dict[str, dict[str, dict[str, object]]]:
    rendered = stacks.rendered(site=site(member=member))
    found: dict[str, dict[str, dict[str, object]]] = yaml.safe_load(
        rendered.files["config/compose.yaml"]
    )
    return found


def test_a_box_of_one_host_runs_everything() -> None:
    made = stacks.release()
    assert placement.services(made, Site()) == made.services
    assert placement.part(made, Site()) is made
    assert placement.peers(made, Site()) == placement.askers(made, Site()) == []


@pytest.mark.parametrize(
    ("member", "services"),
    [("cards", {"chat"}), ("data", {"web", "ingest", "qdrant"}), ("door", {"gateway"})],
)
def test_each_host_runs_the_services_of_its_groups(member: str, services: set[str]) -> None:
    assert set(placement.services(stacks.release(), site(member=member))) == services
    assert set(compose(member)["services"]) == services


def test_a_small_model_lies_with_the_large_one_and_is_asked_at_a_port_of_its_own() -> None:
    made = stacks.release(stacks.with_small(stacks.profile_text()))
    cards, data = site(member="cards"), site(member="data")
    assert placement.services(made, cards) == ("chat", "small")
    assert placement.published(made, cards) == {"chat": 8000, "small": 8003}
    assert placement.endpoint(made, data, "small") == "10.0.0.3:8003"
    assert placement.peers(made, data)[-1] == {"address": "10.0.0.3", "ports": [8000, 8003]}
    assert prerequisites.shared(made, site())["small-api-key"] == ("cards", "data")


def test_a_host_gets_only_the_images_and_weights_of_its_services() -> None:
    cards, door = (
        placement.part(stacks.release(), site(member=name)) for name in ("cards", "door")
    )
    assert {image.name for image in cards.images} == {"vllm"}
    assert {model.name for model in cards.models} == {"small"}
    assert {image.name for image in door.images} == {"gateway"}
    assert door.models == ()


def test_the_driver_is_for_the_host_of_the_gpus_alone() -> None:
    made = stacks.release(stacks.profile_text(stacks.ON_GPUS, extra=stacks.HARDWARE))
    assert placement.part(made, site(member="cards")).hardware is not None
    assert placement.part(made, site(member="door")).hardware is None


def test_a_part_has_no_repository_of_packages_it_leaves_out() -> None:
    made = _with_driver()
    lists = [
        Placed(path=f"packages/{name}/Release", size=1, sha256="a" * 64)
        for name in ("driver", "docker")
    ]
    for member, expected in (("cards", {"driver", "docker"}), ("door", {"docker"})):
        part = placement.part(made, site(member=member))
        needed = plan._needed(lists, made, part)
        assert {item.path.split("/")[1] for item in needed} == expected


def _with_driver() -> Release:
    import pin_examples
    from aibox.profile import PackageRole

    made = stacks.release(stacks.profile_text(stacks.ON_GPUS, extra=stacks.HARDWARE))
    roles = {"driver": PackageRole.NVIDIA_DRIVER, "docker": PackageRole.CONTAINER_RUNTIME}
    sets = tuple(pin_examples.packages(name=name, target="debian-13") for name in roles)
    return made.model_copy(update={"packages": sets, "package_roles": roles})


def test_services_ask_at_the_address_of_the_other_host() -> None:
    rag = stacks.rendered(site=site(member="data")).files["config/rag.toml"].decode()
    assert 'url = "http://10.0.0.3:8000/v1"' in rag
    assert 'url = "http://qdrant:6333"' in rag
    caddy = stacks.rendered(site=site(member="door")).files["config/Caddyfile"].decode()
    assert "reverse_proxy 10.0.0.2:8642 {" in caddy


def test_what_others_ask_is_published_on_the_hosts_own_address() -> None:
    chat = compose("cards")["services"]["chat"]
    assert chat["ports"] == [
        {
            "target": 8000,
            "published": "8000",
            "protocol": "tcp",
            "mode": "host",
            "host_ip": "10.0.0.3",
        }
    ]
    assert "ports" not in compose("data")["services"]["qdrant"]
    assert "ports" not in stacks_of_one_host()["chat"]


def stacks_of_one_host() -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = yaml.safe_load(
        stacks.rendered().files["config/compose.yaml"]
    )["services"]
    return found


def test_only_services_with_peers_are_in_the_network_of_peers() -> None:
    data = compose("data")
    assert data["services"]["web"]["networks"] == ["inside", "peers"]
    assert data["services"]["qdrant"]["networks"] == ["inside"]
    assert set(data["networks"]) == {"inside", "peers"}
    assert compose("door")["services"]["gateway"]["networks"] == ["inside", "peers"]
    assert set(yaml.safe_load(stacks.rendered().files["config/compose.yaml"])["networks"]) == {
        "inside",
        "outside",
    }


def test_the_firewall_knows_who_asks_and_whom_is_asked() -> None:
    made = stacks.release()
    assert placement.peers(made, site(member="data")) == [{"address": "10.0.0.3", "ports": [8000]}]
    assert placement.askers(made, site(member="data")) == ["10.0.0.1"]
    assert placement.askers(made, site(member="cards")) == ["10.0.0.2"]
    assert placement.askers(made, site(member="door")) == []
    assert placement.published(made, site(member="data")) == {"web": 8642}


def test_a_host_is_not_told_how_to_log_in_to_the_others() -> None:
    told = site(member="door")
    assert {(host.user, host.host_key, host.key_file) for host in told.hosts.values()} == {
        ("", "", "")
    }


def test_the_certificate_is_the_gateways_matter() -> None:
    whole = site()
    named = whole.container.model_dump() | {
        "names": ("box.example",),
        "certificate_file": "/c.pem",
        "key_file": "/k.pem",
    }
    whole = whole.model_copy(update={"container": type(whole.container).model_validate(named)})
    assert placement.of_host(whole, "door").container.certificate_file == "/c.pem"
    assert placement.of_host(whole, "cards").container.certificate_file == ""


def test_a_secret_that_two_hosts_read_is_shared_by_them() -> None:
    assert prerequisites.shared(stacks.release(), site()) == {"chat-api-key": ("cards", "data")}
    apart: dict[str, Sequence[Group]] = {"cards": ["gpu", "vector"], "data": ["app", "gateway"]}
    assert set(prerequisites.shared(stacks.release(), site(apart))) == {
        "chat-api-key",
        "qdrant-api-key",
    }
    one: dict[str, Sequence[Group]] = {"cards": ["gpu", "vector", "app", "gateway"]}
    assert prerequisites.shared(stacks.release(), site(one)) == {}


@pytest.mark.parametrize(
    ("member", "readers"),
    [("cards", {"chat-api-key": ["chat"]}), ("door", {})],
)
def test_a_host_keeps_only_the_secrets_that_its_services_read(
    member: str, readers: dict[str, list[str]]
) -> None:
    rendered = json.loads(stacks.rendered(site=site(member=member)).files["config/footing.json"])
    assert {item["name"]: item["readers"] for item in rendered["secrets"]} == readers


def test_who_is_asked_starts_before_who_asks() -> None:
    assert placement.stages(site()) == [["cards"], ["data"], ["door"]]
    mixed: dict[str, Sequence[Group]] = {
        "cards": ["gpu"],
        "data": ["app"],
        "door": ["gateway", "vector"],
    }
    assert placement.stages(site(mixed)) == [["cards"], ["data"], ["door"]]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"cards": ["gpu"], "data": ["vector", "app"]}, "group 'gateway' needs exactly one"),
        ({**THREE, "door": ["gateway", "gpu"]}, "group 'gpu' needs exactly one"),
        ({"cards": ["gpu", "vector", "app", "gateway"], "data": ["monitoring"]}, "run nothing"),
    ],
)
def test_a_group_without_its_host_is_refused(
    groups: dict[str, Sequence[Group]], message: str
) -> None:
    with pytest.raises(BadUsage, match=message):
        placement.require_placed(stacks.release(), site(groups))
    placement.require_placed(stacks.release(), site())
