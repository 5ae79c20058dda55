# shellcheck shell=bash disable=SC2154 # variables of tools/run
# postgres: the private cluster of an instance. Sourced by tools/run.
#
# It is in RUN/postgres, listens only on a Unix socket in that directory, and trusts every user that
# can open the socket: only the directory's owner and root can. The server refuses to run as root;
# then it runs as the user postgres. If that user cannot enter RUN, the cluster gets a directory
# under /tmp, whose name is kept in RUN/postgres-dir.

postgres_dir=""
postgres_user=""   # empty: the server runs as ourselves
postgres_bin=""
database_role=""   # of the cluster; not named like the schema, or "$user" would put every table there

# Runs a command as the user of the server.
as_postgres() {
    if [[ -n $postgres_user ]]; then
        (cd / && exec setpriv --reuid "$postgres_user" --regid "$(id -g "$postgres_user")" \
            --init-groups env "HOME=$postgres_dir" "$@" {lock_fd}<&- {terminal}>&-)
    else
        "$@" {lock_fd}<&- {terminal}>&-
    fi
}

# The newest server, or the version that has made the cluster.
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

# A remembered directory is used only if it still belongs to the server's user, since everybody can
# write to /tmp.
recall_postgres_dir() {
    local dir
    dir=$(cat "$run/postgres-dir" 2>/dev/null) || return 1
    [[ -d $dir && ! -L $dir && $(stat -c %U "$dir") == "${postgres_user:-$(id -un)}" ]] && echo "$dir"
}

choose_postgres_dir() {
    postgres_dir=$run/postgres
    # libpq takes a socket's directory with a comma for a list of hosts.
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

# Processes that still use the data directory: a server that survived its instance, or backends that
# survived their server.
list_postgres_pids() {
    find_strays cwd "$(escape_pattern "$postgres_dir/data")"
}

make_cluster() {
    local new=$postgres_dir/data.new log
    database_role=developer
    say "creating a private Postgres cluster in $postgres_dir"
    as_postgres rm -rf "$new"
    log=$(as_postgres "$postgres_bin/initdb" -D "$new" -U "$database_role" -A trust -E UTF8 --locale=C 2>&1 &&
        echo 'CREATE DATABASE pgsse' |
        as_postgres "$postgres_bin/postgres" --single -D "$new" postgres 2>&1) || {
        as_postgres rm -rf "$new"
        rmdir "$postgres_dir" && rm -f "$run/postgres-dir"
        printf '%s\n' "$log" >"$run/postgres.log"
        die "cannot create the Postgres cluster: $(grep -E 'error|FATAL' <<<"$log" | head -n 1)" \
            "(all of it in $run/postgres.log)"
    }
    as_postgres bash -c 'printf "%s\n" "$1" >"$2"' bash "$database_role" "$new/pgsse-role"
    as_postgres mv "$new" "$postgres_dir/data"
}

prepare_postgres() {
    local data version
    choose_postgres_user
    choose_postgres_dir
    data=$postgres_dir/data
    check_socket_path "$postgres_dir/.s.PGSQL.5432"
    version=$(as_postgres cat "$data/PG_VERSION" 2>/dev/null)
    # The file belongs to the server's user, but programs that are found with it also run as
    # ourselves (psql).
    [[ $version =~ ^[0-9.]*$ ]] || die "$data/PG_VERSION names no version"
    find_postgres "$version" ||
        die "Postgres $version is missing (tools/install run installs Postgres)"
    if [[ ! -d $postgres_dir ]]; then
        mkdir -m 0700 "$postgres_dir" || die "cannot make $postgres_dir"
        [[ -z $postgres_user ]] || chown "$postgres_user:" "$postgres_dir"
    fi
    if [[ -z $postgres_user && ! -O $postgres_dir ]]; then
        die "$postgres_dir belongs to $(stat -c %U "$postgres_dir"): start as that user or as root"
    fi
    # A cluster without that file is of an older pgsse, whose role had the schema's name.
    database_role=$(cat "$data/pgsse-role" 2>/dev/null) || database_role=pgsse
    [[ -d $data ]] || make_cluster
    database_url="postgresql://$database_role@/pgsse?host=$(encode_url "$postgres_dir")&port=5432"
}

start_postgres() {
    local drop=() signal=INT
    [[ -z $postgres_user ]] || drop=(setpriv --reuid "$postgres_user"
        --regid "$(id -g "$postgres_user")" --init-groups setpriv --pdeathsig "$signal")
    end_stray 10 INT list_postgres_pids
    # No process uses the data directory now, so these files are left over, whatever pid they name.
    as_postgres rm -f "$postgres_dir"/data/postmaster.pid "$postgres_dir"/.s.PGSQL.5432{,.lock}
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

# check_database: checks that the database can be used at all. (Later outages are waited out by the
# broker.) The broker makes the attempt, because psql takes a URL only as an argument, where every
# user can read the password.
check_database() {
    local answer status
    answer=$(DATABASE_URL=$database_url "$bin/pgsse-broker" --check-database 2>&1 </dev/null)
    status=$?
    ((status)) || return 0
    say "cannot use the database of DATABASE_URL: $(tr '\n' ' ' <<<"$answer")"
    exit $((status == EXIT_CONFIG ? EXIT_CONFIG : 1))
}

# install_schema: installs sql/pgsse.sql in the private database. A database that the user has named
# is not changed.
install_schema() {
    local answer
    answer=$("${postgres_bin:+$postgres_bin/}psql" -wXq -d "$database_url" \
        -f "$root/sql/pgsse.sql" 2>&1 </dev/null) && return
    die "cannot install sql/pgsse.sql: $(tr '\n' ' ' <<<"$answer")"
}
