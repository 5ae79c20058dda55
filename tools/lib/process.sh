# shellcheck shell=bash disable=SC2034,SC2154 # variables that are shared with tools/run
# process: starts, identifies and ends processes. Sourced by tools/run.
#
# Each child gets its own session, so that the terminal's Ctrl-C reaches only tools/run, which stops
# the children in order. It also gets a death signal, so that it ends when tools/run is killed. A
# pid from a file is used only if its start time and boot agree, since pids are reused.

declare -A child_pid=() child_name=() child_started=()

# start_child NAME DEATHSIG LOG COMMAND...
start_child() {
    local name=$1 signal=$2 log=$3
    shift 3
    setpriv --pdeathsig "$signal" setsid "$@" </dev/null >>"$log" 2>&1 {lock_fd}<&- {terminal}>&- &
    child_pid[$name]=$!
    child_name[$!]=$name
    child_started[$name]=$SECONDS
}

forget_child() {
    unset -v "child_name[${child_pid[$1]}]" "child_pid[$1]"
}

is_running() {
    [[ -n ${child_pid[$1]-} ]] && kill -0 "${child_pid[$1]}" 2>/dev/null
}

# end_child NAME SIGNAL SECONDS: sends SIGNAL, waits, then kills. In a hurry it does not wait.
end_child() {
    local name=$1 pid=${child_pid[$1]-}
    [[ -n $pid ]] || return 0
    kill -s "$2" "$pid" 2>/dev/null
    if ! wait_until_gone "$3" process_start "$pid"; then
        say "$name did not stop when asked, killing it"
        kill -KILL "$pid" 2>/dev/null
    fi
    wait "$pid" 2>/dev/null
    forget_child "$name"
}

# process_start PID: its start time and the boot, which together with the pid identify one process.
process_start() {
    local stat fields
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
    read -ra fields <<<"${stat##*) }"
    [[ ${fields[0]} != [ZX] ]] || return 1
    printf '%s %s' "${fields[19]}" "$(</proc/sys/kernel/random/boot_id)"
}

remember_pid() {
    local pid=${2-${child_pid[$1]}}
    echo "$pid $(process_start "$pid")" >"$run/pids/$1"
}

# recall_pid NAME: the pid that remember_pid wrote, if that process is still alive.
recall_pid() {
    local pid start
    read -r pid start 2>/dev/null <"$run/pids/$1" || return 1
    [[ $pid =~ ^[1-9][0-9]*$ && -n $start && $(process_start "$pid") == "$start" ]] && echo "$pid"
}

# wait_until_gone SECONDS COMMAND...: until COMMAND, which looks for processes, prints nothing.
wait_until_gone() {
    local deadline=$((SECONDS + $1))
    shift
    while [[ -n $("$@") ]]; do
        ((SECONDS < deadline && !hurry)) || return 1
        sleep 0.05
    done
}

# end_stray SECONDS SIGNAL COMMAND...: ends the processes, not our children, whose pids COMMAND
# prints. They may be ending already because their parent died, so they get a moment first.
end_stray() {
    local seconds=$1 signals=("$2" KILL) signal
    shift 2
    wait_until_gone 1 "$@" && return
    for signal in "${signals[@]}"; do
        # shellcheck disable=SC2046 # one word per pid
        kill -s "$signal" $("$@") 2>/dev/null
        wait_until_gone "$seconds" "$@" && return
    done
}

# find_strays LINK PATTERN: pids whose /proc/PID/LINK (exe, cwd) points to what PATTERN matches.
find_strays() {
    find /proc/[0-9]*/"$1" -maxdepth 0 -lname "$2" -printf '%h\n' 2>/dev/null | sed 's,.*/,,'
}

escape_pattern() {
    local text=$1 char
    for char in "\\" '*' '?' '['; do
        text=${text//"$char"/"\\$char"}
    done
    printf %s "$text"
}
