"""The packager's side: everything that fetches, resolves and builds on a connected machine."""
