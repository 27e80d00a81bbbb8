"""`python -m aibox`: what the launcher runs."""

import os

# No package may hook into how our data is parsed; and pydantic need not look for any that would.
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"

from aibox.cli.app import main

main()
