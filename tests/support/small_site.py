"""A box that small bundles come to, and whoever works there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aibox import content, receiving, stage, trusting
from aibox.activate import activate
from aibox.box import guard
from aibox.box.filesystem import Filesystem, Operation
from aibox.box.store import Store
from aibox.box.trust_store import TrustStore
from aibox.cli.app import MODULES
from aibox.content import Content
from aibox.errors import AiboxError
from aibox.prepare import Wish, Workplace, prepare
from aibox.progress import Progress
from aibox.receiving import Received, Terms
from aibox.record import Action
from aibox.stage import Material
from aibox.verdict import Verdict
from boxes import RuntimeDouble, nothing
from small_bundle import MACHINE, SmallBundle, Supplier


class SmallSite:
    """A box root that need not exist yet, and whoever works there."""

    def __init__(
        self, root: Path, environments: Path | None = None, project: Content | None = None
    ) -> None:
        """`environments` holds one that was built before: building takes a second.

        `project` is what the command line runs from, the checkout unless told otherwise.
        """
        self.root, self.project = root, project or content.find()
        self.said: list[str] = []
        self.environments = environments

    @property
    def place(self) -> Workplace:
        return Workplace(self.root, self.project, self.report)

    @property
    def store(self) -> Store:
        """A look with fresh eyes; what was hashed in this boot is known."""
        return Store(self.root)

    @property
    def trust(self) -> TrustStore:
        return TrustStore(self.root)

    def report(self, progress: Progress) -> None:
        self.said.append(f"[{progress.step}] {progress.message}")

    def trusting(self, supplier: Supplier) -> SmallSite:
        """Take the supplier's bundles from now on."""
        self.begin()
        trusting.add(self.trust, supplier.root.read_bytes())
        return self

    def begin(self) -> Store:
        """An empty box."""
        self.root.mkdir(parents=True, exist_ok=True)
        store = self.store
        store.initialise()
        if self.environments and not store.layout.environments.exists():
            store.layout.environments.symlink_to(self.environments)
        return store

    def wish(self, *folders: Path, profile: str | None = "local", **terms: Any) -> Wish:
        return Wish(profile=profile, bundle=folders, terms=Terms(**terms))

    @contextmanager
    def receiving(self, *folders: Path, **terms: Any) -> Iterator[Received]:
        """The bundle in `folders`, opened and judged."""
        with receiving.receive(self.trust, folders, Terms(**terms), self.report) as received:
            yield received

    def refusal(
        self,
        *folders: Path,
        profile: str | None = None,
        machine: str = MACHINE,
        **terms: Any,
    ) -> AiboxError:
        """Why a bundle is not believed; the box is as it was, and the hint is a way out."""
        before = self.files()
        with pytest.raises(AiboxError) as caught, self.receiving(*folders, **terms) as received:
            receiving.release_of(received, profile, machine)
        assert self.files() == before
        assert ends_with_a_command(caught.value)
        return caught.value

    def stage(
        self,
        *folders: Path,
        profile: str | None = "local",
        before: Callable[[Operation], None] = nothing,
        watch: Callable[[Material], Material] = lambda material: material,
        **terms: Any,
    ) -> int:
        """Verify, plan and stage; `before` sees every change of the store, `watch` the material."""
        self.begin()
        with prepare(self.place, self.wish(*folders, profile=profile, **terms)) as prepared:
            assert prepared.received is not None
            store = Store(self.root, Filesystem(before))
            with receiving.explaining(prepared.received):
                return stage.run(store, watch(prepared.material), self.report)

    def serves(self, number: int) -> None:
        """Let a generation be the one that was installed."""
        store = self.store
        with guard.hold(self.root):
            activate(
                store,
                number,
                action=Action.INSTALL,
                runtime=RuntimeDouble(self.root),
                gate=lambda: Verdict(passed=True),
            )

    def take_in(self, bundle: SmallBundle) -> None:
        """Remember a bundle as one that served."""
        with self.receiving(*bundle.folders) as received:
            assert received.verified is not None
            trusting.accept(self.trust, received.verified)

    def files(self) -> dict[str, tuple[int, float]]:
        """Everything in the box: size and time, to see whether anything was changed."""
        found = [Path(at, name) for at, _, names in os.walk(self.root) for name in names]
        return {
            str(path.relative_to(self.root)): (path.lstat().st_size, path.lstat().st_mtime)
            for path in found
        }


_COMMAND = re.compile(r"(?:\./aibox ([a-z]+)|sh BUNDLE/aibox ([a-z]+))[^;:]*$")


def ends_with_a_command(error: AiboxError) -> bool:
    """Whether whoever reads the hint knows what to type."""
    found = _COMMAND.search(error.hint)
    return found is not None and (found[1] or found[2]) in MODULES
