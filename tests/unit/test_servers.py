"""What Ansible is told of a server, and what becomes of what it says. Ansible is a double here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

import pytest

import pin_examples
import stack_examples as stacks
from aibox import digest, servers
from aibox.box import host, resumption
from aibox.box.store import Store
from aibox.content import Content, find
from aibox.errors import BadUsage, NeedsPerson
from aibox.lock import Role
from aibox.profile import PackageRole
from aibox.record import Action
from aibox.release import Artifact, Release
from aibox.site import Container, Site

UNITS = {"aibox.service", "aibox@.service", "aibox-resume.service"}
HERE = "debian-13"
Told = dict[str, object]
Double = Callable[[str, Path, Told], None]


@pytest.fixture
def box(place: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(host, "operating_system", lambda: HERE)
    store = Store(place / "box")
    store.initialise()
    store.layout.lock.touch()
    return store


@pytest.fixture
def ansible(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Told]]:
    """A double of Ansible: remembers what it was told, and leaves what `says` holds."""
    runs: list[tuple[str, Told]] = []

    def run(
        _content: Content, playbook: str, folder: Path, given: Mapping[str, object], *_rest: object
    ) -> None:
        runs.append((playbook, dict(given)))
        for name, said in SAYS.items():
            (folder / name).write_text(json.dumps(said))

    SAYS.clear()
    monkeypatch.setattr("aibox.playbooks.run", run)
    return runs


SAYS: dict[str, object] = {}


def made(**packages: str) -> Release:
    """A release with package sets by role, each for a target."""
    sets = tuple(
        pin_examples.packages(
            name=f"{role}-{target}",
            target=target,
            wanted=("docker.io", "docker-cli", "docker-compose"),
        )
        for role, target in packages.items()
    )
    roles = {f"{role}-{target}": PackageRole(role) for role, target in packages.items()}
    templates = tuple(
        Artifact(
            role=Role.TEMPLATES,
            source=f"stacks/{name}",
            target=f"templates/{name}",
            size=len(data),
            sha256=digest.of_bytes(data),
            licence="Apache-2.0",
            owner="aibox",
        )
        for name, data in stacks.TEMPLATES.items()
    )
    return stacks.release().model_copy(
        update={"packages": sets, "package_roles": roles, "artifacts": templates}
    )


def sealed(store: Store, release: Release) -> int:
    """A generation of the release, its prerequisites rendered."""
    for data in stacks.TEMPLATES.values():
        store.import_stream(BytesIO(data), digest.of_bytes(data), len(data))
    prerequisites = stacks.rendered(stacks.release()).files["config/footing.json"]
    plan = json.dumps({"site": Site().model_dump(mode="json")}).encode()
    return store.prepare_generation(
        release.manifest(), {}, {"config/footing.json": prerequisites, "plan.json": plan}
    )


def provide(store: Store, release: Release) -> int:
    number = sealed(store, release)
    servers.provide(store, find(), number, Action.INSTALL, lambda _: None, 0)
    return number


def test_each_role_gets_the_packages_that_are_for_this_system(
    box: Store, ansible: list[tuple[str, Told]]
) -> None:
    number = provide(box, made(container_runtime=HERE))
    [(playbook, told)] = ansible
    assert playbook == "provision_server"
    name = f"container_runtime-{HERE}"
    assert told["server_repositories"] == [
        {
            "name": name,
            "source": str(box.layout.tree(number) / "packages" / name),
            "format": "deb",
            "suite": "trixie",
        }
    ]
    assert told["container_runtime_repository"] == name
    assert told["container_runtime_engine_packages"] == ["docker.io", "docker-cli"]
    assert told["container_runtime_compose_packages"] == ["docker-compose"]
    assert told["server_installs_driver"] is False


def test_packages_for_another_system_are_left_alone(
    box: Store, ansible: list[tuple[str, Told]]
) -> None:
    provide(box, made(container_runtime="debian-12"))
    [(_, told)] = ansible
    assert told["server_repositories"] == []
    assert "container_runtime_repository" not in told


def test_the_users_and_folders_are_those_of_the_containers(
    box: Store, ansible: list[tuple[str, Told]]
) -> None:
    provide(box, made())
    [(_, told)] = ansible
    assert {"name": "aibox-app", "uid": 70002} in told["box_layout_users"]  # type: ignore[operator]
    assert {"path": "data/rag", "owner": "aibox-app"} in told["box_layout_service_folders"]  # type: ignore[operator]


def test_the_units_come_from_the_templates_of_the_generation(
    box: Store, ansible: list[tuple[str, Told]]
) -> None:
    provide(box, made())
    [(_, told)] = ansible
    units = Path(str(told["stack_units_source"]))
    assert {path.name for path in units.iterdir()} == UNITS
    assert f'"{box.layout.root}/bin/aibox" start' in (units / "aibox.service").read_text()


REBOOT = {"reboot_required": True, "reboot_reasons": ["nouveau has the GPUs until then"]}


def test_a_reboot_is_asked_for_and_what_waits_is_written_down(
    box: Store, ansible: list[tuple[str, Told]]
) -> None:
    SAYS["nvidia_driver.outcome.json"] = REBOOT
    with pytest.raises(NeedsPerson) as caught:
        provide(box, made())
    assert caught.value.reference == "reboot-needed"
    assert "nouveau has the GPUs until then" in str(caught.value.context)
    with pytest.raises(NeedsPerson):
        servers.rebooted(box)


def test_after_the_reboot_it_is_known_what_waited(
    box: Store, ansible: list[tuple[str, Told]]
) -> None:
    SAYS["nvidia_driver.outcome.json"] = REBOOT
    with pytest.raises(NeedsPerson):
        provide(box, made())
    later = Store(box.layout.root, boot="another")
    waiting = servers.rebooted(later)
    assert (waiting.generation, waiting.action) == (box.generations()[-1], Action.INSTALL)
    resumption.clear(later.filesystem, later.layout.root)
    with pytest.raises(BadUsage, match="no installation waits"):
        servers.rebooted(later)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"version": 9, "generation": 1}'])
def test_a_note_that_says_nothing_makes_nobody_wait(box: Store, text: str) -> None:
    (box.layout.root / resumption.FILE).write_text(text)
    with pytest.raises(BadUsage):
        servers.rebooted(box)


def test_a_server_needs_room_for_images_and_a_system_that_has_packages() -> None:
    site = Site(container=Container(air_gapped=True))
    found = servers.needs(made(container_runtime=HERE), site, Path("/var/lib/aibox"))
    assert found.distributions == ("debian 13",)
    assert set(found.disks) == {
        *(Path("/var/lib/aibox"), Path("/var/lib/docker"), Path("/var")),
    }
    assert found.driver == "none"
    assert found.air_gapped
