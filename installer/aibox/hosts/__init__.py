"""A box of several hosts: reached over ssh, told step by step, changed together or not at all.

`coordination` runs where somebody types, with a connection to every host; `member` does on each
host what `aibox.orders` tells it, with a lock and a journal of its own (ADR 21).
"""
