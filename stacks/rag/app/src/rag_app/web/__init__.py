"""The web process: HTTP API, OpenAI-compatible API and the page."""
