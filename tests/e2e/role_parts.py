"""What the scenarios in tests/roles/molecule are made of, for their playbooks.

python -m tests.e2e.role_parts PART..., in the root of the repository.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from . import systemd_host


def image(*packages: str) -> None:
    """Have an image with these packages; say its name and the options of `docker run`."""
    with tempfile.TemporaryDirectory() as folder:
        made = systemd_host.with_packages(packages, Path(folder))
    print(json.dumps({"image": made, "options": systemd_host.SERVER}))


if __name__ == "__main__":
    parts = {"image": image}
    parts[sys.argv[1]](*sys.argv[2:])
