"""The role firewall with a double of nft; its rules are read by the real nft.

What the rules do to packets is proven on a server: its scenario (README.md).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from aibox.preflight import Finding, Status, read_report
from ansible_runs import ROLES, Runs

ROLE = """\
    - name: Firewall
      ansible.builtin.import_role:
        name: firewall
        tasks_from: {entry}
"""
# A double of nft: a table is a file, one for the host and one where nobody is.
NFT = """\
#!/bin/sh
table='{state}/table'
[ -z "$DOUBLE_ALONE" ] || table='{state}/alone'
echo "$DOUBLE_ALONE $*" >> '{state}/calls'
case "$*" in
    "--file -") cat > "$table.new"
        ! grep -q nonsense "$table.new" || {{ echo 'syntax error' >&2; exit 1; }}
        mv "$table.new" "$table" ;;
    "--stateless list table inet aibox")
        [ -e "$table" ] && grep -v '^#' "$table" || exit 1 ;;
    *) exit 2 ;;
esac
"""
UNSHARE = '#!/bin/sh\nshift\nDOUBLE_ALONE=alone; export DOUBLE_ALONE\nexec "$@"\n'


@dataclass(frozen=True)
class Host:
    """Where the doubles keep their state, and what the role is given."""

    state: Path
    given: dict[str, object]
    report: Path

    @property
    def table(self) -> Path:
        return self.state / "table"

    def finding(self) -> Finding:
        (found,) = read_report(self.report)
        return found

    def files(self) -> set[str]:
        return {path.name for path in (self.state / "etc").iterdir()}


@pytest.fixture
def host(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> Host:
    state = runs.folder / "state"
    (state / "etc").mkdir(parents=True)
    for name, text in (("nft", NFT), ("unshare", UNSHARE)):
        (state / name).write_text(
            text.replace("{state}", str(state)).replace("{{", "{").replace("}}", "}")
        )
        (state / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{state}:{os.environ['PATH']}")
    given: dict[str, object] = {
        "firewall_rules_file": state / "etc" / "rules.nft",
        "firewall_unit_folder": state / "etc",
        "firewall_report": runs.folder / "report.json",
    }
    return Host(state, given, runs.folder / "report.json")


def test_check_mode_announces_and_changes_nothing(runs: Runs, host: Host) -> None:
    given = {**host.given, "firewall_mode": "enforce"}
    assert runs.play(runs.tasks(ROLE.format(entry="create")), given, check=True).changed == 3
    assert (host.files(), host.table.exists()) == (set(), False)
    assert host.finding().found.startswith("not in force")


def test_a_report_changes_nothing_and_says_what_is_missing(runs: Runs, host: Host) -> None:
    assert runs.play(runs.tasks(ROLE.format(entry="create")), host.given).changed == 0
    assert host.finding().status is Status.WARN
    assert "lines of rules are missing" in host.finding().found
    assert (host.files(), host.table.exists()) == (set(), False)


@pytest.fixture(scope="module")
def nft_table(load_module: Callable[[str], ModuleType]) -> ModuleType:
    return load_module("firewall/nft_table")


@pytest.mark.parametrize(
    ("wanted", "found", "lines"),
    [
        ("", "", (0, 0)),
        ("a\nb\n", "a\nb\n", (0, 0)),
        ("a\nb\n", "", (2, 0)),
        ("a\n", "a\nb\n", (0, 1)),
        ("b\na\n", "a\nb\n", (1, 1)),
    ],
)
def test_lines_that_are_missing_and_strange_are_counted(
    nft_table: ModuleType, wanted: str, found: str, lines: tuple[int, int]
) -> None:
    assert nft_table.difference(wanted, found) == lines


# How this user gets a network of his own, with an nft that may change it.
ALONE = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "-r", "--net"]


def nft_runs() -> bool:
    return (
        shutil.which("nft", path=f"{os.environ['PATH']}:/usr/sbin") is not None
        and subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0
    )


def rules(closed: bool, **several: object) -> str:
    """The role's rules, filled as Ansible does; `several` for a box of several hosts."""
    import jinja2

    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["regex_replace"] = lambda text, _, form: form.replace("\\1", text)
    template = environment.from_string(
        (ROLES / "firewall" / "templates" / "aibox.nft.j2").read_text()
    )
    return template.render(
        firewall_interfaces=["aibox-inside", "aibox-outside"],
        firewall_close_host=closed,
        firewall_ports=[443],
        firewall_peer_interface="aibox-peers",
        __firewall_ssh_ports=[22, 2222],
        **{"firewall_peers": [], "firewall_published_ports": [], "firewall_askers": [], **several},
    )


@pytest.mark.skipif(not nft_runs(), reason="no nft, or no right to a network of its own")
@pytest.mark.parametrize("closed", [False, True])
def test_the_real_nft_takes_the_rules_twice_and_lists_them(closed: bool) -> None:
    program = shutil.which("nft", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None
    script = f"{program} -f - <<'.'\n{rules(closed)}\n.\n"
    listed = subprocess.run(
        [*ALONE, "sh", "-e", "-c", f"{script}{script}{program} list ruleset"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert listed.count("table inet aibox") == 1
    assert listed.count('iifname { "aibox-inside", "aibox-outside" }') == 2
    assert ("tcp dport { 22, 443, 2222 } accept" in listed) is closed
    assert ("drop" in listed) is closed


@pytest.mark.skipif(not nft_runs(), reason="no nft, or no right to a network of its own")
def test_one_of_several_hosts_lets_its_askers_in_and_reaches_its_peers_alone() -> None:
    program = shutil.which("nft", path=f"{os.environ['PATH']}:/usr/sbin")
    text = rules(
        closed=False,
        firewall_peers=[{"address": "10.0.0.2", "ports": [8000]}],
        firewall_published_ports=[6333, 8642],
        firewall_askers=["10.0.0.3"],
    )
    listed = subprocess.run(
        [*ALONE, "sh", "-e", "-c", f"{program} -f - <<'.'\n{text}\n.\n{program} list ruleset"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert 'iifname "aibox-peers" ip daddr 10.0.0.2 tcp dport 8000 accept' in listed
    assert "tcp dport { 6333, 8642 } ip saddr != 10.0.0.3 counter" in listed
