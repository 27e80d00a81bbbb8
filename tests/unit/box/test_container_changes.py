"""What is done to the containers: everything that is needed and nothing else."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from aibox.box.compose_file import ORDER, ComposeService, ordered
from aibox.box.container_changes import Scene, Step, Verb, steps
from aibox.box.docker_engine import Container
from containers_double import IMAGE, IMAGE_ID, container, unit

NAMES = (*ORDER, "new")
DIGESTS = st.sampled_from(["one", "two"])
WANTED = st.dictionaries(st.sampled_from(NAMES), DIGESTS, min_size=1).map(
    lambda found: tuple(ComposeService(name, IMAGE, found[name]) for name in ordered(found))
)
STATES = st.sampled_from(["running", "exited", "created", "dead", "restarting", "paused"])
ACTIVE = st.sampled_from(["active", "activating", "inactive", "failed", "deactivating"])
IMAGES = st.sampled_from([IMAGE_ID, "sha256:old"])
CONTAINERS = st.lists(
    st.builds(
        lambda name, inputs, number, state, image: container(
            name, inputs, number, state=state, image=image
        ),
        *(st.sampled_from(NAMES), DIGESTS, st.integers(0, 2), STATES, IMAGES),
    ),
    max_size=8,
    unique_by=lambda one: one.id,
)
UNITS = st.dictionaries(st.sampled_from(NAMES), ACTIVE)
SCENES = st.builds(
    lambda found, units: Scene(
        tuple(found),
        {name: unit(name, active) for name, active in units.items()},
        {IMAGE: IMAGE_ID},
    ),
    CONTAINERS,
    UNITS,
)


def carried_out(wanted: tuple[ComposeService, ...], scene: Scene, doing: tuple[Step, ...]) -> Scene:
    """The scene after the steps, with `docker compose up` as it is."""
    found, units = list(scene.containers), dict(scene.units)
    for step in doing:
        if step.verb is Verb.STOP:
            units[step.service] = unit(step.service, "inactive")
        elif step.verb is Verb.REMOVE:
            found = [one for one in found if one.id != step.container]
        else:
            (service,) = (one for one in wanted if one.name == step.service)
            units[step.service] = unit(step.service)
            found = [one for one in found if one.service != step.service]
            found.append(container(step.service, service.inputs, 9))
    return Scene(tuple(found), units, scene.images)


@given(WANTED, SCENES)
def test_afterwards_every_wanted_service_is_up_and_nothing_is_left_to_do(
    wanted: tuple[ComposeService, ...], scene: Scene
) -> None:
    after = carried_out(wanted, scene, steps(wanted, scene))
    assert all(after.is_up(service) for service in wanted)
    assert steps(wanted, after) == ()
    assert {one.service for one in after.containers} <= {service.name for service in wanted}


@given(WANTED, SCENES)
def test_what_is_right_is_not_touched(wanted: tuple[ComposeService, ...], scene: Scene) -> None:
    touched = {step.service for step in steps(wanted, scene)}
    assert not touched & {service.name for service in wanted if scene.is_up(service)}


@given(WANTED, SCENES)
def test_what_is_dropped_goes_before_anything_starts_and_who_is_asked_starts_first(
    wanted: tuple[ComposeService, ...], scene: Scene
) -> None:
    doing = steps(wanted, scene)
    starts = [step for step in doing if step.verb in (Verb.START, Verb.RESTART)]
    assert list(doing[len(doing) - len(starts) :]) == starts
    assert [step.service for step in starts] == ordered(step.service for step in starts)
    assert len({step.service for step in starts}) == len(starts)


@given(WANTED, SCENES)
def test_killed_after_any_step_the_next_run_ends_at_the_same(
    wanted: tuple[ComposeService, ...], scene: Scene
) -> None:
    doing = steps(wanted, scene)
    for done in range(len(doing)):
        half = carried_out(wanted, scene, doing[:done])
        assert steps(wanted, half) == doing[done:]


def one(inputs: str = "one", **fields: object) -> tuple[Container, ...]:
    return (container("web", inputs, **fields),)


WEB = ComposeService("web", IMAGE, "one")


def doing(found: tuple[Container, ...], active: str | None = "active") -> list[Verb]:
    units = {"web": unit("web", active)} if active else {}
    return [step.verb for step in steps([WEB], Scene(found, units, {IMAGE: IMAGE_ID}))]


def test_the_cases_by_name() -> None:
    assert doing(one()) == []
    assert doing((), None) == [Verb.START]
    assert doing(one("two")) == [Verb.RESTART]
    assert doing(one(image="sha256:old")) == [Verb.RESTART]
    assert doing(one(state="exited"), "failed") == [Verb.START]
    assert doing(one(state="exited"), "activating") == [Verb.RESTART]
    assert doing(one(state="exited"), "active") == [Verb.RESTART]


def test_a_container_that_outlived_its_unit_is_watched_again_and_not_replaced() -> None:
    assert doing(one(), "inactive") == [Verb.START]


def test_a_container_somebody_runs_by_hand_is_neither_the_service_nor_removed() -> None:
    (made,) = one()
    by_hand = dataclasses.replace(made, labels={**made.labels, "com.docker.compose.oneoff": "True"})
    assert doing((by_hand,), None) == [Verb.START]
    assert steps([], Scene((by_hand,), {}, {})) == ()


def test_a_failed_unit_of_a_dropped_service_is_not_stopped_every_time() -> None:
    scene = Scene((), {"old": unit("old", "failed")}, {IMAGE: IMAGE_ID})
    assert steps([], scene) == ()
