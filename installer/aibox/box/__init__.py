"""The edges: everything that touches the host (files, processes, sockets, Ansible)."""
