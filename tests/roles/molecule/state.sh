#!/bin/sh
# Says all that a role could leave on a server, but for some folders: files, users, packages, units, rules.
set -eu
LC_ALL=C.UTF-8
export LC_ALL
passed="/proc /sys /dev /run /tmp /var/lib/dpkg /var/lib/apt /var/lib/systemd /var/log /var/cache /var/tmp"
# Users and groups are told by name, below; a cache of the linker, and what Docker or Python write when they like.
noise='/etc/(passwd|shadow|group|gshadow|subuid|subgid)-?( |$)|/etc/(ld.so.cache|mtab|resolv.conf|.pwd.lock)( |$)|__pycache__'

prune=
for folder in $passed; do
    prune="$prune -o -path $folder"
done
# shellcheck disable=SC2086
find / \( -false $prune \) -prune -o -not -type d -printf '%p %M %u:%g %s %l\n' -o -printf '%p %M %u:%g\n' |
    grep -vE "$noise" | sort
find /etc -type f | grep -vE "$noise" | sort | xargs --delimiter '\n' sha256sum
getent passwd | sed 's/^/user /'
getent group | sed 's/^/group /'
grep --recursive '' /proc/sys/net/ipv4/conf/all /proc/sys/net/ipv6/conf/all/accept_redirects
dpkg-query --show --showformat='package ${Package} ${Status} ${Version}\n'
apt-mark showhold | sed 's/^/held /'
systemctl list-units --plain --no-legend --all 'aibox*' | sed 's/^/unit /'
if command -v nft > /dev/null; then nft list ruleset; fi
