"""`aibox bundle build | inspect | verify | split`: everything a box needs, on media.

`inspect` answers at once on any size, so what the others need is imported when they are called.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aibox import content
from aibox.cli import show
from aibox.cli.options import AsJson
from aibox.cli.workplace import box_root, workplace
from aibox.errors import Fault, VerificationRefused

if TYPE_CHECKING:
    from aibox.bundle.build.assembly import Made

app = typer.Typer(
    help="Make, look at, verify and divide bundles.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Media = Annotated[
    list[Path], typer.Argument(help="The bundle; or its volumes, or a folder that holds them.")
]


@app.command()
def build(
    profile: Annotated[list[str], typer.Option("--profile", help="Repeatable.")],
    output: Annotated[Path, typer.Option("--output", help="Folder to make.")],
    sign: Annotated[
        Path | None, typer.Option("--sign", help="Folder of the signing keys; see: aibox trust")
    ] = None,
    have: Annotated[
        Path | None, typer.Option("--have", help="List made by `aibox have`: leave that out.")
    ] = None,
    volume_size: Annotated[
        str | None, typer.Option("--volume-size", help="Divide into volumes of this size: 25GB")
    ] = None,
    architecture: Annotated[
        list[str] | None,
        typer.Option("--architecture", help="x86_64 or aarch64; repeatable; default: this host's."),
    ] = None,
    python: Annotated[
        list[str] | None,
        typer.Option("--python", help="Versions of Python to carry packages for; repeatable."),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", help="Model that the operator brings; repeatable."),
    ] = None,
    for_operator: Annotated[
        bool,
        typer.Option("--for-operator", help="It goes to nobody else than the box's operator."),
    ] = False,
    skip_proof: Annotated[
        bool, typer.Option("--skip-proof", help="Do not start the services once; recorded.")
    ] = False,
    mirrors: Annotated[
        Path | None, typer.Option("--mirrors", help="File that says where packages come from.")
    ] = None,
    hub_token_file: Annotated[
        Path | None, typer.Option("--hub-token-file", help="A 0600 file with the hub's token.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch, check, prove, write and sign everything the profiles' boxes need."""
    from aibox import bundling
    from aibox.bundle import sizes
    from aibox.locking import Sources

    order = bundling.Order(
        profiles=tuple(dict.fromkeys(profile)),
        output=output.absolute(),
        have=have,
        sign=sign,
        volume_bytes=sizes.parse_size(volume_size) if volume_size else None,
        architectures=tuple(architecture or ()),
        pythons=tuple(python or ()),
        without=frozenset(without or ()),
        for_operator=for_operator,
        prove=not skip_proof,
        sources=Sources(mirrors, hub_token_file),
    )
    with show.progress() as report:
        made = bundling.build(content.find(), order, report)
    _tell(made, signed=sign is not None, as_json=as_json)


def _tell(made: Made, *, signed: bool, as_json: bool) -> None:
    said = made.description
    if as_json:
        show.data(
            {
                "folders": [str(folder) for folder in made.folders],
                "bundle": made.bundle,
                "signed": signed,
                "releases": {entry.profile: entry.id for entry in said.releases},
                "bytes": said.size,
                "carried": said.carried,
                "proofs": [proof.model_dump(mode="json") for proof in said.proofs],
            }
        )
        return
    for folder in made.folders:
        show.text(f"Bundle:  {folder}")
    show.text(f"Size:    {said.carried / 1e6:.1f} MB of {said.size / 1e6:.1f} MB")
    for proof in said.proofs:
        show.text(f"Proof:   {proof.what}: {'proven' if proof.proven else proof.reason}")
    if not signed:
        show.note("nobody signed it: boxes refuse it unless they are told --allow-unsigned")


@app.command()
def inspect(media: Media, as_json: AsJson = False) -> None:
    """What is in a bundle, what it needs, and what it would change here; believes nothing."""
    from aibox import inspecting

    found = inspecting.inspect(media, box_root())
    if as_json:
        show.data(asdict(found))
        return
    for name, value in inspecting.summary(found):
        show.text(f"{name + ':':14}{value}")
    show.table(
        [row.for_people() for row in found.kinds],
        ("kind", "count", "megabytes", "licences", "redistribution"),
    )
    show.note("nothing of this was verified; do it with: ./aibox bundle verify BUNDLE")


@app.command()
def verify(
    media: Media,
    root: Annotated[
        list[Path] | None, typer.Option("--root", help="Trust this first root; repeatable.")
    ] = None,
    allow_unsigned: Annotated[
        bool, typer.Option("--allow-unsigned", help="Check the bytes though nobody vouches.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check signatures and every byte; a report to file. Exit code 4 when it is refused."""
    from aibox import exchange
    from aibox.receiving import Terms

    terms = Terms(roots=tuple(root or ()), allow_unsigned=allow_unsigned)
    with show.progress() as progress:
        report = exchange.verify(workplace(progress), media, terms)
    if as_json:
        show.data(report)
    else:
        for line in exchange.lines(report):
            show.text(line)
    if not report["ok"]:
        first = report["refused"][0]
        show.end_with(
            VerificationRefused(
                first["reference"],
                first["message"],
                context=first["context"],
                hint=first["hint"],
                fault=Fault(first["fault"]),
            )
        )


@app.command()
def split(
    media: Media,
    output: Annotated[Path, typer.Option("--output", help="Folder to make.")],
    volume_size: Annotated[
        str | None,
        typer.Option("--volume-size", help="Size of a volume: 25GB; without it all is joined."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Divide a finished bundle over volumes, or join its volumes; needs no key."""
    from aibox import exchange

    with show.progress() as report:
        folders = exchange.split(workplace(report), media, output.absolute(), volume_size)
    if as_json:
        show.data({"folders": [str(folder) for folder in folders]})
        return
    for folder in folders:
        show.text(f"Volume:  {folder}")
