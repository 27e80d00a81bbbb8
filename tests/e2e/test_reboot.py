"""A box on a server with systemd starts again after a reboot, and nobody does anything for it.

One journey of an ordinary user on Debian 13: every test goes on where the one before it stopped.
After the installation the server has no network any more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .journey import Done, clone, wait_until
from .systemd_host import USER, Server, daemon, server, why_not

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]

QUESTION = "How do I roll back a failed upgrade?"
CHECKOUT = f"/home/{USER}/내 checkout"
BOX = f"/home/{USER}/.local/share/aibox"
START_SECONDS = 120
# Until the next boot the unit fails after the start, as it does when an answer comes too late.
FAILING = """
folder="$XDG_RUNTIME_DIR/systemd/user/{unit}.d"
mkdir --parents "$folder"
printf '[Service]\\nExecStart=/bin/false\\nRestart=no\\n' > "$folder/fails.conf"
systemctl --user daemon-reload
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose user has a clean clone and has never seen a box."""
    folder = tmp_path_factory.mktemp("systemd")
    with daemon(folder), server(folder) as made:
        made.receives(clone(folder / "checkout"), CHECKOUT)
        yield made


def typed(host: Server, *words: str) -> Done:
    """One `./aibox` command of the user in a log-in session; it must succeed."""
    done = host.logs_in(CHECKOUT, "./aibox", *words)
    assert done.code == 0, f"{words} ended with {done.code}:\n{done.out}\n{done.err}"
    return done


def asked(host: Server) -> Done:
    # Without a session: a log-in would start a unit that boot had not.
    return host.without_session(CHECKOUT, "./aibox", "ask", QUESTION, "--json")


def manager(host: Server, *words: str) -> str:
    """What the systemd manager of the user says."""
    return host.logs_in("/", "systemctl", "--user", *words).out


def units(host: Server) -> list[str]:
    """Every unit of a box that the manager knows, whatever its state."""
    found = [manager(host, "list-unit-files", "aibox*"), manager(host, "list-units", "--all")]
    return sorted(set(re.findall(r"aibox-\w+\.service", "\n".join(found))))


def groups_of_services(host: Server) -> set[str]:
    """The units to which the service processes belong, as the kernel sees it."""
    told: Any = typed(host, "status", "--json").json
    lines = [host.root("cat", f"/proc/{one['pid']}/cgroup") for one in told["services"]]
    return {found for text in lines for found in re.findall(r"aibox-\w+\.service", text)}


def wait_until_it_answers(host: Server) -> None:
    """Grounded, and without that anybody has typed `aibox start`; the boot's own start has ended.

    A box can answer a moment before the command that started it lets it go.
    """
    wait_until(lambda: asked(host).code == 0, START_SECONDS, "an answer after the boot")
    assert asked(host).json["grounded"] is True
    wait_until(lambda: not is_starting(host), START_SECONDS, "the end of the unit's own start")


def is_starting(host: Server) -> bool:
    return "activating" in manager(host, "is-active", *units(host))


def test_who_may_not_have_services_without_a_session_is_told_what_to_type(host: Server) -> None:
    said = typed(host, "install", "--profile", "local").err
    assert "start at boot: starts at log-in" in said
    assert f"as root: loginctl enable-linger {USER}" in said


def test_once_root_has_typed_it_the_installation_says_starts_at_boot(host: Server) -> None:
    host.root("loginctl", "enable-linger", USER)
    assert "start at boot: starts at boot" in typed(host, "install").err
    assert manager(host, "is-enabled", *units(host)) == "enabled\n"


def test_after_a_reboot_without_a_network_it_answers_by_itself(host: Server) -> None:
    host.is_unplugged()
    host.reboots()
    wait_until_it_answers(host)
    assert groups_of_services(host) == set(units(host))
    assert manager(host, "is-active", *units(host)) == "active\n"


def test_after_a_power_cut_it_answers_by_itself(host: Server) -> None:
    host.loses_power()
    wait_until_it_answers(host)


def test_a_start_that_fails_leaves_the_services_to_themselves(host: Server) -> None:
    (unit,) = units(host)
    host.logs_in("/", "sh", "-c", FAILING.format(unit=unit))
    assert host.logs_in("/", "systemctl", "--user", "restart", unit).code != 0
    assert manager(host, "is-active", unit) == "failed\n"
    assert asked(host).json["grounded"] is True


def test_what_the_user_stops_stays_stopped_until_the_next_boot(host: Server) -> None:
    typed(host, "stop")
    assert asked(host).code != 0
    host.reboots()
    wait_until_it_answers(host)


def test_removal_from_a_shell_without_a_session_leaves_nothing_to_start(host: Server) -> None:
    done = host.without_session(CHECKOUT, "./aibox", "uninstall", "--purge")
    assert done.code == 0, done.err
    assert units(host) == []
    left = host.root("find", f"/home/{USER}/.config/systemd", "-name", "aibox*")
    assert (left, host.root("ls", str(Path(BOX).parent))) == ("", "")
