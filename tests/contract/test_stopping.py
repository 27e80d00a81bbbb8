"""When the box stops, everybody waits longer than whoever waits for him: computed from the files
that are rendered for each profile, and from the units.

An answer in the works passes through engine, application and gateway. All are told to stop in the
same moment, so the answer is cut off by whoever gives up first: that must be the application,
which says so in the stream.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping

import pytest
import yaml

import pin_examples
import stack_examples as stacks
from aibox import content, lock, release
from aibox import profile as profiles
from aibox.box import docker_engine, supervisor, system_units
from aibox.profile import Runtime
from rag_app.config import Config
from rag_app.web.server import EXIT_WITHIN_S, STOP_WITHIN_S

CONTENT = content.find()
LOCK = lock.load(CONTENT.lockfile)
PROFILES = [profiles.load(CONTENT.profiles, name) for name in profiles.names(CONTENT.profiles)]
CONTAINERS = [one.name for one in PROFILES if one.runtime is Runtime.CONTAINER]
UNITS = {"s": 1, "min": 60}


def files(name: str) -> Mapping[str, bytes]:
    """What is rendered for a profile, with made-up digests of its images."""
    made = release.make(LOCK, profiles.load(CONTENT.profiles, name))
    images = [
        pin.model_copy(update={"platforms": (pin_examples.platform(seed=pin.name),)})
        for pin in made.images
    ]
    return stacks.rendered(made.model_copy(update={"images": tuple(images)})).files


def unit_s(name: str) -> int:
    """`TimeoutStopSec` of a unit, in seconds."""
    [(number, unit)] = re.findall(r"^TimeoutStopSec=(\d+)(s|min)$", unit_text(name), re.MULTILINE)
    return int(number) * UNITS[unit]


def unit_text(name: str) -> str:
    return stacks.TEMPLATES[name].decode()


def seconds(told: str) -> int:
    return int(told.removesuffix("s"))


@pytest.mark.parametrize("name", CONTAINERS)
def test_who_stands_behind_an_answer_waits_longer_and_so_does_who_stands_before_it(
    name: str,
) -> None:
    made = files(name)
    services = yaml.safe_load(made["config/compose.yaml"])["services"]
    grace = {service: seconds(one["stop_grace_period"]) for service, one in services.items()}
    config = Config.model_validate(tomllib.loads(made["config/rag.toml"].decode()))
    application = config.server.stop_grace_s + STOP_WITHIN_S + EXIT_WITHIN_S
    [gateway] = re.findall(r"^\s*grace_period (\d+)s$", made["config/Caddyfile"].decode(), re.M)
    assert application < grace["web"]
    assert application < int(gateway) < grace["gateway"]
    engines = [path for path in made if path.endswith(".serve.yaml")]
    assert engines
    for path in engines:
        engine = yaml.safe_load(made[path])["shutdown-timeout"]
        service = path.removeprefix("config/").removesuffix(".serve.yaml")
        assert application < engine < grace[service]
    # Docker's own patience with a container that nobody watches any more.
    assert max(grace.values()) <= docker_engine.STOP_TIMEOUT_S


@pytest.mark.parametrize("name", CONTAINERS)
def test_systemd_waits_longer_than_any_container(name: str) -> None:
    services = yaml.safe_load(files(name)["config/compose.yaml"])["services"]
    longest = max(seconds(one["stop_grace_period"]) for one in services.values())
    service, box = unit_s("container/aibox@.service.j2"), unit_s("container/aibox.service.j2")
    # All services are stopped by one command, so at once.
    assert longest < service < box
    assert service < system_units.JOB_TIMEOUT_S


def test_a_profile_cannot_lock_an_engine_that_waits_too_short_or_too_long() -> None:
    for seconds_ in (0, 30, 600, '"long"'):
        text = stacks.profile_text(stacks.CHAT + f"shutdown-timeout = {seconds_}\n")
        with pytest.raises(Exception, match="shutdown-timeout: must be seconds between 90 and 140"):
            stacks.profile(text)
    assert stacks.profile(stacks.profile_text(stacks.CHAT + "shutdown-timeout = 100\n"))


def test_supervised_processes_wait_likewise() -> None:
    text = unit_text("process/supervisord.conf.j2")
    [stop] = re.findall(r"^stopwaitsecs = (\d+)$", text, re.MULTILINE)
    grace = Config.model_fields["server"].default.stop_grace_s
    assert grace + STOP_WITHIN_S + EXIT_WITHIN_S < int(stop)
    local = profiles.load(CONTENT.profiles, "local")
    assert len(local.services) * int(stop) < supervisor.STOP_TIMEOUT_S
    assert (
        unit_s("process/aibox.service.j2") > supervisor.STOP_TIMEOUT_S + supervisor.TERM_TIMEOUT_S
    )
