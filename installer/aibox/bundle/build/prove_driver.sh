#!/bin/sh
# Compiles kernel modules in a fresh root made of a bundle's packages alone. Runs as root in mount, process and
# network namespaces of its own: whatever it mounts and starts is gone when it ends, and there is no network.
#
#   prove_driver.sh REPOSITORY ROOT SUITE ARCHITECTURE KERNEL JOBS PACKAGE.deb...
#
# REPOSITORY has the layout of an archive and the key aibox-packages.gpg; the packages lie in its pool.
# Ends with 10 when a module does not compile; ROOT/make.log says why.
set -eu

# The root is thrown away: nothing has to reach the disk, no kernel has to boot, nobody reads manuals.
export DPKG_FORCE=unsafe-io INITRD=No DEBIAN_FRONTEND=noninteractive LC_ALL=C

repository=$1 root=$2 suite=$3 architecture=$4 kernel=$5 jobs=$6
shift 6

debootstrap --variant=minbase --arch="$architecture" --keyring="$repository/aibox-packages.gpg" \
    "$suite" "$root" "file://$repository"

[ -e "$root/proc/self" ] || mount -t proc proc "$root/proc"
mkdir "$root/repository"
mount --bind "$repository" "$root/repository"
rm -f "$root/etc/apt/sources.list"
cat >"$root/etc/apt/sources.list.d/bundle.sources" <<SOURCES
Types: deb
URIs: file:/repository
Suites: $suite
Components: main
Signed-By: /repository/aibox-packages.gpg
SOURCES
cat >"$root/etc/dpkg/dpkg.cfg.d/proof" <<'EXCLUDED'
path-exclude=/boot/*
path-exclude=/lib/modules/*/kernel/*
path-exclude=/usr/lib/modules/*/kernel/*
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/man/*
EXCLUDED

inside() { chroot "$root" "$@"; }

inside apt-get -o APT::Update::Error-Mode=any -o Acquire::Check-Date=false update
inside apt-get install --yes --no-install-recommends dkms "linux-headers-$kernel"
for package; do
    # Unpacked, not configured: configuring would compile for whatever kernel runs here.
    inside dpkg --unpack --force-depends "/repository/$package"
done

for configuration in "$root"/usr/src/*/dkms.conf; do
    # The file is bash by definition; it is read where the module is compiled, not on the host.
    # shellcheck disable=SC2016
    module=$(inside bash -c '. "$1" >&2; echo "$PACKAGE_NAME/$PACKAGE_VERSION"' bash "${configuration#"$root"}")
    inside dkms add "$module" >"$root/dkms.log" 2>&1
    echo "compiling $module for $kernel"
    if ! inside dkms build "$module" -k "$kernel" -j "$jobs" >>"$root/dkms.log" 2>&1; then
        cat "$root/dkms.log"
        cp "$root/var/lib/dkms/$module/build/make.log" "$root/make.log" || true
        exit 10
    fi
done
