"""What the routes work with; made once, by the composition in `app.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

from starlette.requests import Request

from rag_app.answer import Answerer
from rag_app.config import Config
from rag_app.interfaces import Library, Searcher, VectorReader
from rag_app.retrieval import Ranking
from rag_app.web.admission import Admission
from rag_app.web.metrics import Metrics

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

LIBRARY_THREADS = 4


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a route may use. `uploads` is the folder where uploads are written."""

    config: Config
    library: Library
    searcher: Searcher
    ranking: Ranking
    vectors: VectorReader
    answerer: Answerer
    uploads: Path
    admission: Admission
    metrics: Metrics = field(default_factory=Metrics)
    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(LIBRARY_THREADS, "library")
    )

    async def in_thread(
        self,
        function: Callable[Arguments, Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        """Run a call that touches the disk beside the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, lambda: function(*args, **kwargs))


def services(request: Request) -> Services:
    """The services of the application that serves `request`."""
    found: Services = request.app.state.services
    return found
