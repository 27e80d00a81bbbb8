"""`python -m aibox`: what the launcher runs."""

import gc
import os
import sys

# No package may hook into how our data is parsed; and pydantic need not look for any that would.
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"

# What is imported stays: to look through it for garbage would cost a short command a fifth of its
# time.
gc.disable()

try:
    from aibox.cli.app import main
except KeyboardInterrupt:
    # Before there is anybody who could tell it in other words; nothing has been done yet.
    sys.exit("error[interrupted]: the command was interrupted before it began")

gc.freeze()
gc.enable()
main()
