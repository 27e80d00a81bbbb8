"""Hybrid search: both lanes of the vector index, fused, completed from the library."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import lru_cache

from rag_app.config import Tuning
from rag_app.embedding import EmbeddingClient
from rag_app.errors import EmbeddingFailed
from rag_app.indexing import indexed_text
from rag_app.interfaces import (
    Hits,
    Readiness,
    SparseVector,
    StoredChunk,
    VectorReader,
)
from rag_app.library import SqliteLibrary
from rag_app.model import Passage
from rag_app.retrieval.evidence import (
    Focus,
    Weighted,
    distinct_words,
    evidence,
    terms_asked,
    weigh,
)
from rag_app.retrieval.fusion import fuse
from rag_app.text.language import detect
from rag_app.text.tokens import Word, count_terms

# A bigram that matches says less than the whole word.
_PART_WEIGHT = 0.5
_ALTERNATIVE_WEIGHT = 0.8
# The same page often exists in both languages; readers want theirs.
OTHER_LANGUAGE_FACTOR = 0.7
# A section that is about what is asked stands before those that mention it.
_FOCUS_BONUS = 0.05
# Fused candidates whose texts are looked at, for each passage that is wanted.
_LOOKED_AT = 5
# About 15 KB each. What is asked again and again is answered from a small part of the library.
_REMEMBERED_CHUNKS = 4000


class HybridSearcher:
    """`rag_app.interfaces.Searcher`; for one event loop."""

    def __init__(
        self,
        library: SqliteLibrary,
        vectors: VectorReader,
        signature: str,
        tuning: Tuning,
        embedding: EmbeddingClient | None = None,
    ) -> None:
        self._library = library
        self._vectors = vectors
        self._signature = signature
        self._tuning = tuning
        self._embedding = embedding
        self._similarity = embedding.similarity if embedding else None
        self._terms = lru_cache(maxsize=_REMEMBERED_CHUNKS)(_terms_of)

    async def search(self, question: str, limit: int, language: str | None = None) -> list[Passage]:
        """See `rag_app.interfaces.Searcher.search`."""
        asked = distinct_words(question)
        dense = await self._dense(question)
        if not asked and dense is None:
            return []
        hits = await self._vectors.search(sparse_query(asked), dense, self._tuning.candidates)
        fused = self._fuse(hits)
        if not fused:
            return []
        wanted = list(fused)[: limit * _LOOKED_AT]
        stored, weighted = await asyncio.to_thread(self._look_up, asked, wanted)
        wished = language or detect(question)
        focus = Focus(weighted)
        scores = {
            identity: fused[identity] * _preference(stored[identity], focus, wished)
            for identity in wanted
            if identity in stored
        }
        best = sorted(scores, key=lambda identity: (-scores[identity], identity))[:limit]
        meant = self._meant(hits)
        return [
            self._passage(stored[identity], scores[identity], meant.get(identity, 0.0), weighted)
            for identity in best
        ]

    async def ready(self, corpus: str) -> Readiness:
        """See `rag_app.interfaces.Searcher.ready`."""
        vectors = await self._vectors.ready()
        if not vectors.ready:
            return vectors
        pending, ready = await asyncio.to_thread(self._corpus_state, corpus, vectors.index)
        if ready:
            return Readiness(True, "", pending, vectors.index)
        return Readiness(
            False, "the documents of the release are being indexed", pending, vectors.index
        )

    def _corpus_state(self, corpus: str, index: str) -> tuple[int, bool]:
        ready = self._library.corpus_ready(corpus, self._signature, index)
        return self._library.pending(), ready

    async def _dense(self, question: str) -> tuple[float, ...] | None:
        if self._embedding is None:
            return None
        try:
            return await self._embedding.question(question)
        except EmbeddingFailed:
            return None  # The words alone still find passages.

    def _fuse(self, hits: Hits) -> dict[int, float]:
        tuning = self._tuning
        return fuse(
            (
                (tuning.weight_sparse, [hit.id for hit in hits.sparse]),
                (tuning.weight_dense, [hit.id for hit in hits.dense]),
            ),
            tuning.fusion_k,
        )

    def _meant(self, hits: Hits) -> dict[int, float]:
        """Evidence by meaning, in 0..1, of what the dense lane found."""
        if self._similarity is None:
            return {}
        floor, ceiling = self._similarity
        return {
            hit.id: min(1.0, max(0.0, (hit.score - floor) / (ceiling - floor)))
            for hit in hits.dense
        }

    def _look_up(
        self, asked: Sequence[Word], ids: Sequence[int]
    ) -> tuple[dict[int, StoredChunk], tuple[Weighted, ...]]:
        frequencies = self._library.term_frequencies(self._signature, terms_asked(asked))
        chunks = self._library.statistics(self._signature).chunks
        return self._library.chunks(ids), weigh(asked, frequencies, chunks)

    def _passage(
        self, stored: StoredChunk, score: float, meant: float, weighted: Sequence[Weighted]
    ) -> Passage:
        chunk = stored.chunk
        return Passage(
            chunk_id=stored.id,
            document_id=stored.document_id,
            document=stored.document,
            text=chunk.text,
            start=chunk.start,
            end=chunk.end,
            score=score,
            evidence=max(meant, evidence(weighted, self._terms(stored))),
            page=chunk.page,
            heading_path=chunk.heading_path,
            language=stored.language,
        )


def _preference(stored: StoredChunk, focus: Focus, language: str) -> float:
    """Factor in 0..1 for the language of a chunk and for how exactly its heading fits."""
    heading = " ".join(stored.chunk.heading_path[-1:])
    fitting = (1 + _FOCUS_BONUS * focus.of(heading)) / (1 + _FOCUS_BONUS)
    return fitting * (1.0 if stored.language == language else OTHER_LANGUAGE_FACTOR)


def sparse_query(asked: Sequence[Word]) -> SparseVector | None:
    """The terms to search for, stems at the weight of their word; None when there are none."""
    weights: dict[int, float] = {}
    for word in asked:
        shares = dict.fromkeys(word.parts, _PART_WEIGHT)
        shares |= dict.fromkeys((*word.forms, *word.alternatives), _ALTERNATIVE_WEIGHT)
        shares[word.stem] = 1.0
        for term, share in shares.items():
            weights[term] = max(weights.get(term, 0.0), word.weight * share)
    indices = tuple(sorted(weights))
    return SparseVector(indices, tuple(weights[index] for index in indices)) if indices else None


def _terms_of(stored: StoredChunk) -> frozenset[int]:
    return frozenset(count_terms(indexed_text(stored.chunk)))
