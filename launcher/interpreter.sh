# Sourced where a machine has no Python that will do: takes the bundle's own. Environments of the box link to it,
# so it stays in the folder of the program.

# unpack_interpreter: the tar named by `interpreter` becomes `folder`/interpreter; sets `python`.
unpack_interpreter() {
    require_tools cp flock mv rm sync tar
    python=$folder/interpreter/bin/python3
    say "this machine has no Python that will do; unpacking the bundle's own"
    say_every_4_seconds "unpacking Python" &
    speaker=$!
    result=0
    (flock 9 && take_interpreter "$bundle/blobs/sha256/$interpreter") 9>"$folder/interpreter.lock" || result=$?
    kill $speaker 2>/dev/null || :
    [ $result = 0 ] || exit $result
    is_supported "$python" || refuse 3 interpreter-unusable 'the host' "the bundle's own Python does not start here" \
        "its file system may forbid programs; name another: AIBOX_HOME=/path/of/the/box $again" "$("$python" -V 2>&1)"
}

# take_interpreter BLOB: by one process at a time. The bytes that are unpacked are those that were checked: a copy.
# It gets its name when it is whole and on the disk, so one that has the name needs no look.
take_interpreter() {
    [ -x "$python" ] && return
    copy=$folder/interpreter.tar partial=$folder/interpreter.partial
    rm -rf -- "$copy" "$partial" "$folder/interpreter"
    [ -f "$1" ] || refuse 4 bundle-incomplete 'the host' "the bundle's own Python is missing" \
        "if the bundle has several volumes, start from the first; else copy it again, then: $again" "$1"
    [ "$(wc -c <"$1")" -eq "$interpreter_bytes" ] || refuse_interpreter "$1"
    trouble=$(cp -- "$1" "$copy" 2>&1) || refuse_room "$trouble"
    [ "$(digest_of "$copy")" = "$interpreter" ] || refuse_interpreter "$1"
    mkdir -- "$partial"
    trouble=$(umask 022 && tar -xof "$copy" -C "$partial" 2>&1) || refuse_room "$trouble"
    rm -- "$copy"
    sync
    mv -- "$partial" "$folder/interpreter"
}

refuse_interpreter() {
    rm -f -- "$copy"
    refuse 4 bundle-damaged 'the host' "the bundle's own Python is not what program.txt says; nothing was unpacked" \
        "copy the bundle again, then: $again" "$1"
}

refuse_room() {
    rm -rf -- "$copy" "$partial"
    refuse 3 interpreter-not-unpacked 'the host' "the bundle's own Python could not be unpacked" \
        "free 500 MB, or see that the medium can be read, then repeat the command: $again" "$1"
}

require_tools() {
    for tool in "$@"; do
        command -v "$tool" >/dev/null || refuse 3 tool-missing 'the host' "this machine has no $tool" \
            "install it, then repeat the command: $again"
    done
}

say() {
    printf './aibox: %s\n' "$1" >&2
}

# say_every_4_seconds TEXT: until it is stopped, or the process that it speaks for has ended.
say_every_4_seconds() {
    seconds=0
    while sleep 4 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
        seconds=$((seconds + 4))
        say "$1, $seconds s"
    done
}
