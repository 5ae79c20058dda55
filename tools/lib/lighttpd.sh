# shellcheck shell=bash disable=SC2154 # variables of tools/run
# lighttpd: the web server and the handlers that it starts. Sourced by tools/run.
#
# SIGINT makes lighttpd finish its responses; streams never finish, so the stream handlers are told
# to end them at the same time. SIGTERM cuts everything: that is what it gets when tools/run dies.

max_fds=0
max_clients=0
max_streams=0      # of each of the two stream handlers

# reckon_limits: computes how many connections the descriptors allow. Each connection takes two in
# lighttpd, which accepts none at 90 % of max-fds; some connections are not for streams. See
# lighttpd.conf.
reckon_limits() {
    local hard configured reserve
    hard=$(ulimit -Hn)
    ulimit -Sn "$hard" 2>/dev/null
    max_fds=$(ulimit -Sn)
    [[ $max_fds != unlimited ]] && ((max_fds <= FDS_MOST)) || max_fds=$FDS_MOST
    ((max_fds >= FDS_LEAST)) || die "at least $FDS_LEAST descriptors are needed, ulimit -Hn is $hard"
    max_clients=$(((max_fds * 9 / 10 - FDS_OF_LIGHTTPD) / 2))
    reserve=$((max_clients / 10))
    ((reserve >= RESERVE_LEAST)) || reserve=$RESERVE_LEAST
    ((reserve <= RESERVE_MOST)) || reserve=$RESERVE_MOST
    max_streams=$(((max_clients - reserve) / 2))
    configured=$("$bin/pgsse-stream.fcgi" --print-config 2>/dev/null | sed -n 's/^max_connections = //p')
    [[ -n $configured ]] && ((configured < max_streams)) && max_streams=$configured
    ((max_fds == FDS_MOST)) ||
        say "ulimit -Hn is $hard: $((2 * max_streams)) streams at a time, at most"
}

# Secrets are passed in the environment: every user can read arguments.
start_lighttpd() {
    # If one of these sockets answered, lighttpd would use its process and never restart it.
    rm -f "$socket_dir"/{stream,publish}.sock-*
    # The handlers are named relative to the working directory: bin-path cannot hold spaces.
    PGSSE_BIND_PORT=$port PGSSE_WEB_DIR=$root/web PGSSE_BIN_DIR=. PGSSE_SOCKET_DIR=$socket_dir \
        PGSSE_ERROR_LOG=$run/lighttpd.log PGSSE_HANDLER_LOG=$run/handlers.log \
        PGSSE_MAX_FDS=$max_fds PGSSE_MAX_CLIENTS=$max_clients PGSSE_MAX_CONNECTIONS=$max_streams \
        DATABASE_URL=$database_url \
        start_child lighttpd TERM "$run/lighttpd.log" env -C "$bin" lighttpd -D -f "$root/lighttpd.conf"
    remember_pid lighttpd
}

# list_handler_pids [NAME]: the handlers of this instance, also if their lighttpd has gone.
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
    end_stray 12 TERM list_handler_pids
    rm -f "$socket_dir"/{stream,publish}.sock-*
}
