"""`aibox fit`: whether a model fits on GPUs, and how many can ask at once. Needs no GPU."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from aibox import content, lock
from aibox import profile as profiles
from aibox.cli import show
from aibox.cli.options import AsJson, ProfileName
from aibox.errors import BadUsage, Failed, Fault
from aibox.fit import advice, cards, catalogue, engine, holders, question, report
from aibox.fit.answer import Answer
from aibox.fit.models import Sources
from aibox.fit.question import Adjustment

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="A model of the catalogue, or a folder with config.json and weights (or their index).",
    ),
]
Gpu = Annotated[
    list[str] | None,
    typer.Option("--gpu", help="A GPU by name or PCI id; repeat it for unlike ones."),
]
Count = Annotated[int | None, typer.Option("--count", min=1, max=64, help="How many GPUs.")]
Context = Annotated[
    int | None,
    typer.Option("--context", min=1, help="Longest request: question and answer, in tokens."),
]
Concurrency = Annotated[
    int | None,
    typer.Option("--concurrency", min=1, max=1 << 20, help="Requests of that length at once."),
]
Memory = Annotated[
    int | None,
    typer.Option(
        "--memory-mib", min=1, max=1 << 24, help="Memory of each GPU in MiB, as nvidia-smi reports."
    ),
]
Beside = Annotated[
    list[str] | None,
    typer.Option("--beside", help="An embedder or reranker on the same GPUs; repeatable."),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="An argument of the engine (of a profile: of its chat), KEY=VALUE; repeatable.",
    ),
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
    of_gpus = {"--count": count, "--memory-mib": memory_mib, "--beside": beside}
    asked = {"--context": context, "--concurrency": concurrency, "--set": arguments}
    drawn = {"--chart": picture}
    if listing:
        named = {"--profile": profile, "--model": model, "--gpu": gpu}
        _refuse_unused({**named, **of_gpus, **asked, **drawn}, "beside --list", "--list")
        _list(sources, as_json)
        return
    _refuse_half_questions(profile, model, gpu)
    if profile is not None:
        _refuse_unused(of_gpus, "of a profile, which says it itself", f"--profile {profile}")
    elif not gpu:
        unused = {**of_gpus, **asked, **drawn}
        _refuse_unused(unused, "without GPUs", "--model M --gpu G --context N")
    _refuse_other_pictures(picture)
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
    if picture is not None:
        _draw(answers, picture)
    _tell(sources, answers, as_json)


def _refuse_unused(given: Mapping[str, object], where: str, instead: str) -> None:
    """Refuse options that would change nothing."""
    for option, value in given.items():
        if value:
            raise BadUsage(
                "fit-usage",
                f"{option} says nothing {where}",
                hint=f"leave it out, or ask: ./aibox fit {instead}",
                fault=Fault.YOU,
            )


def _refuse_other_pictures(path: Path | None) -> None:
    if path is not None and path.suffix.lower() != ".svg":
        raise BadUsage(
            "fit-chart-format",
            f"{path.name!r} does not end in .svg, and charts are drawn as SVG alone",
            hint="for example: ./aibox fit --model qwen3-8b --gpu l40s --chart fit.svg",
            fault=Fault.YOU,
        )


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
    pairs = {}
    for text in given:
        key, equals, value = text.partition("=")
        key = key.strip().removeprefix("--").replace("_", "-")
        if not equals or not key:
            raise _not_set(f"--set {text!r} is not KEY=VALUE")
        if key in pairs:
            raise _not_set(f"--set gives {key} twice")
        if key not in engine.COMPUTED:
            known = ", ".join(engine.COMPUTED)
            raise _not_set(f"--set {key} is not computed with; what is: {known}")
        pairs[key] = _value(value.strip())
    return tuple(pairs.items())


def _not_set(told: str) -> BadUsage:
    return BadUsage(
        "fit-usage",
        told,
        hint="for example: ./aibox fit --profile h100x2 --set kv-cache-dtype=auto",
        fault=Fault.YOU,
    )


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
            for line in report.lines(found, told[service], service=service):
                show.text(line)
        return
    parts = {service: report.as_json(found, told[service]) for service, found in answers.items()}
    first = parts.get("chat") or next(iter(parts.values()))
    everything = all(found.fits for found in answers.values())
    services = {"services": parts} if "" not in parts else {}
    show.data({**first, "fits": everything, **services})


def _draw(answers: dict[str, Answer], path: Path) -> None:
    drawn = report.drawing(answers.get("chat") or next(iter(answers.values())))
    if drawn is None:
        raise Failed(
            "fit-nothing-to-draw",
            "there are no requests of several lengths to draw; the same without --chart says why",
            hint="for example: ./aibox fit --model qwen3-8b --gpu l40s",
            fault=Fault.YOU,
        )
    try:
        path.write_text(drawn, encoding="utf-8")
    except OSError as error:
        raise Failed(
            "fit-chart-unwritable",
            f"{path} cannot be written: {error.strerror}",
            hint="name another file: ./aibox fit --model M --gpu G --chart FILE.svg",
            fault=Fault.YOU,
        ) from error
    show.note(f"drawn: {path}")


def _holders(sources: Sources, model: str, folder: Path, as_json: bool) -> None:
    rows = holders.of_model(sources, model, folder)
    if as_json:
        show.data(rows)
    else:
        show.note(
            "Each profile's machine for this model alone: the longest requests in tokens, and how "
            "many run at once at worst. Beside an embedder less is left."
        )
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
    show.table(models, ("name", "use", "team", "redistribution", "config", "licence"))
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
