#!/bin/sh
# A double of what a kernel shows of two A100 without a driver: files over those of /proc and /sys.
set -eu
mount -t tmpfs tmpfs /proc/driver
# A kernel without modules has no such file.
if [ -e /proc/modules ]; then
    echo 'overlay 1 0 - Live 0x0' > /run/modules
    mount --bind /run/modules /proc/modules
fi
mount -t tmpfs tmpfs /sys/bus/pci
for place in 0000:01:00.0 0000:02:00.0; do
    device=/sys/bus/pci/devices/$place
    mkdir -p "$device"
    echo 0x10de > "$device/vendor"
    echo 0x030200 > "$device/class"
    echo 0x20b2 > "$device/device"
done
