"""What the application knows: documents, their texts and chunks, and the queue, in SQLite.

This is the source of truth; the vector index can be made again from it at any time.
"""

from rag_app.library.sqlite import SqliteLibrary

__all__ = ["SqliteLibrary"]
