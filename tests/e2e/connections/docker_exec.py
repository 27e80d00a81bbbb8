"""Ansible's way into a container of this machine: `docker exec` in the place of ssh."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from ansible.plugins.connection import ConnectionBase  # type: ignore[import-untyped]

DOCUMENTATION = """
name: docker_exec
short_description: run tasks in a container of this machine
description:
  - Runs commands and copies files by docker exec, as root.
extends_documentation_fragment:
  - connection_pipelining
options:
  remote_addr:
    description: Name of the container.
    vars:
      - name: inventory_hostname
      - name: ansible_host
  umask:
    description: umask of everything that runs there, as a login shell may have it.
    default: "022"
    vars:
      - name: ansible_docker_exec_umask
  locale:
    description: LANG of everything that runs there.
    default: C.UTF-8
    vars:
      - name: ansible_docker_exec_locale
"""


class Connection(ConnectionBase):  # type: ignore[misc]  # ansible-core ships no types
    """One `docker exec` a command."""

    transport = "docker_exec"
    has_pipelining = True

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def exec_command(
        self, cmd: str, in_data: bytes | None = None, sudoable: bool = True
    ) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        return self._run(cmd, in_data)

    def put_file(self, in_path: str, out_path: str) -> None:
        super().put_file(in_path, out_path)
        code, _, err = self._run(f"cat > {shlex.quote(out_path)}", Path(in_path).read_bytes())
        assert code == 0, err

    def fetch_file(self, in_path: str, out_path: str) -> None:
        super().fetch_file(in_path, out_path)
        code, out, err = self._run(f"cat {shlex.quote(in_path)}", None)
        assert code == 0, err
        Path(out_path).write_bytes(out)

    def close(self) -> None:
        self._connected = False

    def _run(self, command: str, data: bytes | None) -> tuple[int, bytes, bytes]:
        locale = f"LANG={self.get_option('locale')}"
        words = ["docker", "exec", "-i", "--env", locale, self.get_option("remote_addr")]
        script = f"umask {self.get_option('umask')}; {command}"
        done = subprocess.run(
            [*words, "/bin/sh", "-c", script], input=data or b"", capture_output=True, check=False
        )
        return done.returncode, done.stdout, done.stderr
