"""`python -m aibox`: what the launcher runs."""

import gc
import os

# No package may hook into how our data is parsed; and pydantic need not look for any that would.
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"

# What is imported stays: to look through it for garbage would cost a short command a fifth of its
# time.
gc.disable()

from aibox.cli.app import main  # noqa: E402 - only after the two lines above

gc.freeze()
gc.enable()
main()
