#!/usr/bin/python
"""Looks at the Docker of a host. Reads only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule  # type: ignore[import-untyped]

DOCUMENTATION = r"""
module: docker_state
short_description: Look at the Docker of a host
description:
  - Asks the engine and Compose for their versions, the engine for what governs it, and which
    containers run. Changes nothing and starts nothing.
options:
  project:
    description: The Compose project that is ours; containers of others are counted as foreign.
    type: str
    required: true
  record:
    description: The record of offline_repo that names what was installed for us; it need not exist.
    type: path
    required: true
  engine_packages:
    description: The packages that make the engine ours when the record names one of them.
    type: list
    elements: str
    required: true
author: aibox maintainers
"""

EXAMPLES = r"""
- name: Look at Docker
  docker_state:
    project: aibox
    record: /var/lib/aibox/provision/container_runtime.packages.json
    engine_packages: [docker.io]
  register: seen
"""

RETURN = r"""
docker:
  description:
    - present (is an engine installed), ours (did we install it), answers, complaint, engine and
      compose (versions, empty for none), live_restore, swarm, logging, data_root, own and foreign
      (names of containers that are and are not of our project, running or not), running (names of
      all that run).
  returned: always
  type: dict
"""

SECONDS = 60
PROJECT_LABEL = "com.docker.compose.project"
PLACES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"


def ask(*words: str) -> tuple[bool, str]:
    """Whether a command of docker succeeded, and what it said."""
    environment = {"PATH": PLACES, "LC_ALL": "C.UTF-8", "HOME": os.environ.get("HOME", "/")}
    try:
        done = subprocess.run(
            ["docker", *words],
            env={**environment, "PATH": f"{os.environ.get('PATH', '')}:{PLACES}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except FileNotFoundError:
        return False, "docker is not installed"
    except subprocess.TimeoutExpired:
        return False, f"docker {words[0]} gave no answer in {SECONDS} s"
    out = done.stdout if done.returncode == 0 else done.stderr or done.stdout
    # Only line ends: a last column may be empty, and its tab is what tells so.
    return done.returncode == 0, out.decode(errors="replace").strip("\r\n")


def engine(answers: bool, said: str) -> dict[str, object]:
    """What `docker info --format json` tells of the engine; without one, why."""
    told = _object(said) if answers else {}
    version = str(told.get("ServerVersion") or "")
    complaint = "" if version else "; ".join(told.get("ServerErrors") or []) or said[:400]
    return {
        "answers": bool(version),
        "complaint": complaint,
        "engine": version,
        "live_restore": bool(told.get("LiveRestoreEnabled")),
        "swarm": (told.get("Swarm") or {}).get("LocalNodeState") == "active",
        "logging": str(told.get("LoggingDriver") or ""),
        "data_root": str(told.get("DockerRootDir") or ""),
    }


def _object(text: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def containers(lines: Sequence[str], project: str) -> dict[str, list[str]]:
    """Names of containers from `docker ps` (name, state, project, by tabs)."""
    rows = [line.split("\t") for line in lines if line.count("\t") == 2]
    return {
        "own": sorted(name for name, _, of in rows if of == project),
        "foreign": sorted(name for name, _, of in rows if of != project),
        "running": sorted(name for name, state, _ in rows if state in ("running", "paused")),
    }


def compose(answers: bool, said: str) -> str:
    """The version of Compose v2 without its `v`, or nothing."""
    return said.removeprefix("v") if answers and said[:1] in "v0123456789" else ""


def is_ours(record: Path, packages: Sequence[str]) -> bool:
    """Whether the record names one of the packages."""
    try:
        told = json.loads(record.read_text(encoding="utf-8"))
        return bool({*told["packages"], *told["unfinished"]} & {*packages})
    except (OSError, ValueError, KeyError, TypeError):
        return False


def is_installed() -> bool:
    """Whether there is an engine, running or not."""
    return shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:{PLACES}") is not None


def look(project: str) -> dict[str, object]:
    """Everything but whose it is."""
    shown = '{{.Names}}\t{{.State}}\t{{.Label "' + PROJECT_LABEL + '"}}'
    found = engine(*ask("info", "--format", "{{json .}}"))
    listed = ask("ps", "--all", "--format", shown)[1] if found["answers"] else ""
    return {
        **found,
        **containers(listed.splitlines(), project),
        "present": bool(found["answers"]) or is_installed(),
        "compose": compose(*ask("compose", "version", "--short")),
    }


def main() -> None:
    """Answer Ansible."""
    options = {
        "project": {"type": "str", "required": True},
        "record": {"type": "path", "required": True},
        "engine_packages": {"type": "list", "elements": "str", "required": True},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    ours = is_ours(Path(module.params["record"]), module.params["engine_packages"])
    module.exit_json(changed=False, docker={**look(module.params["project"]), "ours": ours})


if __name__ == "__main__":
    main()
