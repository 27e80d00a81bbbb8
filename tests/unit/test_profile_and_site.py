"""Profiles and site files: the ones we ship load; wrong ones are refused with their path."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from aibox import content
from aibox import profile as profiles
from aibox import site as sites
from aibox.errors import BadUsage
from aibox.profile import FileWish
from aibox.site import Container, Site
from examples import PROFILE, profile

CONTENT = content.find()


@pytest.mark.parametrize("name", profiles.names(CONTENT.profiles))
def test_every_shipped_profile_loads(name: str) -> None:
    assert profiles.load(CONTENT.profiles, name).name == name


def test_an_unknown_profile_names_those_that_exist() -> None:
    with pytest.raises(BadUsage, match="local"):
        profiles.load(CONTENT.profiles, "no-such-profile")


def test_a_profile_named_like_a_path_is_unknown() -> None:
    with pytest.raises(BadUsage, match="no profile named"):
        profiles.load(CONTENT.profiles, "../profiles/local")


def test_what_an_editor_keeps_beside_a_profile_is_none(tmp_path: Path) -> None:
    (tmp_path / "local.toml").write_text(PROFILE)
    (tmp_path / ".#local.toml").symlink_to("ann@host.1234:1")
    (tmp_path / "._local.toml").write_bytes(b"\x00\x05\x16\x07")
    assert profiles.names(tmp_path) == ("local",)


def test_an_unknown_profile_key_is_refused_with_its_path() -> None:
    with pytest.raises(BadUsage, match=r"requires\.gpus"):
        profile(PROFILE.replace("[requires]", "[requires]\ngpus = 2"))


def test_the_example_inventory_loads_and_shows_every_key() -> None:
    path, other = (CONTENT.root / f"inventory.{name}example" for name in ("", "hosts."))
    assert sites.load(path).engine.kind == "openai"
    assert set(sites.load(other).hosts) == {"gpu1", "data1", "door1"}
    shown = tomllib.loads(path.read_text(encoding="utf-8"))
    several = tomllib.loads(other.read_text(encoding="utf-8"))
    assert set(shown) | set(several) == set(Site.model_fields) - {"member"}
    assert set(several["hosts"]["gpu1"]) == set(sites.Host.model_fields)
    assert set(several["together"]) == set(sites.Together.model_fields)
    for name, model in (
        ("server", sites.Server),
        ("engine", sites.Engine),
        ("embedding", sites.EmbeddingEndpoint),
        ("container", sites.Container),
    ):
        assert set(shown[name]) == set(model.model_fields), name


HOST = 'version = 1\n[hosts.a]\naddress = "192.0.2.1"\ngroups = ["gpu"]\n'


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (HOST.replace("gpu", "gpus"), "hosts.a.groups[0]"),
        (HOST.replace('["gpu"]', "[]"), "hosts.a.groups"),
        (HOST.replace('["gpu"]', '["gpu", "gpu"]'), "there twice"),
        (HOST.replace("192.0.2.1", "box.example"), "hosts.a.address"),
        (HOST.replace("192.0.2.1", "0.0.0.0"), "0.0.0.0 is the address of no host"),
        (HOST.replace("192.0.2.1", "224.0.0.1"), "224.0.0.1 is the address of no host"),
        (HOST + 'colour = "red"', "hosts.a.colour"),
        (HOST + 'user = "a b"', "hosts.a.user"),
        (HOST + 'host_key = "AAAA"', "hosts.a.host_key"),
        (HOST + 'key_file = "id_ed25519"', "hosts.a.key_file"),
        (HOST + '[hosts.b]\naddress = "192.0.2.1"\ngroups = ["app"]', "same address"),
        (HOST + '[together]\nwhen_one_fails = "pray"', "together.when_one_fails"),
        ('version = 1\nmember = "a"', "member"),
        (HOST.replace("version", 'member = "a"\nversion'), "not for a site file"),
        ("version = 1\n[server]\nport = 80", "server.port"),
        ('version = 1\n[server]\nhost = "0.0.0.0"', "server.host"),
        ('version = 1\n[engine]\nkind = "openai"', "engine"),
        ('version = 1\n[engine]\nurl = "http://x/v1"', "engine"),
        ('version = 1\n[engine]\nkind = "openai"\nmodel = "m"\nurl = "file:///x"', "engine.url"),
        ('version = 1\n[engine]\napi_key = "s3cret"', "engine.api_key"),
        ('version = 1\n[engine]\nca_file = "/ca.pem"', "ca_file need kind"),
        (
            'version = 1\n[engine]\nkind = "openai"\nmodel = "m"\nurl = "http://x"\n'
            'ca_file = "/ca.pem"',
            "needs a url with https",
        ),
        ("version = 1\n[container]\nport = 0", "container.port"),
        ('version = 1\n[container]\naddress = "box.example"', "container.address"),
        ('version = 1\n[container]\nnames = ["Box.example"]', "container.names[0]"),
        ('version = 1\n[container]\nnames = ["https://box.example"]', "container.names[0]"),
        ('version = 1\n[container]\nnames = ["*.example"]', "container.names[0]"),
        ('version = 1\n[container]\nnames = ["2001:db8::0:1"]', "container.names[0]"),
        ('version = 1\n[container]\nnames = ["a{env.X}"]', "container.names[0]"),
        ('version = 1\n[container]\nnames = ["a.b", "a.b"]', "there twice"),
        ('version = 1\n[container]\nnames = ["192.0.2.1", "192.0.2.2"]', "only one address"),
        ('version = 1\n[container]\nnames = ["localhost"]', "is always there"),
        ('version = 1\n[container]\ncertificate_file = "/a.pem"', "need one another"),
        (
            'version = 1\n[container]\ncertificate_file = "/a.pem"\nkey_file = "/k"',
            "a certificate needs names",
        ),
        ('version = 1\n[container]\nkey_file = "k.pem"', "container.key_file"),
        ("version = 1\n[container]\nmemory_mib = { web = 1 }", "container.memory_mib.web"),
        ("version = 1\n[container]\ncolour = 1", "container.colour"),
        ('version = 1\n[container]\naddress = "fe80::1%eth0"', "container.address"),
        ('version = 1\n[container]\nnames = ["fe80::1%x { evil }"]', "container.names[0]"),
        ("version = 9", "version 9"),
    ],
)
def test_a_wrong_site_value_is_refused_with_its_path(tmp_path: Path, text: str, path: str) -> None:
    (tmp_path / "site.toml").write_text(text)
    with pytest.raises(BadUsage) as caught:
        sites.load(tmp_path / "site.toml")
    assert path in caught.value.message


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://x/v1", "must be http://"),
        ("http://", "must be http://"),
        ("http:///v1", "must be http://"),
        ("http://[::1/v1", "must be http://"),
        ("http://x:99999/v1", "must be http://"),
        ("http://x:0/v1", "must be http://"),
        ("http://x y/v1", "must be http://"),
        ("http://x\u00a0/v1", "must be http://"),
        ("localhost:11434/v1", "must be http://"),
        ("http://ann:s3cret@x/v1", "must hold no name and no password"),
        ("http://x/v1?key=s3cret", "must end with its path"),
        ("http://x/v1#top", "must end with its path"),
        ("http://x/v1/chat/completions", "leave out /chat/completions"),
        ("http://x/v1/models/", "leave out /models"),
    ],
)
def test_what_is_no_address_of_an_endpoint_is_refused_and_never_repeated(
    url: str, problem: str
) -> None:
    with pytest.raises(BadUsage, match=problem) as caught:
        sites.make_engine(url, "m", "")
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ValidationError, match=problem):
        sites.EmbeddingEndpoint(url=url)


@pytest.mark.parametrize(
    "url", ["http://x", "https://x/v1/", "http://[fd00::7]:8000/v1beta/openai", "http://10.0.0.9/a"]
)
def test_addresses_of_endpoints_are_many(url: str) -> None:
    assert sites.make_engine(url, "m", "/key").url == url


def test_an_empty_site_file_still_needs_its_version(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text("")
    with pytest.raises(BadUsage, match="version"):
        sites.load(tmp_path / "site.toml")


def test_defaults_serve_loopback_with_the_extractive_engine() -> None:
    site = Site()
    assert (site.server.host, site.engine.kind) == ("127.0.0.1", "extractive")


def test_a_secret_others_can_read_is_not_accepted(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("x")
    os.chmod(key, 0o644)  # noqa: PTH101
    assert "chmod 600" in sites.check_secret_file(key)
    os.chmod(key, 0o600)  # noqa: PTH101
    assert sites.check_secret_file(key) == ""
    key.write_text("")
    assert "is empty" in sites.check_secret_file(key)
    for path in (tmp_path, tmp_path / "none", key / "below", Path("\0")):
        assert "is not a file" in sites.check_secret_file(path)


def test_a_server_that_nobody_named_goes_by_its_own_name() -> None:
    assert sites.with_name(Site(), "Gpu-1.Example.org").container.names == ("gpu-1.example.org",)


@pytest.mark.parametrize("host", ["localhost", "a_b", "", "x" * 300])
def test_a_name_that_no_browser_types_is_no_name(host: str) -> None:
    assert sites.with_name(Site(), host).container.names == ()


def test_the_names_of_the_site_stay() -> None:
    named = Site(container=Container(names=("box.example.org",)))
    assert sites.with_name(named, "other") == named


@pytest.mark.parametrize(
    ("url", "is_inside"),
    [
        ("http://192.168.7.2:8000/v1", True),
        ("https://10.0.0.9/v1", True),
        ("http://[fd00::7]:8000/v1", True),
        ("http://127.0.0.1:11434/v1", True),
        ("https://8.8.8.8/v1", False),
        ("http://[2001:4860:4860::8888]/v1", False),
        ("https://api.example.com/v1", False),
        ("http://10.0.0.9.example.com/v1", False),
    ],
)
def test_an_air_gapped_box_asks_nobody_outside(tmp_path: Path, url: str, is_inside: bool) -> None:
    engine = f'[engine]\nkind = "openai"\nurl = "{url}"\nmodel = "m"\n'
    for named in (engine, f'[embedding]\nurl = "{url}"\n'):
        file = tmp_path / "site.toml"
        file.write_text(f"version = 1\n{named}[container]\nair_gapped = true\n")
        if is_inside:
            assert sites.load(file).container.air_gapped
            continue
        with pytest.raises(BadUsage, match="asks addresses of its own network alone"):
            sites.load(file)
        closed = Site(container=Container(air_gapped=True))
        if named == engine:
            with pytest.raises(BadUsage, match="own network alone"):
                sites.with_changes(closed, {"engine": sites.make_engine(url, "m", "")})
        # Whoever lets the box have a network says so by leaving it out.
        file.write_text(f"version = 1\n{named}")
        assert sites.load(file)


def test_the_address_of_a_file_holds_no_password() -> None:
    with pytest.raises(ValidationError) as caught:
        FileWish(name="driver", address="https://ann:s3cret@example.org/x", filename="x")
    (problem,) = caught.value.errors()
    assert "must hold no name and no password" in problem["msg"]
    assert FileWish(name="driver", address="https://example.org/a@b?x=1", filename="x").address
