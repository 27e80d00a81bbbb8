"""`aibox fit`: whether a model fits on GPUs, and how many can ask at once. Needs no GPU."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from aibox import content, lock
from aibox import profile as profiles
from aibox.cli import show
from aibox.cli.options import AsJson, ProfileName
from aibox.errors import BadUsage, Failed, Fault
from aibox.fit import advice, cards, catalogue, holders, question, telling
from aibox.fit.answer import Answer
from aibox.fit.question import Adjustment, Sources

Model = Annotated[
    str | None,
    typer.Option("--model", help="A model of the catalogue, or a folder with its config.json."),
]
Gpu = Annotated[
    list[str] | None, typer.Option("--gpu", help="A GPU by name; repeat it for unlike ones.")
]
Count = Annotated[int | None, typer.Option("--count", min=1, max=64, help="How many GPUs.")]
Context = Annotated[
    int | None, typer.Option("--context", min=1, help="Longest request, in tokens.")
]
Concurrency = Annotated[
    int | None, typer.Option("--concurrency", min=1, help="Requests of that length at once.")
]
Memory = Annotated[
    int | None,
    typer.Option("--memory-mib", min=1, help="Memory of each GPU as nvidia-smi reports it."),
]
Beside = Annotated[
    list[str] | None, typer.Option("--beside", help="A model on the same GPUs; repeatable.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="An argument of the engine, KEY=VALUE; repeatable."),
]
Picture = Annotated[
    Path | None, typer.Option("--chart", help="Draw requests at once against length: FILE.svg")
]
Listing = Annotated[bool, typer.Option("--list", help="List the models and GPUs that are known.")]


def fit(
    profile: ProfileName = None,
    model: Model = None,
    gpu: Gpu = None,
    count: Count = None,
    context: Context = None,
    concurrency: Concurrency = None,
    memory_mib: Memory = None,
    beside: Beside = None,
    arguments: Set = None,
    picture: Picture = None,
    listing: Listing = False,
    as_json: AsJson = False,
) -> None:
    """Say whether a model fits on GPUs and how many can ask at once. Needs no GPU."""
    found = content.find()
    sources = Sources(catalogue.load(found.catalogue), lock.load(found.lockfile))
    if listing:
        _list(sources, as_json)
        return
    _refuse_half_questions(profile, model, gpu)
    adjust = Adjustment(context, concurrency, _arguments(arguments or ()), tuple(beside or ()))
    if profile is not None:
        loaded = profiles.load(found.profiles, profile)
        answers = question.of_profile(sources, loaded, adjust)
    else:
        sources = replace(sources, release=holders.pinned_release(found.profiles))
        if not gpu:
            _holders(sources, str(model), found.profiles, as_json)
            return
        on = cards.cards(sources.catalogue, gpu, count, memory_mib)
        answers = {"": question.of_model(sources, str(model), on, adjust)}
    _tell(sources, answers, as_json)
    if picture is not None:
        _draw(answers, picture)


def _refuse_half_questions(
    profile: str | None, model: str | None, gpu: Sequence[str] | None
) -> None:
    if (profile is None) == (model is None) or (profile is not None and gpu):
        raise BadUsage(
            "fit-usage",
            "name a profile, or a model and the GPUs it shall run on",
            hint="for example: ./aibox fit --model qwen3-32b-awq --gpu l40s --concurrency 8",
            fault=Fault.YOU,
        )


def _arguments(given: Sequence[str]) -> tuple[tuple[str, object], ...]:
    """KEY=VALUE, the value as JSON where it is such, else as text."""
    pairs = []
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise BadUsage(
                "fit-usage",
                f"--set {text!r} is not KEY=VALUE",
                hint="for example: ./aibox fit --profile h100x2 --set kv-cache-dtype=auto",
                fault=Fault.YOU,
            )
        pairs.append((key, _value(value)))
    return tuple(pairs)


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _tell(sources: Sources, answers: dict[str, Answer], as_json: bool) -> None:
    told = {
        service: advice.changes(sources, found, fixed=bool(service))
        for service, found in answers.items()
    }
    if not as_json:
        for service, found in answers.items():
            for line in telling.lines(found, told[service], service=service):
                show.text(line)
        return
    parts = {service: telling.as_json(found, told[service]) for service, found in answers.items()}
    first = parts.get("chat") or next(iter(parts.values()))
    everything = all(found.fits for found in answers.values())
    services = {"services": parts} if "" not in parts else {}
    show.data({**first, "fits": everything, **services})


def _draw(answers: dict[str, Answer], path: Path) -> None:
    drawn = telling.drawing(answers.get("chat") or next(iter(answers.values())))
    if drawn is None:
        raise Failed(
            "fit-nothing-to-draw",
            "no request fits, so there is nothing to draw",
            hint="ask for something smaller, for example: ./aibox fit --context 8192",
            fault=Fault.YOU,
        )
    try:
        path.write_text(drawn, encoding="utf-8")
    except OSError as error:
        raise Failed(
            "fit-chart-unwritable",
            f"{path} cannot be written: {error.strerror}",
            hint="name another file: ./aibox fit --chart FILE.svg",
            fault=Fault.YOU,
        ) from error
    show.note(f"drawn: {path}")


def _holders(sources: Sources, model: str, folder: Path, as_json: bool) -> None:
    rows = holders.of_model(sources, model, folder)
    if as_json:
        show.data(rows)
    else:
        show.table(rows, ("profile", "gpus", "verdict", "context", "at_once", "reason"))


def _list(sources: Sources, as_json: bool) -> None:
    known = sources.catalogue
    if as_json:
        show.data(known.model_dump(mode="json"))
        return
    models = [
        {**one.model_dump(mode="json"), "config": "" if known.config(one) else "config unknown"}
        for one in known.models
    ]
    show.table(models, ("name", "use", "team", "licence", "redistribution", "config"))
    show.text()
    gpus = [
        {
            "name": one.name,
            "mib": one.memory_mib.value if one.memory_mib else "unknown",
            "compute": one.capability,
            "title": one.title,
        }
        for one in known.gpus
    ]
    show.table(gpus, ("name", "mib", "compute", "title"))


COMMANDS = {"fit": fit}
