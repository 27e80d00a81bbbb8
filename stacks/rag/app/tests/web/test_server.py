"""Starting the web process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from processes import SOURCE, settings

from rag_app.errors import ConfigError
from rag_app.web.server import listen


def test_a_port_that_is_taken_is_named_with_what_to_type() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}: Address .* ss -ltnp"):
            listen("127.0.0.1", port)


def test_a_wrong_start_ends_with_a_sentence_and_no_traceback(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-canary", encoding="ascii")
    key.chmod(0o644)
    engine = '[engine]\nkind = "openai"\nurl = "http://127.0.0.1:9/v1"\nmodel = "m"\n'
    engine += f'api_key_file = "{key}"\n'
    (tmp_path / "rag.toml").write_text(settings(8642, sections=engine), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "rag_app", "web", "--config", "rag.toml"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert "chmod 600" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "sk-canary" not in ended.stderr
