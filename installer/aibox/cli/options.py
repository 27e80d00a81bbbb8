"""Options that several commands share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print the data as JSON on stdout.")]
ProfileName = Annotated[
    str | None, typer.Option("--profile", help="Hardware class; see: aibox profiles")
]
Lockfile = Annotated[
    Path | None, typer.Option("--lockfile", help="Another models.lock than the checkout's.")
]
Inventory = Annotated[
    Path | None, typer.Option("--inventory", help="File of site values; see inventory.example")
]
HostsInventory = Annotated[
    Path | None, typer.Option("--inventory", help="Of a box of several hosts; see [hosts] there.")
]
Port = Annotated[
    int | None, typer.Option("--port", min=1024, max=65535, help="Port of the page and the API.")
]
EngineUrl = Annotated[
    str | None,
    typer.Option("--engine-url", help="An OpenAI-compatible endpoint, or 'none' to only quote."),
]
EngineModel = Annotated[
    str | None, typer.Option("--engine-model", help="The model's name at that endpoint.")
]
EngineKeyFile = Annotated[
    Path | None, typer.Option("--engine-key-file", help="A 0600 file holding the endpoint's key.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
Bundle = Annotated[
    list[Path] | None,
    typer.Option("--bundle", help="A bundle, or its volumes (repeat); default: the checkout."),
]
Root = Annotated[
    list[Path] | None,
    typer.Option("--root", help="Trust this first root (1.root.json) from now on; repeatable."),
]
Weights = Annotated[
    list[Path] | None,
    typer.Option("--weights", help="Folder with a model's files that no bundle may hold."),
]
AllowUnsigned = Annotated[
    bool, typer.Option("--allow-unsigned", help="Take a bundle nobody vouches for; recorded.")
]
AllowDowngrade = Annotated[
    bool, typer.Option("--allow-downgrade", help="Take an older bundle than before; recorded.")
]
AllowExpired = Annotated[
    bool, typer.Option("--allow-expired", help="Take a bundle past its date; recorded.")
]
