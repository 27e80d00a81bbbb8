# Sourced when an environment or a program has to be made: finds the Python to do it with.

# find_python PROGRAM ROOT: sets `python` to the first Python that will do for the program in ROOT, or refuses.
find_python() {
    versions=
    [ ! -f "$2/program.txt" ] || read_program_text "$2/program.txt"
    look_for_python "$2/interpreter/bin/python3" || refuse_python "$1"
}

# read_program_text FILE: what a bundle carries for this machine. Sets `versions` to those of Python that it has
# packages for, and `interpreter` and `interpreter_bytes` to digest and size of its own Python (a tar) or to nothing.
read_program_text() {
    machine=$(uname -m) versions='' interpreter='' interpreter_bytes='' architectures=''
    while read -r kind first second third; do
        case "$kind $first $second" in
        "python $first $machine") versions="$versions $first" ;;
        "python "*) architectures="$architectures $second" ;;
        "interpreter $machine "*) interpreter=$second interpreter_bytes=$third ;;
        "file "*) break ;;
        esac
    done <"$1"
    [ -n "$versions" ] || refuse 3 other-architecture 'you' "this bundle is not for this machine ($machine)" \
        "take one that is, or a machine that this one is for (${architectures# }), then: sh /path/of/the/bundle/aibox"
}

# look_for_python MORE...: sets `python` to the first that will do, MORE after those on PATH, or fails and sets
# `lacking` to the first that cannot make virtual environments.
# The versions that ansible-core supports come first; a newer one is better than none.
look_for_python() {
    if [ -n "${AIBOX_PYTHON:-}" ]; then
        set -- "$AIBOX_PYTHON"
    else
        set -- python3.13 python3.12 python3.11 python3.14 python3 "$@"
    fi
    lacking=
    for python in "$@"; do
        is_supported "$python" || continue
        if "$python" -E -s -c 'import ensurepip, venv' 2>/dev/null; then
            return
        fi
        lacking=${lacking:-$python}
    done
    return 1
}

# is_supported PYTHON: it is one of `versions`, or 3.11 or newer where that is empty.
is_supported() {
    # shellcheck disable=SC2086
    "$1" -E -s -c 'import sys
version, wanted = "%d.%d" % sys.version_info[:2], sys.argv[1:]
sys.exit(version not in wanted if wanted else sys.version_info < (3, 11))' $versions 2>/dev/null
}

refuse_python() {
    wanted=${versions:-3.11 or newer}
    if [ -n "$lacking" ]; then
        refuse 3 python-without-venv 'the host' "$lacking cannot make virtual environments" \
            "install its venv module, then repeat the command: $(command_for_venv "$lacking")"
    elif [ -n "${AIBOX_PYTHON:-}" ]; then
        refuse 3 python-unusable 'the host' "AIBOX_PYTHON=$AIBOX_PYTHON is not a Python ${wanted# }" \
            "name another one, or let $1 look for it: unset AIBOX_PYTHON"
    else
        refuse 3 python-missing 'the host' "no Python ${wanted# } was found ($(version_of python3))" \
            "install one, then repeat the command: $(command_for_python)"
    fi
}

version_of() {
    "$1" --version 2>/dev/null || printf '%s is not installed' "$1"
}

# command_for_venv PYTHON: Debian and Ubuntu keep venv in a package of its own.
command_for_venv() {
    if ! command -v apt-get >/dev/null; then
        command_for_python
    elif [ "$(readlink -f -- "$(command -v "$1")")" = "$(readlink -f /usr/bin/python3)" ]; then
        echo sudo apt-get install python3-venv
    else
        echo "sudo apt-get install $("$1" -E -s -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    fi
}

command_for_python() {
    if command -v apt-get >/dev/null && ! command -v python3 >/dev/null; then
        echo sudo apt-get install python3 python3-venv
    elif command -v apt-get >/dev/null; then
        echo sudo apt-get install python3.11 python3.11-venv
    elif command -v dnf >/dev/null; then
        echo sudo dnf install python3.11
    else
        echo brew install python@3.13
    fi
}
