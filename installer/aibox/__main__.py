"""`python -m aibox`: what the launcher runs."""

from aibox.cli.app import main

main()
