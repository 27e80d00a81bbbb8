"""Container images without a daemon: names, manifests, how they lie on a disk, what is refused."""
