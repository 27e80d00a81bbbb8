"""The carried side: how a release is resolved, packed and checked."""
