"""From a question to passages: search by words and by meaning, fused, with their evidence."""

from rag_app.retrieval.ranking import Ranking
from rag_app.retrieval.searcher import HybridSearcher

__all__ = ["HybridSearcher", "Ranking"]
