"""Held against the official client: what we send is what it would, and it reads what we wrote.

Every request body must be one of the official client's models, which forbid unknown fields, and
the double must answer the official client itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, TypeAdapter
from qdrant_client import QdrantClient
from qdrant_client.http import models
from qdrant_servers import new_signature, qdrant

from rag_app.config import Vectors
from rag_app.interfaces import Point, SparseVector
from rag_app.vectors.qdrant import wire
from rag_app.vectors.qdrant.clients import QdrantWriter

NAME = "aibox-rag-0123456789abcdef"
WORDS = SparseVector((1, 2**32 - 1), (0.5, 1.5))
POINTS = [
    Point(1, "d1", WORDS, (1.0, 0.0)),
    Point(2, "d1", SparseVector((2,), (1.0,)), (0.6, 0.8)),
    Point(3, "d2", SparseVector((1,), (1.0,)), (0.0, 1.0)),
]


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Vectors]:
    with qdrant(request.config, tmp_path) as settings:
        yield settings


@pytest.fixture
def official(settings: Vectors) -> Iterator[QdrantClient]:
    key = settings.api_key_file.read_text(encoding="ascii") if settings.api_key_file else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It says that a key goes over HTTP.
        client = QdrantClient(url=settings.url, api_key=key, trust_env=False)
    yield client
    client.close()


@pytest.mark.parametrize(
    ("call", "model"),
    [
        (wire.create(NAME, 2, "index"), models.CreateCollection),
        (wire.create(NAME, 0, "index"), models.CreateCollection),
        (wire.index_documents(NAME), models.CreateFieldIndex),
        (wire.mark_used(NAME, 1), models.UpdateCollection),
        (next(wire.upserts(NAME, POINTS)), models.PointsList),
        (next(wire.upserts(NAME, [Point(1, "d", WORDS)])), models.PointsList),
        (wire.delete(NAME, ["d1", "d2"], [3]), models.FilterSelector),
        (wire.delete(NAME, ["d1"], []), models.FilterSelector),
        (wire.count(NAME), models.CountRequest),
        (wire.facet(NAME), models.FacetRequest),
        (wire.search(NAME, WORDS, (1.0, 0.0), 5, 5.0), models.QueryRequestBatch),
    ],
)
def test_every_body_is_one_that_the_official_client_knows(
    call: wire.Call, model: type[BaseModel]
) -> None:
    assert call.body is not None
    understood = TypeAdapter(model).validate_json(call.body)
    # Nothing was passed over, and nothing was read as something else.
    said = TypeAdapter(object).validate_json(call.body)
    assert understood.model_dump(mode="json", exclude_unset=True) == said


def test_a_sparse_query_is_understood_as_a_vector() -> None:
    body = wire.search(NAME, WORDS, None, 5, 5.0).body
    (lane,) = models.QueryRequestBatch.model_validate_json(body or b"").searches
    assert isinstance(lane.query, models.SparseVector)
    assert (lane.using, lane.limit) == ("bm25", 5)


def test_the_official_client_finds_what_we_wrote(settings: Vectors, official: QdrantClient) -> None:
    signature = new_signature()
    name = wire.collection_name(signature)
    writer = QdrantWriter(settings, signature, 2)
    index = writer.ensure()
    writer.upsert(POINTS)
    config = official.get_collection(name).config
    assert (config.metadata or {})["rag_index"] == index
    assert official.count(name, exact=True).count == 3
    sparse = models.SparseVector(indices=[1], values=[1.0])
    lanes = official.query_batch_points(
        name,
        [
            models.QueryRequest(query=sparse, using="bm25", limit=5),
            models.QueryRequest(query=[0.0, 1.0], using="dense", limit=1),
        ],
    )
    assert [sorted(hit.id for hit in lane.points) for lane in lanes] == [[1, 3], [3]]
    facets = official.facet(name, "document", exact=True).hits
    assert {hit.value: hit.count for hit in facets} == dict(writer.counts()) == {"d1": 2, "d2": 1}
    writer.close()


def test_we_use_a_collection_that_the_official_client_made(
    settings: Vectors, official: QdrantClient
) -> None:
    signature = new_signature()
    name = wire.collection_name(signature)
    official.create_collection(
        name,
        vectors_config={},
        sparse_vectors_config={"bm25": models.SparseVectorParams(modifier=models.Modifier.IDF)},
        shard_number=1,
        metadata={"rag_index": "restored"},
    )
    writer = QdrantWriter(settings, signature, 0)
    assert writer.ensure() == "restored"
    assert "document" in official.get_collection(name).payload_schema
    official.delete_collection(name)
    assert writer.count() == 0
    assert writer.ensure() != "restored"
    writer.close()
