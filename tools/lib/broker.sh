# shellcheck shell=bash disable=SC2154 # variables of tools/run
# broker: the process between Postgres and the stream handlers. Sourced by tools/run.

start_broker() {
    PGSSE_SOCKET_DIR=$socket_dir DATABASE_URL=$database_url \
        start_child broker TERM "$run/broker.log" "$bin/pgsse-broker"
    remember_pid broker
}

stop_broker() {
    end_child broker TERM 10
    rm -f "$socket_dir"/{broker,status}.sock
}
