# Runs one server and ends it when its owner lets go, however the owner ends.
#
#   OWNER      "pipe": until standard input closes, and obeying the lines
#              "SIGNAL" and "SIGNAL tree" on it; or PID:START, a process and its
#              start time in clock ticks: until that process is gone
#   FAREWELL   the signal that asks the server to end
#   DIRECTORY  removed once the owner let go; may be empty
#   LOG        takes the server's output
#
# Prints the server's process id, then nothing more.
unset HAPAX_TESTBED_GUARD
owner=$1 farewell=$2 directory=$3 log=$4
shift 4
exec 3<&0

# State and start time of a process; fails when there is none.
stat_of() {
    read -r stat <"/proc/$1/stat" || return 1
    stat=${stat##*) }
    # shellcheck disable=SC2086 # the fields are to be split
    set -- $stat
    echo "$1:${20}"
}

gone() {
    case $(stat_of "$1") in '' | Z:*) return 0 ;; *) return 1 ;; esac
}

children() {
    cat "/proc/$server/task/$server/children"
}

# Children first, while their parent is stopped and cannot react: when the
# parent is gone, nothing of the tree is left.
kill_tree() {
    kill -s STOP "$server"
    family=$(children)
    for child in $family; do kill -s KILL "$child"; done
    for child in $family; do
        until gone "$child"; do sleep 0.01; done
    done
    kill -s KILL "$server"
}

signal_tree() {
    kill -s "$1" "$server"
    for child in $(children); do kill -s "$1" "$child"; done
}

obey() {
    while read -r signal scope <&3; do
        case $signal:$scope in
        KILL:tree) kill_tree ;;
        *:tree) signal_tree "$signal" ;;
        *) kill -s "$signal" "$server" ;;
        esac
    done
}

outlast() {
    while :; do
        now=$(stat_of "${owner%:*}") || return
        case $now in Z:*) return ;; *:"${owner#*:}") sleep 0.5 ;; *) return ;; esac
    done
}

watch() {
    case $owner in pipe) obey ;; *) outlast ;; esac
    [ -z "$directory" ] || : >"$directory/let-go"
    kill -s "$farewell" "$server"
    signal_tree CONT
    patience=100
    while [ $patience -gt 0 ]; do
        sleep 0.1
        patience=$((patience - 1))
    done
    kill_tree
}

{ exec "$@"; } </dev/null >>"$log" 2>&1 3<&- &
server=$!
echo "$server"
exec >/dev/null 2>&1
watch &
watcher=$!

wait "$server"
status=$?
[ -z "$directory" ] || ! [ -e "$directory/let-go" ] || rm -rf "$directory"
kill "$watcher"
exit "$status"
