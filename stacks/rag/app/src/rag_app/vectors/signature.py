"""The name of an index: a digest of everything that decides its chunks and vectors."""

from __future__ import annotations

from hashlib import sha256

import orjson

from rag_app.chunking import CHUNKING_VERSION
from rag_app.config import Embedding, Tuning
from rag_app.text.tokens import TOKENIZER_VERSION

# Every request to the index names the signature it means.
SIGNATURE_HEADER = "x-index-signature"

# Indexes that are kept: the one in use and those of the releases before, for going back.
KEPT_SIGNATURES = 3


def index_signature(tuning: Tuning, embedding: Embedding | None) -> str:
    """16 hexadecimal digits; equal for two releases exactly when they can share one index.

    Tuning values that only matter when searching, and the address of the embedding model, are
    not part of it. Nor is the version of the readers: an index follows the text, whoever read it.
    """
    parts = {
        "tokenizer": TOKENIZER_VERSION,
        "chunking": CHUNKING_VERSION,
        "chunk_size": tuning.chunk_size,
        "chunk_overlap": tuning.chunk_overlap,
        "bm25_k1": tuning.bm25_k1,
        "bm25_b": tuning.bm25_b,
        "embedding": [embedding.model, embedding.dimension] if embedding else None,
    }
    canonical = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
    return sha256(canonical).hexdigest()[:16]
