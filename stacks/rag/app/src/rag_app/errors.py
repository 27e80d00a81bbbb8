"""What the application refuses, in words that reach the user."""

from __future__ import annotations


class RagError(Exception):
    """Base of everything the application raises on purpose; `str()` is fit for users."""


class ConfigError(RagError):
    """`rag.toml` is wrong; the message names the file and the key."""


class DocumentRefused(RagError):
    """A document cannot be taken; `reference` is stable, the message says why and what to do."""

    def __init__(self, reference: str, message: str) -> None:
        super().__init__(message)
        self.reference = reference


class LibraryUnusable(RagError):
    """The library's file cannot be used: damaged, or written by a newer version."""


class Superseded(RagError):
    """A document was replaced or removed while it was being worked on; drop the work."""


class VectorsUnavailable(RagError):
    """The vector index cannot be reached or failed; queries cannot be answered now."""


class VectorsUnreachable(VectorsUnavailable):
    """Nothing answers at the address of the index, or not in time; waiting may help."""


class VectorsKeyRefused(VectorsUnavailable):
    """The server of the index does not take the key of `vectors.api_key_file`."""


class VectorsVersionUnfit(VectorsUnavailable):
    """The server of the index is too old, too new, or no Qdrant at all."""


class VectorsCollectionUnfit(VectorsUnavailable):
    """A collection of the right name has other vectors, or was made by somebody else."""


class EngineFailed(RagError):
    """The language model endpoint failed; the caller degrades to extractive."""


class EngineBusy(EngineFailed):
    """The endpoint works, but takes no more requests just now; it answers after `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EmbeddingFailed(RagError):
    """The embedding endpoint failed; questions are searched by their words alone."""


class RerankFailed(RagError):
    """The reranking endpoint failed; passages stay in the order of the search."""
