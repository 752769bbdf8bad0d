# shellcheck shell=bash
# shellcheck disable=SC2034 # what redis_launch sets is read in services.sh
# Throw-away Redis or Valkey servers from a binary, with a password on a free loopback port.

REDIS_OLDEST=7

# redis_binaries: servers installed on the machine.
redis_binaries() {
    local name path
    for name in redis-server valkey-server; do
        for path in "$(command -v "$name" || true)" "/usr/bin/$name" "/usr/local/bin/$name" "/opt/homebrew/bin/$name" \
            "/opt/homebrew/opt/${name%-server}/bin/$name" "/usr/local/opt/${name%-server}/bin/$name"; do
            if [ -n "$path" ] && [ -x "$path" ]; then echo "$path"; fi
        done
    done
}
redis_version() { "$1" --version 2>/dev/null | sed -n 's/.* v=\([0-9.]*\).*/\1/p'; }
redis_name() { if "$1" --version 2>/dev/null | grep -qi valkey; then echo Valkey; else echo Redis; fi; }

# redis_usable BINARY WHERE_FROM: says why when it isn't.
redis_usable() {
    local version
    version=$(redis_version "$1")
    if [ -z "$version" ]; then warn "Redis, $2: $1 doesn't run"; return 1; fi
    if [ "${version%%.*}" -lt "$REDIS_OLDEST" ]; then
        warn "$(redis_name "$1") $version, $2, is too old ($REDIS_OLDEST or newer is needed)"
        return 1
    fi
}

# redis_launch BINARY WHERE_FROM: starts a server and sets REDIS_URL.
redis_launch() {
    local binary=$1 from=$2 password try port
    redis_usable "$binary" "$from" || return
    new_folder redis "$RUN" || return
    REDIS_FOLDER=$NEW_FOLDER
    password=$(random_hex)
    for try in 1 2 3 4 5; do
        port=$(free_port)
        if redis_start "$binary" "$REDIS_FOLDER" "$port" "$password"; then
            export REDIS_URL="redis://default:$password@127.0.0.1:$port"
            REDIS_BINARY=$binary REDIS_PORT=$port REDIS_PASSWORD=$password
            say "$(redis_name "$binary") $(redis_version "$binary"): $from, throw-away on 127.0.0.1:$port"
            detail "$binary"
            return
        fi
        grep -qi 'address already in use' "$REDIS_FOLDER/redis.log" 2>/dev/null || break
        detail "port $port was taken in between, trying another (try $try)"
    done
    show_log "Redis, $from: it didn't start" "$REDIS_FOLDER/redis.log"
    return 1
}
# The settings are in a file because a command line shows the password to every user. Nothing is saved: L2 holds copies only.
redis_start() {
    local binary=$1 dir=$2 port=$3 password=$4
    rm -f "$dir/redis.pid" "$dir/redis.log"
    cat >"$dir/redis.conf" <<CONF
bind 127.0.0.1
port $port
requirepass $password
daemonize yes
pidfile "$dir/redis.pid"
logfile "$dir/redis.log"
dir "$dir"
save ""
appendonly no
CONF
    "$binary" "$dir/redis.conf" >"$dir/start.log" 2>&1 || { cat "$dir/start.log" >>"$dir/redis.log"; return 1; }
    poll 10 redis_decided "$dir" "$port" "$password" && redis_answers "$dir" "$port" "$password"
}
redis_decided() { redis_answers "$@" || grep -qiE 'address already in use|failed|fatal' "$1/redis.log" 2>/dev/null; }
# The process that answers on the port must be the one that was started, not another that took the port.
redis_answers() {
    local dir=$1 port=$2 password=$3 line pid
    pid=$(cat "$dir/redis.pid" 2>/dev/null) && [ -n "$pid" ] || return
    {
        exec 3<>"/dev/tcp/127.0.0.1/$port" || return
        printf 'AUTH %s\r\nINFO server\r\n' "$password" >&3
        while IFS= read -r -t 2 line <&3; do
            case $line in
            process_id:"$pid"*) exec 3>&-; return 0 ;;
            executable:* | -*) break ;;
            esac
        done
        exec 3>&-
    } 2>/dev/null
    return 1
}

# redis_stop FOLDER [SIGNAL]: only a process whose title carries this folder's port is signalled.
redis_stop() {
    local pid port
    pid=$(cat "$1/redis.pid" 2>/dev/null) && [ -n "$pid" ] || return 0
    port=$(sed -n 's/^port //p' "$1/redis.conf")
    case $(command_line "$pid") in *":$port"*) ;; *) return 0 ;; esac
    kill "-${2:-TERM}" "$pid" 2>/dev/null
    poll 10 gone "$pid" || kill -KILL "$pid" 2>/dev/null
}
