"""Engines write the answer: a language model behind a URL, or quotes alone."""
