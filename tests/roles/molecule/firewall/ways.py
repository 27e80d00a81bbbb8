"""Says which ways are open: between the server, a service of the stack and a machine outside."""

import subprocess
import sys
import time

CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1)"
# From which network (none: from the server itself), to which address and port.
WAYS = {
    "server to outside": ("", "10.98.0.2", "80"),
    "server to service": ("", "10.99.0.2", "8443"),
    "outside to service": ("outside", "10.99.0.2", "8443"),
    "outside to gateway": ("outside", "10.98.0.1", "443"),
    "outside to server": ("outside", "10.98.0.1", "8080"),
    "service to outside": ("service", "10.98.0.2", "80"),
    "service to server": ("service", "10.99.0.1", "443"),
}
PATIENCE_SECONDS = 10


def look() -> list[str]:
    tries = {}
    for name, (network, address, port) in WAYS.items():
        inside = ["ip", "netns", "exec", network] if network else []
        words = [*inside, sys.executable, "-c", CONNECT, address, port]
        tries[name] = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    return [name for name, process in tries.items() if process.wait() == 0]


# With arguments, those who are to answer may still be starting.
until = time.monotonic() + (PATIENCE_SECONDS if sys.argv[1:] else 0)
while len(found := look()) < len(WAYS) and time.monotonic() < until:
    time.sleep(0.2)
print("\n".join(found))
