"""The pure middle: same input, same bytes; every change that matters changes an id."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pin_examples
from aibox import plan as plans
from aibox import release as releases
from aibox.errors import BadUsage, Failed, NeedsPerson, VerificationRefused
from aibox.plan import Current, Plan
from aibox.release import Release
from aibox.render import render, render_unit, toml_value
from aibox.site import Engine, Server, Site
from examples import LOCK, PROFILE, TARGET, TEMPLATES, lock, profile


def make_release(lock_text: str = LOCK, profile_text: str = PROFILE) -> Release:
    return releases.make(lock(lock_text), profile(profile_text))


def make_plan(release: Release, site: Site | None = None, current: Current | None = None) -> Plan:
    site = site or Site()
    wheels = plans.select_wheels(release.wheels, TARGET)
    environment = plans.environment_id([item.sha256 for item in wheels], TARGET.python)
    rendered = render(release, site, environment, TEMPLATES)
    return plans.make(release, site, TARGET, rendered, wheels, current)


def running(release: Release, generation: int = 1) -> Current:
    plan = make_plan(release)
    return Current(generation=generation, release=release, plan=plan.model_dump(mode="json"))


def test_the_same_lock_and_profile_give_the_same_release() -> None:
    assert make_release().id == make_release().id
    assert make_release().manifest() == make_release().manifest()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("top_k = 6", "top_k = 5"),
        ("How do I roll back?", "How can I roll back?"),
        ('version = "1.0"', 'version = "1.1"'),
        ("size = 3", "size = 4"),
    ],
)
def test_every_locked_value_is_part_of_the_release_id(old: str, new: str) -> None:
    assert make_release(LOCK.replace(old, new)).id != make_release().id


def test_the_wish_of_a_profile_does_not_change_a_release_until_it_is_locked() -> None:
    assert make_release(profile_text=PROFILE.replace("top_k = 6", "top_k = 9")).tuning.top_k == 6


def test_a_stored_manifest_reads_back_with_the_same_id() -> None:
    release = make_release()
    assert releases.parse(release.manifest()).id == release.id


@given(st.binary(max_size=200))
def test_a_damaged_manifest_needs_a_person(data: bytes) -> None:
    with pytest.raises(NeedsPerson):
        releases.parse(data)


def test_rendering_is_deterministic_and_names_the_release() -> None:
    release = make_release()
    first = render(release, Site(), "e" * 64, TEMPLATES)
    assert first == render(release, Site(), "e" * 64, TEMPLATES)
    assert tomllib.loads(first.files["config/rag.toml"].decode())["release"] == release.id


def test_an_undefined_name_in_a_template_is_our_error() -> None:
    with pytest.raises(Failed) as caught:
        render(make_release(), Site(), "e" * 64, {**TEMPLATES, "rag/rag.toml.j2": b"{{ nothing }}"})
    assert caught.value.reference == "template-broken"


def test_a_site_value_cannot_reach_the_template_language() -> None:
    site = Site(engine=Engine(kind="openai", url="http://x/v1", model="{{ 7*7 }}"))
    templates = {**TEMPLATES, "rag/rag.toml.j2": b"model = {{ site.engine.model | toml }}\n"}
    files = render(make_release(), site, "e" * 64, templates).files
    assert tomllib.loads(files["config/rag.toml"].decode())["model"] == "{{ 7*7 }}"


@given(st.text())
def test_any_text_survives_toml(text: str) -> None:
    encoded = text.encode("utf-8", "replace").decode()
    assert tomllib.loads(f"value = {toml_value(encoded)}")["value"] == encoded


def test_a_prompt_change_restarts_only_the_web_process() -> None:
    before = render(make_release(), Site(), "e" * 64, TEMPLATES).inputs
    changed = make_release(LOCK.replace("size = 3", "size = 4").replace('"aaaa', '"aaab', 2))
    after = render(changed, Site(), "e" * 64, TEMPLATES).inputs
    assert {name for name in after if after[name] != before[name]} == {"web"}


@pytest.mark.parametrize(
    ("old", "new", "restarted"),
    [
        ("top_k = 6", "top_k = 5", {"web"}),
        ("evidence_threshold = 0.5", "evidence_threshold = 0.6", {"web"}),
        ("chunk_size = 600", "chunk_size = 500", {"vectors", "ingest", "web"}),
        ("bm25_b = 0.75", "bm25_b = 0.5", {"vectors", "ingest", "web"}),
    ],
)
def test_a_tuning_change_restarts_what_reads_it(old: str, new: str, restarted: set[str]) -> None:
    before = render(make_release(), Site(), "e" * 64, TEMPLATES).inputs
    after = render(make_release(LOCK.replace(old, new)), Site(), "e" * 64, TEMPLATES).inputs
    assert {name for name in after if after[name] != before[name]} == restarted


def test_the_unit_names_launcher_and_root() -> None:
    assert render_unit(TEMPLATES, "/box", "/opt/aibox") == b"ExecStart=/opt/aibox start # /box\n"


def test_the_preferred_build_of_a_package_is_chosen() -> None:
    (chosen,) = plans.select_wheels(make_release().wheels, TARGET)
    assert chosen.filename.startswith("example-1.0-cp311")


def test_a_package_without_a_fitting_build_is_named() -> None:
    target = plans.Target(python="2.7", tags=("cp27-none-any",))
    with pytest.raises(BadUsage, match=r"example 1\.0"):
        plans.select_wheels(make_release().wheels, target)


def test_a_build_whose_name_says_nothing_is_not_chosen() -> None:
    release = make_release(LOCK.replace("example-1.0-py3-none-any.whl", "anything"))
    assert plans.select_wheels(release.wheels, TARGET)[0].filename.startswith("example-1.0-cp311")
    with pytest.raises(BadUsage, match=r"example 1\.0"):
        plans.select_wheels(release.wheels, plans.Target(python="x", tags=("py3-none-any",)))


def test_a_plan_is_identified_by_what_the_generation_will_be() -> None:
    release = make_release()
    first, again = make_plan(release), make_plan(release, current=running(release))
    assert first.digest == again.digest
    assert make_plan(release, Site(server=Server(port=9000))).digest != first.digest


def test_a_plan_names_what_changes() -> None:
    current = running(make_release())
    plan = make_plan(make_release(LOCK.replace("top_k = 6", "top_k = 5")), current=current)
    assert [(item.name, item.current, item.desired) for item in plan.differences] == [
        ("tuning.top_k", "6", "5")
    ]


def test_a_changed_port_is_a_difference() -> None:
    release = make_release()
    plan = make_plan(release, Site(server=Server(port=9000)), running(release))
    assert [item.name for item in plan.differences] == ["site.server.port"]


def test_nothing_changes_when_the_same_release_runs() -> None:
    release = make_release()
    plan = make_plan(release, current=running(release))
    assert plan.differences == ()
    assert "restart nothing" in plan.steps[3]


def test_a_release_with_an_embedding_model_needs_an_endpoint() -> None:
    text = LOCK.replace("[embedding]", '[embedding.local]\nmodel = "m"\ndimension = 3')
    with pytest.raises(BadUsage) as caught:
        make_plan(make_release(text))
    assert caught.value.reference == "embedding-endpoint-missing"


def test_the_differences_of_two_releases_are_listed_for_status() -> None:
    found = plans.compare_releases(
        make_release(), make_release(LOCK.replace('version = "1.0"', 'version = "1.1"'))
    )
    assert [(item.name, item.desired) for item in found] == [("wheel.example", "1.1")]


def test_inputs_do_not_depend_on_the_order_of_rendering() -> None:
    rendered = render(make_release(), Site(), "e" * 64, TEMPLATES)
    assert replace(rendered) == rendered


def test_what_has_no_digest_yet_is_refused_by_name() -> None:
    unknown = pin_examples.unresolved_model()
    incomplete = make_release().model_copy(update={"models": (unknown,)})
    with pytest.raises(VerificationRefused, match=unknown.name):
        releases.refuse_unresolved(incomplete)
    releases.refuse_unresolved(make_release())
