"""The RAG application of the box: cited answers from the organisation's own documents."""

__version__ = "0.1.0"
