# Sourced by ./aibox and ./test: makes sure that a virtual environment equals its lock.
# Only the check of an environment that is there already runs here, to keep every later start fast;
# making one is launcher/make_environment.py.

# ensure_environment PROGRAM ROOT ENVIRONMENT LOCK
# Afterwards ROOT/ENVIRONMENT/bin/python runs with exactly the packages of ROOT/LOCK; otherwise exits with
# 1 (failed, run again), 3 (this host lacks something) or 4 (a package is not what the lock says).
ensure_environment() {
    if environment_is_whole "$2/$3" "$2/$4"; then
        return
    fi
    find_python "$1"
    "$python" -E -s -B "$2/launcher/make_environment.py" "$1" "$2/$3" "$2/$4" || exit $?
}

# environment_is_whole ENVIRONMENT LOCK
# `made-from` is written last and holds the place and the lock that the environment was made for,
# so one that is half made, was moved, or belongs to another lock does not pass; nor does one whose Python went away.
environment_is_whole() {
    [ -x "$1/bin/python" ] && [ -r "$1/made-from" ] &&
        [ "$(cat -- "$1/made-from")" = "$(printf '%s\n' "$1" && cat -- "$2")" ]
}

# find_python PROGRAM: sets `python` to the first Python that will do.
# The versions that ansible-core supports come first; a newer one is better than none.
find_python() {
    program=$1
    if [ -n "${AIBOX_PYTHON:-}" ]; then
        set -- "$AIBOX_PYTHON"
    else
        set -- python3.13 python3.12 python3.11 python3.14 python3
    fi
    lacking=
    for python in "$@"; do
        is_recent "$python" || continue
        if "$python" -E -s -c 'import ensurepip, venv' 2>/dev/null; then
            return
        fi
        lacking=${lacking:-$python}
    done
    refuse_python
}

refuse_python() {
    if [ -n "$lacking" ]; then
        refuse python-without-venv "$lacking cannot make virtual environments" \
            "install its venv module, then repeat the command: $(command_for_venv "$lacking")"
    elif [ -n "${AIBOX_PYTHON:-}" ]; then
        refuse python-unusable "AIBOX_PYTHON=$AIBOX_PYTHON is not a Python 3.11 or newer" \
            "name another one, or let $program look for it: unset AIBOX_PYTHON"
    else
        refuse python-missing "no Python 3.11 or newer was found ($(version_of python3))" \
            "install one, then repeat the command: $(command_for_python)"
    fi
}

is_recent() {
    "$1" -E -s -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
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

# refuse REFERENCE MESSAGE HINT: the form of every error of the project; 3 = this host cannot do it.
refuse() {
    printf 'error[%s]: %s\n  fault: the host\n  hint: %s\n' "$1" "$2" "$3" >&2
    exit 3
}
