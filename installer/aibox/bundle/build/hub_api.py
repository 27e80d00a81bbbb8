"""Asking a model hub through huggingface_hub: what it holds, under which token, and its refusals.

`HF_ENDPOINT` names a mirror. A token comes from a file of mode 0600 or from `HF_TOKEN`, goes to
the hub's own host alone, and is in no message. No telemetry.
"""

from __future__ import annotations

import os
import re
import stat
import time
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from aibox import __version__
from aibox.errors import BadUsage, Failed, Fault

ATTEMPTS = 5
FIRST_DELAY_S = 0.5
TIMEOUT_S = 30.0
TOKEN_LIMIT = 4096
_TOKEN = re.compile(r"[\x21-\x7e]{1,512}")
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})

# It would ask the hub for a list of programs, and tell it which of them we run under.
constants.HF_HUB_DISABLE_TELEMETRY = True


def endpoint() -> str:
    """The hub's address, without a slash at its end."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or constants.ENDPOINT


def address(repository: str, path: str, commit: str) -> str:
    """Where a file of a model lies; the hub may send on to its store of large files."""
    return hf_hub_url(repository, path, revision=commit, endpoint=endpoint())


def headers(token: str | None) -> dict[str, str]:
    """What the hub is told with each request."""
    return build_hf_headers(token=token or False, library_name="aibox", library_version=__version__)


def ask(repository: str, revision: str, token: str | None) -> ModelInfo:
    """What the hub knows of a model at a revision, with sizes and digests of its files.

    Raises `Failed`, one reference per cause; trouble that may pass is tried again.
    """
    api = HfApi(
        endpoint=endpoint(),
        token=token or False,
        library_name="aibox",
        library_version=__version__,
    )
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return api.model_info(
                repository, revision=revision, files_metadata=True, timeout=TIMEOUT_S
            )
        except (HfHubHTTPError, httpx2.TransportError) as error:
            if attempt == ATTEMPTS or not _may_pass(error):
                raise refused(error, repository, revision, token) from error
            time.sleep(FIRST_DELAY_S * 2.0**attempt)
        except (OfflineModeIsEnabled, HFValidationError) as error:
            raise refused(error, repository, revision, token) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise odd_answer(repository, f"{type(error).__name__} in its list of files") from error
    raise AssertionError("no attempt at all")


def read_token(token_file: Path | None) -> str | None:
    """The token in a file that nobody else can read, else `HF_TOKEN`; None without either.

    Raises `BadUsage` (`hub-token-unusable`), which does not show the token.
    """
    if token_file is None:
        text = os.environ.get("HF_TOKEN", "").strip()
        return _checked(text, "HF_TOKEN") if text else None
    try:
        with token_file.open("rb") as file:
            found = os.fstat(file.fileno())
            text = file.read(TOKEN_LIMIT).decode("ascii", "replace").strip()
    except OSError as error:
        raise _unusable(f"{token_file} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077:
        raise _unusable(f"{token_file} is open to others; its mode must be 0600")
    return _checked(text, str(token_file))


def refused(error: Exception, repository: str, revision: str, token: str | None) -> Failed:
    """What the hub's refusal means, for people. The library's own text may hold addresses."""
    if isinstance(error, GatedRepoError):
        return gated(repository, token)
    if isinstance(error, RevisionNotFoundError):
        return _failed("revision-missing", f"{repository} has no revision {revision}", Fault.YOU)
    if isinstance(error, DisabledRepoError):
        return _failed("model-disabled", f"the hub has disabled {repository}", Fault.UPSTREAM)
    if isinstance(error, RepositoryNotFoundError):
        return _missing(repository, token)
    if isinstance(error, HfHubHTTPError):
        return _status(error.response.status_code, repository)
    if isinstance(error, OfflineModeIsEnabled):
        return _failed("hub-offline-mode", "HF_HUB_OFFLINE forbids to ask the hub", Fault.YOU)
    if isinstance(error, HFValidationError):
        return _failed("model-missing", f"{repository} is no name of a repository", Fault.YOU)
    return _failed(
        "hub-unreachable",
        "the model hub cannot be reached",
        Fault.HOST,
        f"{endpoint()}: {type(error).__name__}",
        "check network and proxy (HTTPS_PROXY), or name a mirror in HF_ENDPOINT, then",
    )


def gated(repository: str, token: str | None) -> Failed:
    """The hub tells what a model is, but gives its files only to those who accepted its terms."""
    return _failed(
        "model-gated",
        f"{repository} is given only to those who accepted its terms",
        Fault.YOU,
        "a token was sent" if token else "no token was sent",
        "accept the terms on the model's page and use a token of that account "
        "(HF_TOKEN or a token file of mode 0600), then",
    )


def odd_answer(repository: str, facts: str) -> Failed:
    """Something answers that does not speak like a hub (a captive portal, a broken mirror)."""
    return _failed(
        "hub-answer-odd",
        f"the hub's answer about {repository} makes no sense",
        Fault.UPSTREAM,
        f"{endpoint()}: {facts}",
        "see what answers at HF_ENDPOINT, then",
    )


def _missing(repository: str, token: str | None) -> Failed:
    # The hub does not tell strangers whether a private repository exists.
    return _failed(
        "model-missing",
        f"the hub has no {repository}, or does not show it to "
        + ("this token" if token else "strangers"),
        Fault.YOU,
        endpoint(),
        "correct the name in the profile, or use a token that may read it, then",
    )


def _status(status: int, repository: str) -> Failed:
    if status == 401:
        return _failed(
            "hub-token-refused",
            "the hub does not accept the token",
            Fault.YOU,
            endpoint(),
            "make a new token, put it into HF_TOKEN or a token file of mode 0600, then",
        )
    if status == 403:
        return _failed(
            "model-denied", f"the hub does not give {repository} to this token", Fault.YOU
        )
    if status in _LATER:
        return _failed("hub-busy", "the hub is busy or broken", Fault.UPSTREAM, f"it says {status}")
    return odd_answer(repository, f"status {status}")


def _may_pass(error: Exception) -> bool:
    return not isinstance(error, HfHubHTTPError) or error.response.status_code in _LATER


def _checked(text: str, where: str) -> str:
    if _TOKEN.fullmatch(text) is None:
        raise _unusable(f"{where} holds no token")
    return text


def _unusable(facts: str) -> BadUsage:
    return BadUsage(
        "hub-token-unusable",
        "the token for the model hub cannot be used",
        context=facts,
        hint="write the token alone into a file of mode 0600 or into HF_TOKEN, then: ./aibox lock",
        fault=Fault.YOU,
    )


def _failed(
    reference: str,
    message: str,
    fault: Fault,
    facts: str = "",
    way_out: str = "correct the profile or the lock file, then",
) -> Failed:
    return Failed(
        reference,
        message,
        context=facts or endpoint(),
        hint=f"{way_out} give the same command again: ./aibox lock",
        fault=fault,
    )
