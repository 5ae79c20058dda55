# shellcheck shell=bash disable=SC2154 # variables of tools/run
# postgres: the private cluster of an instance. Sourced by tools/run.
#
# It lives in RUN/postgres, listens on a Unix socket in that directory and nowhere else, and trusts
# whoever can open that socket: the directory is closed to everybody but its owner and root.
# The server refuses to run as root; there it runs as the user postgres, and where that user cannot
# enter RUN the cluster gets a directory under /tmp, which RUN/postgres-dir remembers.

postgres_dir=""
postgres_user=""   # empty: the server runs as ourselves
postgres_bin=""

# Runs a command as the user of the server.
as_postgres() {
    if [[ -n $postgres_user ]]; then
        (cd / && exec setpriv --reuid "$postgres_user" --regid "$(id -g "$postgres_user")" \
            --init-groups env "HOME=$postgres_dir" "$@" {lock_fd}<&- {terminal}>&-)
    else
        "$@" {lock_fd}<&- {terminal}>&-
    fi
}

# The newest server, or the one that has made the cluster.
find_postgres() {
    local version=${1:-*} candidate
    postgres_bin=""
    for candidate in /usr/lib/postgresql/$version/bin/postgres; do
        [[ -x $candidate ]] && postgres_bin=${candidate%/postgres}
    done
    if [[ -z $postgres_bin && $version == '*' ]] && candidate=$(command -v postgres); then
        postgres_bin=$(dirname "$(realpath "$candidate")")
    fi
    [[ -n $postgres_bin ]]
}

choose_postgres_user() {
    postgres_user=""
    ((EUID == 0)) || return 0
    postgres_user=postgres
    if [[ -d $run/postgres/data ]]; then
        postgres_user=$(stat -c %U "$run/postgres/data")
    fi
    id "$postgres_user" >/dev/null 2>&1 ||
        die "there is no user $postgres_user, and the database server does not run as root"
}

# A directory that was remembered counts only while it is still the server's own: /tmp is anybody's.
recall_postgres_dir() {
    local dir
    dir=$(cat "$run/postgres-dir" 2>/dev/null) || return 1
    [[ -d $dir && ! -L $dir && $(stat -c %U "$dir") == "$postgres_user" ]] && echo "$dir"
}

choose_postgres_dir() {
    postgres_dir=$run/postgres
    # libpq takes a comma in a socket's directory for a list of hosts.
    if [[ $run != *,* ]]; then
        [[ -z $postgres_user ]] && return
        (cd / && exec setpriv --reuid "$postgres_user" --regid "$(id -g "$postgres_user")" \
            --init-groups test -x "$run") && return
    fi
    if postgres_dir=$(recall_postgres_dir); then
        say "the database is in $postgres_dir"
        return
    fi
    postgres_dir=$(mktemp -d /tmp/pgsse-postgres.XXXXXX) || die "cannot make a directory under /tmp"
    [[ -z $postgres_user ]] || chown "$postgres_user:" "$postgres_dir"
    printf '%s\n' "$postgres_dir" >"$run/postgres-dir"
    say "the database goes to $postgres_dir: its server cannot use $run"
}

# Whatever still works in the data directory: a server that survived its instance, or backends that
# survived their server.
list_postgres_pids() {
    find_strays cwd "$(escape_pattern "$postgres_dir/data")"
}

make_cluster() {
    local new=$postgres_dir/data.new log
    say "creating a private Postgres cluster in $postgres_dir"
    as_postgres rm -rf "$new"
    log=$(as_postgres "$postgres_bin/initdb" -D "$new" -U pgsse -A trust -E UTF8 --locale=C 2>&1 &&
        echo 'CREATE DATABASE pgsse' |
        as_postgres "$postgres_bin/postgres" --single -D "$new" postgres 2>&1) || {
        as_postgres rm -rf "$new"
        rmdir "$postgres_dir" && rm -f "$run/postgres-dir"
        printf '%s\n' "$log" >"$run/postgres.log"
        die "cannot create the Postgres cluster: $(grep -E 'error|FATAL' <<<"$log" | head -n 1)" \
            "(all of it in $run/postgres.log)"
    }
    as_postgres mv "$new" "$postgres_dir/data"
}

prepare_postgres() {
    local data version
    choose_postgres_user
    choose_postgres_dir
    data=$postgres_dir/data
    check_socket_path "$postgres_dir/.s.PGSQL.5432"
    version=$(cat "$data/PG_VERSION" 2>/dev/null)
    find_postgres "$version" ||
        die "Postgres $version is missing (tools/install run installs Postgres)"
    if [[ ! -d $postgres_dir ]]; then
        mkdir -m 0700 "$postgres_dir" || die "cannot make $postgres_dir"
        [[ -z $postgres_user ]] || chown "$postgres_user:" "$postgres_dir"
    fi
    if [[ -z $postgres_user && ! -O $postgres_dir ]]; then
        die "$postgres_dir belongs to $(stat -c %U "$postgres_dir"): start as that user or as root"
    fi
    [[ -d $data ]] || make_cluster
    database_url="postgresql://pgsse@/pgsse?host=$(encode_url "$postgres_dir")&port=5432"
}

start_postgres() {
    local drop=() signal=INT
    [[ -z $postgres_user ]] || drop=(setpriv --reuid "$postgres_user"
        --regid "$(id -g "$postgres_user")" --init-groups setpriv --pdeathsig "$signal")
    end_stray 10 list_postgres_pids
    # Nothing works in the data directory now, so these are left over, whatever pid they name.
    rm -f "$postgres_dir"/data/postmaster.pid "$postgres_dir"/.s.PGSQL.5432{,.lock}
    start_child postgres "$signal" "$run/postgres.log" env -C / "${drop[@]}" \
        "$postgres_bin/postgres" -D "$postgres_dir/data" -p 5432 \
        -c listen_addresses= -c "unix_socket_directories=\"${postgres_dir//\"/\"\"}\"" \
        -c unix_socket_permissions=0700 -c logging_collector=off -c log_destination=stderr
    remember_pid postgres
}

await_postgres() {
    local deadline=$((SECONDS + 60))
    until as_postgres "$postgres_bin/pg_isready" -q -h "$postgres_dir" -p 5432; do
        is_running postgres || die "Postgres did not start: $(last_line "$run/postgres.log")"
        ((SECONDS < deadline)) || die "Postgres was not ready within 60 s, see $run/postgres.log"
        sleep 0.05
    done
}

# check_database: can it be used at all? Later outages are the broker's to wait out.
check_database() {
    local answer
    answer=$(PGCONNECT_TIMEOUT=${PGCONNECT_TIMEOUT-10} "${postgres_bin:+$postgres_bin/}psql" -wXqAt \
        -d "$database_url" -c 'SELECT 1' 2>&1 </dev/null) && return
    die "cannot use the database of DATABASE_URL: $(tr '\n' ' ' <<<"$answer")"
}

# install_schema: the private database gets sql/pgsse.sql. A database of the user's is his own.
install_schema() {
    local answer
    answer=$("${postgres_bin:+$postgres_bin/}psql" -wXq -d "$database_url" \
        -f "$root/sql/pgsse.sql" 2>&1 </dev/null) && return
    die "cannot install sql/pgsse.sql: $(tr '\n' ' ' <<<"$answer")"
}
