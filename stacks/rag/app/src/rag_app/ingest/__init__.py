"""The process that brings documents in: the release's corpus and what users upload.

It is the only one that reads documents (in jails) and the only one that writes the index.
Killed at any moment, it goes on where it was: all it knows stands in the library.
"""
