# Sourced by ./aibox where it lies in a bundle: unpacks the program into the box and starts it there.
# The medium may be read-only and know no modes, and this machine may have no Python.
#
# Nothing here can vouch for itself. Whoever received the bundle checks it first, with tools of their own:
#   ssh-keygen -Y verify -f allowed_signers -I release@aibox -n bundle@aibox -s bundle.json.sig < bundle.json
#   grep "$(sha256sum < bootstrap.sha256 | cut -c -64)" bundle.json && sha256sum -c bootstrap.sha256
# From there on every byte is checked against program.txt, and the command line checks the rest of the bundle.

# start_from_bundle BUNDLE ARGUMENTS...: does not come back.
start_from_bundle() {
    bundle=$1
    shift
    again="sh \"$bundle/aibox\""
    [ -f "$bundle/program.txt" ] || refuse_first_steps 'program.txt is missing'
    digest=$(digest_of "$bundle/program.txt")
    folder=$(program_root)/programs/$(printf %.16s "$digest")
    if ! { is_unpacked && environment_is_whole "$folder/.venv" "$folder/requirements/cli.lock"; }; then
        unpack_program
    fi
    AIBOX_BUNDLE=$bundle
    export AIBOX_BUNDLE
    exec sh "$folder/aibox" "$@"
}

# box_root: where the box lies; the same rule as in installer/aibox/cli/workplace.py.
box_root() {
    home=${HOME:-$(getent passwd "$(id -u)" | cut -d : -f 6)}
    case ${AIBOX_HOME:-} in
    /*) printf %s "$AIBOX_HOME" ;;
    '~' | '~/'*) printf %s "$home${AIBOX_HOME#'~'}" ;;
    ?*) printf %s "$(pwd -P)/$AIBOX_HOME" ;;
    *)
        case ${XDG_DATA_HOME:-} in
        /*) own=$XDG_DATA_HOME/aibox ;;
        *) own=$home/.local/share/aibox ;;
        esac
        server=/var/lib/aibox
        if [ ! -e "$own/record.jsonl" ] && [ -w "$server/record.jsonl" ]; then own=$server; fi
        printf %s "$own"
        ;;
    esac
}

# program_root: the box that the program is unpacked into. Where root has none yet and the bundle is for servers alone,
# it is the one that will be made: a copy in the home of root would be left behind.
program_root() {
    found=$(box_root)
    if [ -z "${AIBOX_HOME:-}" ] && [ ! -e "$found/record.jsonl" ] && [ "$(id -u)" = 0 ] &&
        grep -q '"runtime":"container"' "$bundle/bundle.json" &&
        ! grep -q '"runtime":"process"' "$bundle/bundle.json"; then
        found=/var/lib/aibox
    fi
    printf %s "$found"
}

digest_of() {
    sum=$(sha256sum <"$1") || refuse 3 no-digest 'the host' "the digest of $1 cannot be told" \
        'sha256sum is needed, and a medium that can be read; see what is wrong: sha256sum --version'
    printf %s "${sum%% *}"
}

is_unpacked() {
    [ -f "$folder/program.txt" ] && [ "$(digest_of "$folder/program.txt")" = "$digest" ]
}

# unpack_program: afterwards `folder` holds the program, and a Python that can make its environment is there.
unpack_program() {
    check_first_steps
    # shellcheck source=launcher/python.sh
    . "$bundle/launcher/python.sh"
    read_program_text "$bundle/program.txt"
    trouble=$(umask 077 && mkdir -p -- "$folder" 2>&1) || refuse 3 box-not-writable 'the host' \
        'the folder of the box cannot be made' "name another place: AIBOX_HOME=/path/of/the/box $again" "$trouble"
    if ! look_for_python "$folder/interpreter/bin/python3"; then
        [ -n "$interpreter" ] && [ -z "${AIBOX_PYTHON:-}" ] || refuse_python ./aibox
        # shellcheck source=launcher/interpreter.sh
        . "$bundle/launcher/interpreter.sh"
        unpack_interpreter
    fi
    "$python" -E -s -B "$bundle/launcher/unpack_program.py" "$bundle" "$folder" "$digest" || exit $?
}

# check_first_steps: what starts the program is what the manifest names. Finds damage, not an attacker, who would
# have taken this check away.
check_first_steps() {
    grep -qF "$(digest_of "$bundle/bootstrap.sha256")" "$bundle/bundle.json" ||
        refuse_first_steps 'bootstrap.sha256 is not the one that bundle.json names'
    grep -qxF "$digest  program.txt" "$bundle/bootstrap.sha256" ||
        refuse_first_steps 'program.txt is not what bootstrap.sha256 says'
    wrong=$(cd -- "$bundle" && LC_ALL=C sha256sum -c bootstrap.sha256 2>/dev/null) ||
        refuse_first_steps "$(printf '%s\n' "$wrong" | grep -v ': OK$')"
}

refuse_first_steps() {
    refuse 4 bundle-damaged 'the host' 'the first steps of the bundle are not what they should be; nothing was started' \
        "copy the bundle again, then check the copy: (cd \"$bundle\" && sha256sum -c bootstrap.sha256)" "$1"
}
