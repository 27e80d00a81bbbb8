#!/bin/sh
# A network of the stack with one service in it, and a machine outside that the server can reach.
set -eu
ip link add aibox-outside type bridge
ip address add 10.99.0.1/24 dev aibox-outside
ip link set aibox-outside up
ip netns add service
ip link add inner type veth peer name eth0 netns service
ip link set inner master aibox-outside up
ip -netns service address add 10.99.0.2/24 dev eth0
ip -netns service link set lo up
ip -netns service link set eth0 up
ip -netns service route add default via 10.99.0.1
ip netns add outside
ip link add outer type veth peer name eth0 netns outside
ip address add 10.98.0.1/24 dev outer
ip link set outer up
ip -netns outside address add 10.98.0.2/24 dev eth0
ip -netns outside link set lo up
ip -netns outside link set eth0 up
ip -netns outside route add default via 10.98.0.1

# Something accepts connections there, on every address.
systemd-run --quiet ip netns exec outside python3 -m http.server 80
systemd-run --quiet ip netns exec service python3 -m http.server 8443
systemd-run --quiet python3 -m http.server 443
systemd-run --quiet python3 -m http.server 8080
