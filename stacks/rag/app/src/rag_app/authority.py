"""Who vouches for the certificates of servers that the application asks."""

from __future__ import annotations

import ssl
from pathlib import Path

from rag_app.errors import ConfigError


def trusting(ca_file: Path | None, setting: str) -> ssl.SSLContext:
    """What trusts the authorities in `ca_file` (PEM) alone; without one, those of the system.

    Raises `ConfigError`, naming `setting`, for a file that holds no certificates.
    """
    try:
        return ssl.create_default_context(cafile=ca_file and str(ca_file))
    except OSError as error:
        raise ConfigError(f"{setting}: {ca_file}: cannot be read as certificates") from error
