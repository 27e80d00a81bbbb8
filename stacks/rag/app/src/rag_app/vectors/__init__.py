"""The vector index: an engine in a process of its own, behind a small HTTP API on a unix socket.

Why a process of its own: the engine's calls hold the interpreter lock, an optimisation for
seconds. `service` (the API) and `engine` (the only module that imports it) run apart as well, so
that the API answers whatever the engine does. Other processes use `client`.

On servers the index is in a Qdrant server instead: `qdrant`. `connect` opens the one that
`rag.toml` names.
"""
