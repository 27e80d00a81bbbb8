"""`aibox trust init | add | list | apply | rotate | revoke`: whose bundles a box takes."""

from __future__ import annotations

import datetime
import shlex
from pathlib import Path
from typing import Annotated

import typer

from aibox import exchange, trusting
from aibox.bundle.trust.key_folder import KeyKind
from aibox.cli import show
from aibox.cli.options import AsJson
from aibox.cli.workplace import workplace
from aibox.trusting import Chain, NewKey

app = typer.Typer(
    help="Signing keys, roots of trust and revocations.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Folder = Annotated[Path, typer.Argument(help="Folder of the signing keys.")]
KeyFiles = Annotated[
    list[Path] | None,
    typer.Option("--key", help="A root key that lies elsewhere; may be repeated."),
]


@app.command()
def init(
    folder: Folder,
    root_keys: Annotated[int, typer.Option(min=1, max=16, help="Root keys to make.")] = 3,
    root_threshold: Annotated[int, typer.Option(min=1, help="How many of them must sign.")] = 2,
    release_keys: Annotated[int, typer.Option(min=1, max=16, help="Release keys to make.")] = 2,
    release_threshold: Annotated[int, typer.Option(min=1, help="How many must sign.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Make new root and release keys; the first root that customers compare and trust."""
    made = trusting.init(
        folder,
        created=_today(),
        root_keys=root_keys,
        root_threshold=root_threshold,
        release_keys=release_keys,
        release_threshold=release_threshold,
    )
    if as_json:
        show.data({"folder": str(folder), "fingerprint": made.fingerprint})
        return
    show.text(f"Keys:         {folder} (README.txt there says which file belongs where)")
    show.text(f"Fingerprint:  {made.fingerprint}")
    show.note("print the fingerprint on the delivery note; keep the root keys apart and offline")


@app.command()
def add(
    root: Annotated[Path, typer.Argument(help="1.root.json, as its maker sent it.")],
    as_json: AsJson = False,
) -> None:
    """Take bundles of whoever made this first root."""
    with show.progress() as report:
        place = workplace(report)
        chain = exchange.trust_add(place, root)
    if as_json:
        show.data(_facts(chain))
        return
    show.text(f"Trusted:  {chain.fingerprint}")
    folder = shlex.quote(str(place.root / "trust" / chain.name))
    show.note(f"compare it with the delivery note; if it differs, trust it no more: rm -r {folder}")


@app.command("list")
def list_chains(as_json: AsJson = False) -> None:
    """List whose bundles this box takes, what it has seen of them, and what was revoked."""
    with show.progress() as report:
        found = exchange.trust_list(workplace(report))
    if as_json:
        show.data([_facts(chain) for chain in found])
        return
    rows = [{**_facts(chain), "revoked": _revoked(chain)} for chain in found]
    columns = ("fingerprint", "root", "expires", "sequence", "keys", "revoked", "trouble")
    show.table(rows, columns)


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(help="A newer root, or revoked.json.")],
    as_json: AsJson = False,
) -> None:
    """Take in a newer root or a list of revocations of somebody who is trusted."""
    with show.progress() as report:
        done = exchange.trust_apply(workplace(report), file)
    if as_json:
        show.data({"kind": done.kind.value, "version": done.version, "changed": done.changed})
    else:
        state = "taken in" if done.changed else "was known already"
        show.text(f"{done.kind.value} {done.version} {state}")


@app.command()
def rotate(
    folder: Folder,
    new_release_key: Annotated[
        bool, typer.Option("--new-release-key", help="Make one more release key.")
    ] = False,
    new_root_key: Annotated[
        bool, typer.Option("--new-root-key", help="Make one more root key.")
    ] = False,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", help="Id of a key to leave out; repeatable.")
    ] = None,
    key: KeyFiles = None,
    as_json: AsJson = False,
) -> None:
    """Make the next root, signed by the old rule and by the new one."""
    wanted = [KeyKind.RELEASE] * new_release_key + [KeyKind.ROOT] * new_root_key
    root = trusting.rotate(
        folder,
        created=_today(),
        add=[NewKey(kind) for kind in wanted],
        remove=remove or (),
        key_files=key or (),
    )
    _made(folder, "root", len(root), as_json)


@app.command()
def revoke(
    folder: Folder,
    release_key: Annotated[
        list[str] | None, typer.Option("--release-key", help="Id of a release key; repeatable.")
    ] = None,
    bundle: Annotated[
        list[str] | None,
        typer.Option("--bundle", help="Digest of a bundle.json or of a content; repeatable."),
    ] = None,
    blob: Annotated[
        list[str] | None, typer.Option("--blob", help="Digest of a file; repeatable.")
    ] = None,
    min_sequence: Annotated[
        int, typer.Option("--min-sequence", min=0, help="Refuse every bundle below this sequence.")
    ] = 0,
    key: KeyFiles = None,
    as_json: AsJson = False,
) -> None:
    """Add to revoked.json, which every later bundle brings, and which `apply` takes alone."""
    data = trusting.revoke(
        folder,
        created=_today(),
        release_keys=release_key or (),
        bundles=bundle or (),
        blobs=blob or (),
        min_sequence=min_sequence,
        key_files=key or (),
    )
    _made(folder, "revocations", len(data), as_json)


def _made(folder: Path, kind: str, size: int, as_json: bool) -> None:
    if as_json:
        show.data({"kind": kind, "folder": str(folder), "bytes": size})
    else:
        show.text(f"{kind} written to {folder} ({size} bytes)")


def _facts(chain: Chain) -> dict[str, object]:
    revoked = chain.revocations
    gone = revoked.keys if revoked else ()
    return {
        "fingerprint": chain.fingerprint,
        "root": chain.version,
        "expires": chain.expires.date().isoformat(),
        "sequence": chain.floors.sequence,
        "keys": ", ".join(
            sorted(name for key, name in chain.release_keys.items() if key not in gone)
        ),
        "release_keys": dict(chain.release_keys),
        "revoked": revoked.model_dump(mode="json") if revoked else None,
        "trouble": chain.trouble,
    }


def _revoked(chain: Chain) -> str:
    """What was revoked, in a few words; the digests are in the JSON."""
    found = chain.revocations
    if found is None:
        return ""
    told = [f"key {chain.release_keys.get(key, key[:16])}" for key in found.keys]
    counted = {"bundles": len(found.bundles), "files": len(found.blobs)}
    told += [f"{what}: {count}" for what, count in counted.items() if count]
    if found.min_sequence:
        told.append(f"sequences below {found.min_sequence}")
    return ", ".join(told)


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()
