#!/usr/bin/env bash
# A tour of what the service promises (make demo): two instances on one Postgres and one Redis, all throw-away. Each request is
# shown as it goes; each step is checked, and the first that isn't as said ends the tour with an error, so it is a smoke test as well.
#
# With a Chromium the last step is on the live page, and its pictures are in target/demo/. `make demo ARGS=--pictures` takes more time for
# it, and stores the pictures of the README in docs/page/.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
# shellcheck source-path=SCRIPTDIR source=lib/promtool.sh
. "$(dirname "$0")/lib/promtool.sh"
# shellcheck source-path=SCRIPTDIR source=lib/instances.sh
. "$(dirname "$0")/lib/instances.sh"
# shellcheck source-path=SCRIPTDIR source=lib/node.sh
. "$(dirname "$0")/lib/node.sh"
# shellcheck source-path=SCRIPTDIR source=lib/browser.sh
. "$(dirname "$0")/lib/browser.sh"
# shellcheck source-path=SCRIPTDIR source=lib/build.sh
. "$(dirname "$0")/lib/build.sh"
cd "$ROOT"
need_build_tools
has curl || die "The demo makes its requests with curl, which isn't here"

PROMISED_MS=500 # how long another instance may go on answering with the old version: the default of CACHE_MAX_STALENESS_MS

# Never servers that somebody else uses: the demo writes, and kills the Redis.
SERVICES_FAST=yes SERVICES_OWN=yes
unset CACHE_MAX_STALENESS_MS CACHE_L1_BYTES
services_start
# --ci: two more checks, which are not part of the tour, and no pictures: make browser checks the page.
checks='' pictures="${CARGO_TARGET_DIR:-$ROOT/target}/demo" scene=15
case ${1:-} in
    --ci) checks=yes ;;
    --pictures) pictures=$ROOT/docs/page scene=40 ;;
esac
build_service
run_to_end "$aside" seed

new_folder folder "$RUN"
files=$NEW_FOLDER
URLS=()
for number in 1 2; do
    # Without warming, so that the first read shows as a miss.
    CACHE_WARM_TOP=0 start_instance "instance-$number" "$files"
    URLS[number]="http://$PUBLIC"
    say "Instance $number: ${URLS[number]}"
done

# The report goes to standard output; colours only on a terminal.
if [ ! -t 1 ]; then BOLD='' DIM='' OFF='' GREEN=''; fi
STEPS=0
step() { STEP=$1 STEPS=$((STEPS + 1)); printf '\n%s%2d. %s%s\n' "$BOLD" "$STEPS" "$STEP" "$OFF"; }
broken() {
    warn "Step $STEPS isn't as said ($STEP): $1"
    detail "the last answer: $STATUS $(head -c 300 "$files/body")"
    exit 1
}

# request INSTANCE METHOD PATH [CURL ARGUMENTS…]: sets STATUS and TIME_MS; header NAME and field NAME read the answer.
STATUS='' TIME_MS=''
request() {
    local instance=$1 method=$2 path=$3 result
    shift 3
    result=$(curl -sS -o "$files/body" -D "$files/head" -w '%{http_code} %{time_total}' -X "$method" --max-time 15 "$@" "${URLS[$instance]}$path") ||
        broken "instance $instance didn't answer $method $path"
    STATUS=${result% *}
    TIME_MS=$(awk -v s="${result#* }" 'BEGIN { printf "%.1f", s * 1000 }')
    # A 304 and some curl versions write no body file.
    [ "$STATUS" != 304 ] || : >"$files/body"
}
header() { tr -d '\r' <"$files/head" | awk -v name="$1" 'tolower($0) ~ "^" name ": " { sub(/^[^:]*: */, ""); value = $0 } END { print value }'; }
# The first number or string under a name in the JSON of the answer.
field() { grep -o "\"$1\": *\"\{0,1\}[^,\"}]*" "$files/body" | head -n 1 | sed 's/^[^:]*: *"\{0,1\}//'; }
show() {
    printf '    instance %s  %-5s %-30s %s  %6s ms' "$1" "$2" "$3" "$STATUS" "$TIME_MS"
    printf '%s  Age: %s  ETag: %s%s\n' "$DIM" "$(header age | grep . || echo -)" "$(header etag | grep . || echo -)" "$OFF"
    if [ -n "$(header cache-status)" ]; then printf '                Cache-Status: %s\n' "$(header cache-status)"; fi
}
ask() { request "$@"; show "$@"; }
expect() { # expect WHAT ACTUAL PATTERN
    # shellcheck disable=SC2254 # patterns are meant
    case $2 in $3) ;; *) broken "$1 is \"$2\", not \"$3\"" ;; esac
}
told() { printf '    %s%s%s\n' "$GREEN" "$*" "$OFF"; }

if [ -n "${EPOCHREALTIME:-}" ]; then
    now_ms() { local now=${EPOCHREALTIME/[.,]/}; echo "${now%???}"; }
else # bash 3.2
    now_ms() { perl -MTime::HiRes=time -e 'printf "%d\n", time * 1000'; }
fi
# until_new INSTANCE PATH FIELD WANTED SINCE_MS: asks until the answer holds the new value. A request that begins later than
# PROMISED_MS after the write was answered must hold it.
until_new() {
    local began old=0
    while :; do
        began=$(($(now_ms) - $5))
        request "$1" GET "$2"
        expect status "$STATUS" 200
        [ "$(field "$3")" != "$4" ] || break
        [ "$began" -le "$PROMISED_MS" ] || broken "$began ms after the write, instance $1 still answers the old $3"
        old=$((old + 1))
    done
    show "$1" GET "$2"
    told "new $3 in the request that began $began ms after the write was answered ($old older answers; promised: none after $PROMISED_MS ms)"
}

product=1082185
path=/products/$product

step "A first read: no tier has it, so Postgres is asked"
ask 1 GET $path
expect status "$STATUS" 200
expect Cache-Status "$(header cache-status)" 'aside-l2; fwd=miss, aside-l1; fwd=miss; stored*'
old_price=$(field price_cents)

step "Again on the same instance: from its memory (L1)"
ask 1 GET $path
expect Cache-Status "$(header cache-status)" 'aside-l1; hit*'
tag=$(header etag)

step "The same on the other instance: from Redis (L2), and then from its own memory"
ask 2 GET $path
expect Cache-Status "$(header cache-status)" 'aside-l2; hit*'
expect ETag "$(header etag)" "$tag"
ask 2 GET $path
expect Cache-Status "$(header cache-status)" 'aside-l1; hit*'

step "If-None-Match with the tag in hand: nothing to send"
ask 2 GET $path -H "If-None-Match: $tag"
expect status "$STATUS" 304

step "A price is changed on instance 1"
new_price=$((old_price + 5))
ask 1 PATCH $path -H 'Content-Type: application/merge-patch+json' -H "If-Match: $tag" -d "{\"price_cents\": $new_price}"
written=$(now_ms)
expect status "$STATUS" 200
expect price_cents "$(field price_cents)" "$new_price"

step "Instance 2, which held the old price in memory, has the new one in time"
until_new 2 $path price_cents "$new_price" "$written"

step "Instance 1 never answers the old price again, and the old tag is no longer good"
ask 1 GET $path
expect price_cents "$(field price_cents)" "$new_price"
ask 1 PATCH $path -H 'Content-Type: application/merge-patch+json' -H "If-Match: $tag" -d '{"price_cents": 1}'
expect status "$STATUS" 412

step "A customer's list of orders, held in memory by both instances"
customer=749
list="/orders?customer_id=$customer"
ask 1 GET "$list"
expect status "$STATUS" 200
for _ in 1 2; do request 2 GET "$list"; done
show 2 GET "$list"
expect Cache-Status "$(header cache-status)" 'aside-l1; hit*'
request 2 GET $path
stock=$(field stock)

step "An order is placed on instance 1; sent twice with one Idempotency-Key, it is placed once"
key="demo-$(random_hex)"
order="{\"customer_id\": $customer, \"items\": [{\"product_id\": $product, \"quantity\": 1}]}"
ask 1 POST /orders -H 'Content-Type: application/json' -H "Idempotency-Key: \"$key\"" -d "$order"
written=$(now_ms)
expect status "$STATUS" 201
placed=$(field id)

step "The list and the stock on instance 2 follow"
until_new 2 "$list" id "$placed" "$written"
until_new 2 $path stock $((stock - 1)) "$written"
ask 1 POST /orders -H 'Content-Type: application/json' -H "Idempotency-Key: \"$key\"" -d "$order"
expect status "$STATUS" 201
expect "the order's id" "$(field id)" "$placed"
expect Idempotency-Replayed "$(header idempotency-replayed)" true
request 1 GET $path
expect stock "$(field stock)" $((stock - 1))
told "one order ($placed), one piece of stock taken"

# Products that nobody has read yet: each read of one shows what L2 does now.
request 1 GET '/products?limit=100'
grep -o '"id": *[0-9]*' "$files/body" | grep -o '[0-9]*$' >"$files/ids"
TAKEN=0
unread() {
    TAKEN=$((TAKEN + 1))
    UNREAD=$(sed -n "${TAKEN}p" "$files/ids")
    [ -n "$UNREAD" ] || broken "no unread product is left"
}

step "Redis is killed (KILL): every answer goes on, from memory or from Postgres"
redis_kill
ask 1 GET $path
expect status "$STATUS" 200
expect Cache-Status "$(header cache-status)" 'aside-l1; hit*'
for instance in 1 2; do
    unread
    ask $instance GET "/products/$UNREAD"
    expect status "$STATUS" 200
    expect Cache-Status "$(header cache-status)" 'aside-l2; fwd=bypass*'
done

for _ in 1 2 3 4 5 6 7 8; do
    unread
    request 1 GET "/products/$UNREAD"
    case $(header cache-status) in *breaker-open*) break ;; esac
done
show 1 GET "/products/$UNREAD"
expect Cache-Status "$(header cache-status)" 'aside-l2; fwd=bypass; detail=breaker-open*'
told "after some failures in a row Redis isn't even asked: the breaker is open"

step "A write while Redis is away: not lost, and still in time"
request 2 GET $path
new_price=$((new_price + 5))
ask 1 PATCH $path -H 'Content-Type: application/merge-patch+json' -d "{\"price_cents\": $new_price}"
written=$(now_ms)
expect status "$STATUS" 200
until_new 2 $path price_cents "$new_price" "$written"

step "Redis comes back, empty, on the same port: it is used again without anybody's help"
redis_restart || broken "Redis didn't start again"
began=$(now_ms)
while :; do
    unread
    request 1 GET "/products/$UNREAD"
    expect status "$STATUS" 200
    case $(header cache-status) in *"aside-l2; fwd=miss"*) break ;; esac
    [ $(($(now_ms) - began)) -le 30000 ] || broken "after 30 seconds instance 1 still doesn't use Redis"
    sleep 0.2 # between polls
done
show 1 GET "/products/$UNREAD"
told "used again $(($(now_ms) - began)) ms after its return"
ask 2 GET "/products/$UNREAD"
expect Cache-Status "$(header cache-status)" 'aside-l2; hit*'

if [ -n "$checks" ]; then
    step "What Prometheus reads is as Prometheus wants it (in CI)"
    curl -sS --max-time 15 "http://$MANAGEMENT/metrics" | promtool check metrics || broken "promtool complains"
fi

# An instance with a small memory, so that Redis answers a part that can be seen.
film() {
    local log="$files/film.log" picture
    CACHE_L1_BYTES=120000 start_instance instance-3 "$files"
    mkdir -p "$pictures"
    export PUBLIC="http://$PUBLIC" MANAGEMENT="http://$MANAGEMENT" PICTURES="$pictures" FILM_SECONDS="$scene"
    : >"$log"
    run_node scripts/browser/film.mjs >"$log" 2>&1 &
    in_background film.mjs
    PROCESS_OF_FILM=$PROCESS
    poll 300 film_says 'kill Redis' || broken_film
    redis_kill
    poll 300 film_says 'restart Redis' || broken_film
    redis_restart || broken "Redis didn't start again"
    poll 300 gone "$PROCESS_OF_FILM" || broken_film
    sed -n 's/^ok  /   /p' "$log"
    film_says 'All is as it should be.' || broken_film
    for picture in "$pictures"/*.png; do detail "$picture"; done
}
film_says() { grep -qF "$1" "$files/film.log"; }
broken_film() { broken "the page isn't as said: $(grep -v '^ok' "$files/film.log" | tail -n 5)"; }

if [ -z "$checks" ] && find_browser; then
    step "The live page in a browser, with pictures: Redis is killed, its colour vanishes, and the height stays"
    browser_packages
    film
elif [ -z "$checks" ]; then
    told "There is no Chromium, so the step on the live page is left out"
fi

printf '\n%sAll %s steps were as said.%s\n' "$BOLD$GREEN" "$STEPS" "$OFF"
