# shellcheck shell=bash disable=SC2154 # variables of tools/run
# lighttpd: the web server and the handlers that it starts. Sourced by tools/run.
#
# SIGINT makes lighttpd finish its responses; streams never finish, so the stream handlers are told
# to end them at the same time. SIGTERM cuts everything: that is what it gets when tools/run dies.

start_lighttpd() {
    # An answering socket would be adopted and never supervised.
    rm -f "$socket_dir"/{stream,publish}.sock-*
    # The handlers are named relative to the working directory: bin-path cannot hold spaces.
    start_child lighttpd TERM "$run/lighttpd.log" env -C "$bin" \
        "PGSSE_BIND_PORT=$port" "PGSSE_WEB_DIR=$root/web" PGSSE_BIN_DIR=. \
        "PGSSE_SOCKET_DIR=$socket_dir" "PGSSE_ERROR_LOG=$run/lighttpd.log" \
        "PGSSE_HANDLER_LOG=$run/handlers.log" "DATABASE_URL=$database_url" \
        lighttpd -D -f "$root/lighttpd.conf"
    remember_pid lighttpd
}

# list_handler_pids [NAME]: the handlers of this instance, wherever their lighttpd went.
list_handler_pids() {
    local pid
    for pid in $(find_strays exe "*/pgsse-${1-*}.fcgi" && find_strays exe "*/pgsse-${1-*}.fcgi (deleted)"); do
        tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" |
            grep -qxF -- "PGSSE_SOCKET_DIR=$socket_dir" && echo "$pid"
    done
}

stop_lighttpd() {
    local pids
    pids=$(list_handler_pids stream)
    if [[ -n ${child_pid[lighttpd]-} ]]; then
        kill -INT "${child_pid[lighttpd]}" 2>/dev/null
        # shellcheck disable=SC2086 # one word per pid
        [[ -z $pids ]] || kill -TERM $pids 2>/dev/null
        end_child lighttpd 0 15    # 0: it was asked already, and takes a second SIGINT for haste
    fi
    end_stray 12 list_handler_pids
    rm -f "$socket_dir"/{stream,publish}.sock-*
}
