"""The vector index in a Qdrant server, over its REST interface: one collection a signature.

Over the HTTP client that is here anyway. The official client brings NumPy and gRPC (100 MB, and
0.7 s at every start) for ten kinds of calls; it is in the tests, where it reads what is sent.
"""
