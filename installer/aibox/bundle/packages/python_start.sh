#!/bin/sh
# Starts the Python of this folder with the loader and the libraries beside it, so that it depends on no library of the
# host and works wherever the folder lies. Virtual environments link to this file; Python is told the name it was
# started by, which is how it knows its environment.
self=$0
case $self in
    */*) ;;
    *) self=$(command -v -- "$0") ;;
esac
real=$(readlink -f -- "$self")
home=${real%/bin/*}
if [ ! -e "$home/libexec/@PYTHON@" ]; then
    # A copy in an environment: its configuration names the folder that it was made from.
    home=$(sed -n 's|^home = \(.*\)/bin$|\1|p' "$home/pyvenv.cfg")
fi
case $home in
    *[:\;]*)
        echo "$0: this Python cannot be used in a folder whose path has a colon or a semicolon: $home" >&2
        exit 126
        ;;
esac
exec "$home/lib/shared/@LOADER@" --library-path "$home/lib/shared" --argv0 "$self" "$home/libexec/@PYTHON@" "$@"
