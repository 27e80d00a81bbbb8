# Sourced by ./aibox and ./test: makes sure that a virtual environment equals its lock.
# Only the check of an environment that is there already runs here, to keep every later start fast;
# making one is launcher/make_environment.py.

# ensure_environment PROGRAM ROOT ENVIRONMENT LOCK
# Afterwards ROOT/ENVIRONMENT/bin/python runs with exactly the packages of ROOT/LOCK; otherwise exits with
# 1 (failed, run again), 3 (this host lacks something) or 4 (a package is not what the lock says).
# The packages come from ROOT/bundled-wheels where there is such a folder (a program out of a bundle), else from an index.
ensure_environment() {
    if [ -d "$2/bundled-wheels" ]; then
        program_is_whole "$2" "$4"
    fi
    if environment_is_whole "$2/$3" "$2/$4"; then
        return
    fi
    # shellcheck source=launcher/python.sh
    . "$2/launcher/python.sh"
    find_python "$1" "$2"
    set -- "$2/launcher/make_environment.py" "$1" "$2/$3" "$2/$4" "$2/bundled-wheels"
    [ -d "$5" ] || set -- "$1" "$2" "$3" "$4"
    "$python" -E -s -B "$@" || exit $?
}

# environment_is_whole ENVIRONMENT LOCK
# `made-from` is written last and holds the place and the lock that the environment was made for,
# so one that is half made, was moved, or belongs to another lock does not pass; nor does one whose Python went away.
environment_is_whole() {
    [ -x "$1/bin/python" ] && [ -r "$1/made-from" ] &&
        [ "$(cat -- "$1/made-from")" = "$(printf '%s\n' "$1" && cat -- "$2")" ]
}

# program_is_whole ROOT LOCK: `program.txt` is written last, and taken away when damage is found.
program_is_whole() {
    [ -f "$1/program.txt" ] || refuse 4 program-incomplete 'the host' "$1 is not whole" \
        'bring back what is missing from the bundle that it came from: sh /path/of/the/bundle/aibox'
    [ -f "$1/$2" ] || refuse 2 packager-only you 'this command belongs to a workstation, a bundle does not carry it' \
        'run it in a checkout on a connected machine: git clone ..., then ./aibox lock'
}

# refuse EXIT_CODE REFERENCE FAULT MESSAGE HINT [CONTEXT]: the form of every error of the project; with AIBOX_JSON also
# as one JSON document on standard output.
refuse() {
    printf 'error[%s]: %s\n' "$2" "$4" >&2
    [ -z "${6:-}" ] || printf '  context: %s\n' "$6" >&2
    printf '  fault: %s\n  hint: %s\n' "$3" "$5" >&2
    [ -z "${AIBOX_JSON:-}" ] || printf '{"%s": "%s", "%s": "%s", "%s": "%s", "%s": "%s", "%s": "%s", "%s": %s}\n' \
        reference "$2" message "$(json_text "$4")" context "$(json_text "${6:-}")" hint "$(json_text "$5")" \
        fault "$3" exit_code "$1"
    exit "$1"
}

# json_text TEXT: what may stand between the quotes of a JSON string. No tool is needed for it: one may be what lacks.
json_text() {
    text='' rest=$1
    while [ -n "$rest" ]; do
        behind=${rest#?}
        first=${rest%"$behind"}
        case $first in
        '"' | '\') first="\\$first" ;;
        [[:cntrl:]]) first=' ' ;;
        esac
        text=$text$first rest=$behind
    done
    printf %s "$text"
}
