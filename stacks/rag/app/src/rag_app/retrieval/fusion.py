"""Weighted reciprocal rank fusion of ranked lists.

Formula: Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet" (2009), with
a weight for each list: `score(d) = sum(weight / (k + rank(d)))`, ranks from 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def fuse(lanes: Iterable[tuple[float, Sequence[int]]], k: int) -> dict[int, float]:
    """Scores in 0..1 of all ids, best first, ties by id; 1 is for the first of every lane."""
    scores: dict[int, float] = {}
    best = 0.0
    for weight, ranked in lanes:
        if ranked:
            best += weight / (k + 1)
        for rank, identity in enumerate(ranked, start=1):
            scores[identity] = scores.get(identity, 0.0) + weight / (k + rank)
    if not best:
        return {}
    ordered = sorted(scores, key=lambda identity: (-scores[identity], identity))
    return {identity: scores[identity] / best for identity in ordered}
