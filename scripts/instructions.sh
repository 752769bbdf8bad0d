#!/usr/bin/env bash
# How many instructions an L1 hit takes, and how many the route with constant bytes: a figure that doesn't depend on the machine's
# mood. Counts with valgrind what the processes do in user space for five thousand requests, polls of the ledger included.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
# shellcheck source-path=SCRIPTDIR source=lib/instances.sh
. "$(dirname "$0")/lib/instances.sh"
cd "$ROOT"
need_build_tools
has valgrind || die "valgrind isn't here: apt-get install valgrind"

REQUESTS=5000
SERVICES_OWN=yes
cargo build --locked --profile bench --bin aside
speed=$(cargo bench --locked --bench speed --no-run --message-format=json | grep -o '"executable":"[^"]*speed[^"]*"' | cut -d'"' -f4)
aside="${CARGO_TARGET_DIR:-$ROOT/target}/release/aside"
services_start
"$aside" seed >/dev/null 2>&1
new_folder folder "$RUN"
work=$NEW_FOLDER

# ask PORT COUNT: so many requests on one connection.
ask() {
    python3 - "$1" "$2" <<'PY'
import socket, sys
line = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
request = b"GET /products/1082185 HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n"
for _ in range(int(sys.argv[2])):
    line.sendall(request)
    answer = line.recv(65536)
    assert answer.startswith(b"HTTP/1.1 200"), answer
PY
}

# count NAME PORT COMMAND...: starts the command under valgrind and prints the instructions of one request.
count() {
    local name=$1 port=$2
    shift 2
    TOKIO_WORKER_THREADS=1 RUST_LOG=warn valgrind --tool=callgrind --callgrind-out-file="$work/$name" "$@" >"$work/$name.log" 2>&1 &
    in_background "$work"
    for _ in $(seq 120); do
        ask "$port" 1000 2>/dev/null && break
        sleep 0.5
    done
    callgrind_control --zero "$PROCESS" >/dev/null
    ask "$port" "$REQUESTS"
    callgrind_control --dump "$PROCESS" >/dev/null
    while ! grep -qs '^summary:' "$work/$name.1"; do sleep 0.2; done
    kill "$PROCESS" && poll 15 gone "$PROCESS"
    awk -v name="$name" -v requests="$REQUESTS" '/^summary:/ { printf "%-9s %6.0f instructions for a request\n", name, $2 / requests }' "$work/$name.1"
}

# parts NAME: the dearest of the service's own functions, each with all that it calls. What the compiler has put into its caller is
# counted there.
parts() {
    callgrind_annotate --inclusive=yes --threshold=100 "$work/$1.1" 2>/dev/null | awk -v requests="$REQUESTS" '
        /aside::.* \[/ && shown < 15 {
            gsub(",", "", $1)
            amount = $1
            sub(/^.*\.rs:/, "")
            sub(/ \[.*/, "")
            printf "  %6.0f  %s\n", amount / requests, $0
            shown += 1
        }'
}

start_instance head "$work"
BENCH_HEAD=$(curl -sI "http://$PUBLIC/products/1082185" | tr -d '\r')
BENCH_BODY=$(curl -s "http://$PUBLIC/products/1082185")
export BENCH_HEAD BENCH_BODY
kill "$PROCESS" && poll 15 gone "$PROCESS"

port=$(free_port)
count constant "$port" "$speed" contender bare --port "$port"
port=$(free_port)
count l1-hit "$port" "$aside" serve --port "$port" --management-addr 127.0.0.1:0
parts l1-hit
