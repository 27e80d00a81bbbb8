"""The part of BM25 that is stored with a chunk; the engine multiplies the IDF when searching.

Formula: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009),
eq. 3.15; the IDF is `ln(1 + (N - n + 0.5) / (n + 0.5))`, N chunks, n of them with the term.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rag_app.interfaces import SparseVector


@dataclass(frozen=True, slots=True)
class Bm25:
    """`k1` and `b` as locked; `average_length` in tokens, of all chunks of the signature."""

    k1: float
    b: float
    average_length: float

    def weigh(self, terms: Mapping[int, int]) -> SparseVector:
        """Weights of a chunk's terms, given how often each occurs."""
        length = sum(terms.values())
        relative = length / self.average_length if self.average_length else 1.0
        norm = self.k1 * (1 - self.b + self.b * relative)
        indices = tuple(sorted(terms))
        values = (terms[index] * (self.k1 + 1) / (terms[index] + norm) for index in indices)
        return SparseVector(indices, tuple(values))
