"""Who may speak for a bundle: signatures, roots of trust, revocations. ADR 9.

Reading and judging is pure: bytes and values in, a verdict or a refusal out. `signing` and `keys`
alone touch files, the packager's own.
"""
