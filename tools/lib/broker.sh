# shellcheck shell=bash disable=SC2154 # variables of tools/run
# broker: the one process between Postgres and the stream handlers. Sourced by tools/run.

start_broker() {
    start_child broker TERM "$run/broker.log" env "PGSSE_SOCKET_DIR=$socket_dir" \
        "DATABASE_URL=$database_url" "$bin/pgsse-broker"
    remember_pid broker
}

stop_broker() {
    end_child broker TERM 10
    rm -f "$socket_dir"/{broker,status}.sock
}
