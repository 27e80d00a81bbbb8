"""What doctor and preflight say of a language model elsewhere, which the site names."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from aibox.box.store import Store
from aibox.doctor import endpoint, examine, of_site
from aibox.preflight import Status
from aibox.record import Action, Entry, Result
from aibox.site import Container, Engine, Host, Site
from aibox.verdict import CaseResult, Verdict
from certificates import Authority

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def site(url: str, key: Path | str = "") -> Site:
    return Site(engine=Engine(kind="openai", url=url, model="m", api_key_file=str(key)))


def judged(number: int, *reasons: str, passed: bool = True) -> Entry:
    results = tuple(CaseResult(id=str(n), passed=True, reason=why) for n, why in enumerate(reasons))
    return Entry(
        sequence=number,
        transaction=str(number),
        generation=number,
        release="",
        action=Action.INSTALL,
        outcome=Result.COMMITTED,
        started=NOW,
        finished=NOW,
        gate=Verdict(passed=passed, results=results),
    )


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("http://127.0.0.1:11434/v1", Status.OK),
        ("http://localhost:11434/v1", Status.OK),
        ("http://[::1]:8000/v1", Status.OK),
        ("https://models.example.org/v1", Status.OK),
        ("http://192.0.2.7:8000/v1", Status.WARN),
        ("http://models.example.org/v1", Status.WARN),
    ],
)
def test_what_goes_to_another_host_unencrypted_is_told(url: str, status: Status) -> None:
    (found,) = endpoint(site(url))
    assert (found.check, found.status) == ("engine address", status)
    assert ("not encrypted" in found.found) == (status is Status.WARN)


def test_a_key_that_cannot_be_read_keeps_a_release_from_being_installed(tmp_path: Path) -> None:
    key = tmp_path / "key"
    url = "https://models.example.org/v1"
    assert "is not a file" in endpoint(site(url, key))[1].found
    key.write_text("k")
    key.chmod(0o644)
    found = endpoint(site(url, key))[1]
    assert (found.check, found.status) == ("engine key", Status.VETO)
    assert found.fix.endswith(f"chmod 600 {key}")
    key.chmod(0o600)
    assert [one.status for one in endpoint(site(url, key))] == [Status.OK, Status.OK]


def test_an_authority_that_is_none_keeps_a_release_from_being_installed(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    elsewhere = site("https://models.example.org/v1").engine
    for path, status in (
        (authority.file, Status.OK),
        (tmp_path / "none.pem", Status.VETO),
        (Path(__file__), Status.VETO),
    ):
        named = Site(engine=elsewhere.model_copy(update={"ca_file": str(path)}))
        assert {one.check: one.status for one in endpoint(named)}["engine authority"] is status


def test_a_certificate_that_cannot_serve_keeps_a_release_from_being_installed(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    (given, key), (_, other) = (authority.vouches_for(name) for name in ("box", "other"))
    for secret, status in ((key, Status.OK), (other, Status.VETO)):
        files = {"certificate_file": str(given), "key_file": str(secret)}
        named = Site(container=Container(names=("box",), **files))
        (found,) = of_site(named)
        assert (found.check, found.status) == ("site certificate", status)
    key.chmod(0o644)
    (found,) = of_site(Site(container=Container(names=("box",), **files | {"key_file": str(key)})))
    assert found.found.endswith(f"chmod 600 {key}")
    assert of_site(Site()) == ()


@pytest.mark.parametrize("model", ["gpt-oss:120b-cloud", "kimi-k2:cloud"])
def test_a_model_that_ollama_asks_its_makers_for_is_told(model: str) -> None:
    named = Site(engine=Engine(kind="openai", url="http://127.0.0.1:11434/v1", model=model))
    found = [one for one in endpoint(named) if one.status is not Status.OK]
    assert [(one.check, one.status) for one in found] == [("engine model", Status.WARN)]
    assert found[0].fix.endswith("ollama list")


def test_of_several_hosts_the_one_that_asks_is_told() -> None:
    hosts = {
        "a": Host(address="192.0.2.1", groups=("app", "gateway")),
        "b": Host(address="192.0.2.2", groups=("vector",)),
    }
    named = site("http://192.0.2.7/v1").model_copy(update={"hosts": hosts})
    told = {name: endpoint(named.model_copy(update={"member": name})) for name in hosts}
    assert [name for name, found in told.items() if found] == ["a"]


def test_nothing_is_said_of_an_endpoint_where_there_is_none() -> None:
    assert endpoint(Site()) == ()


def test_doctor_tells_what_stepped_in_for_the_model_at_the_last_gate_that_passed(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    store.filesystem.make_directory(tmp_path)
    quoted = "quoted instead of the engine's answer: The language model cannot be reached."
    store.history.append(judged(1, "", quoted))
    store.history.append(judged(2, passed=False))
    (found,) = (one for one in examine(store, (), (True, "")) if one.check == "language model")
    assert (found.status, found.found) == (Status.WARN, f"at the last gate: {quoted}")
    assert "./aibox install --engine-url URL" in found.fix
    store.history.append(judged(3, "", ""))
    checks = [one.check for one in examine(store, (), (True, ""))]
    assert "language model" not in checks
