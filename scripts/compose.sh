#!/usr/bin/env bash
# Runs docker-compose.yml on the container engine of this machine and checks it (make compose). The
# run is a project of its own, with free ports, random passwords and all profiles. It checks what the
# file promises, ends it by `down`, starts it again and looks for the data. At the end everything is
# removed, volumes included. Needs Docker with compose, and python3.
#
#   scripts/compose.sh [--no-build] [--without SERVICE]…
#
# --no-build takes the image `aside` as it is. --without leaves out a service, for instance one whose
# image can't be fetched.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
cd "$ROOT"

build=yes without=''
while [ $# -gt 0 ]; do
    case $1 in
    --no-build) build='' ;;
    --without) [ $# -ge 2 ] || die "--without needs the name of a service"; without="$without $2 "; shift ;;
    *) die "Unknown option $1. See the head of scripts/compose.sh." ;;
    esac
    shift
done
has python3 || die "The checks need python3"
if ! compose_found; then
    warn "No container engine with compose answers here, so nothing was checked."
    detail "Install Docker with its compose plugin: https://docs.docker.com/engine/install (Debian: apt-get install docker.io docker-compose)."
    detail "If it is installed: does it run, and may this user talk to it (docker info)?"
    exit 1
fi
clean_up_at_the_end

passed() { printf '    ok  %s\n' "$*" >&2; }
failed() { printf '    %sFAILED%s: %s\n' "$RED" "$OFF" "$*" >&2; exit 1; }
with() { case $without in *" $1 "*) return 1 ;; esac; }

say "${COMPOSE[*]}: $("${COMPOSE[@]}" version 2>/dev/null | head -n 1)"
new_folder folder "$RUN"
folder=$NEW_FOLDER
COMPOSE_PROJECT=aside-check-$$
# Every variable that the file reads gets a value here, so that neither the environment nor an .env
# of this folder matters. Some stay empty, which must count as not set.
# shellcheck disable=SC2016 # the dollar signs of the file
variables=$(grep -o '\${[A-Z0-9_]*' docker-compose.yml | cut -c3- | sort -u)
ports=' '
for name in $variables; do
    case $name in
    *_PORT)
        until port=$(free_port) && [ "${ports#* "$port" }" = "$ports" ]; do :; done
        ports="$ports$port " && export "$name=$port"
        ;;
    *_PASSWORD | *_TOKEN) export "$name=$(random_hex)" ;;
    *) export "$name=" ;;
    esac
done
CACHE_KEYS="check:$(random_hex)$(random_hex)"
if with varnish; then export CDN_TAGS=xkey CDN_PURGE_URL=http://varnish:6081/; fi
if with jaeger; then export OTEL_EXPORTER_OTLP_ENDPOINT=http://jaeger:4318; fi
services=()
for name in redis app-1 app-2 app-3 balancer varnish prometheus grafana jaeger; do
    if with "$name"; then services+=("$name"); else warn "Left out: $name"; fi
done

remember compose "$COMPOSE_PROJECT"
if [ -n "$build" ]; then
    say "Building the image (ten minutes or more the first time)"
    run_to_end "${COMPOSE[@]}" -p "$COMPOSE_PROJECT" -f docker-compose.yml build seed
fi

# The project's containers; ended ones too.
containers() { "$ENGINE" ps --all --quiet --filter "label=com.docker.compose.project=$COMPOSE_PROJECT"; }
container() { "$ENGINE" ps --all --quiet --filter "label=com.docker.compose.project=$COMPOSE_PROJECT" --filter "label=com.docker.compose.service=$1"; }
volumes() { "$ENGINE" volume ls --quiet --filter "label=com.docker.compose.project=$COMPOSE_PROJECT"; }
networks() { "$ENGINE" network ls --quiet --filter "label=com.docker.compose.project=$COMPOSE_PROJECT"; }
is_healthy() { [ "$("$ENGINE" inspect --format '{{.State.Health.Status}}' "$(container "$1")")" = healthy ]; }

bring_up() {
    say "up: ${services[*]} (images that aren't here are fetched)"
    run_to_end compose up -d --no-build "${services[@]}" >"$folder/up.log" 2>&1 || { show_log "compose couldn't bring it up" "$folder/up.log"; compose logs --tail 5 >&2; exit 1; }
    for name in postgres redis app-1 app-2 app-3; do
        with "$name" || continue
        poll 120 is_healthy "$name" || { compose logs --tail 5 "$name" >&2; failed "the health check of $name doesn't succeed"; }
    done
    passed "health checks succeed: postgres, redis and the instances"
}
# address SERVICE PORT: its published address for check.py, or nothing when it was left out.
address() { if with "$1"; then echo "127.0.0.1:$2"; fi; }
check() {
    CHECK_FOLDER=$folder APP_1=$(address app-1 "$APP_1_PORT") APP_2=$(address app-2 "$APP_2_PORT") APP_3=$(address app-3 "$APP_3_PORT") \
        BALANCER=$(address balancer "$BALANCER_PORT") VARNISH=$(address varnish "$VARNISH_PORT") JAEGER=$(address jaeger "$JAEGER_PORT") \
        PROMETHEUS=$(address prometheus "$PROMETHEUS_PORT") GRAFANA=$(address grafana "$GRAFANA_PORT") \
        run_to_end python3 scripts/compose/check.py "$1"
}
inside() { compose exec -T "$@"; }

bring_up
check running

say "What the containers may do"
for name in postgres "${services[@]}"; do
    user=$(inside "$name" stat -c %u /proc/1)
    [ "$user" != 0 ] || failed "$name runs as root"
done
passed "no program runs as root"
for name in "${services[@]}"; do
    [ "$("$ENGINE" inspect --format '{{.HostConfig.ReadonlyRootfs}}' "$(container "$name")")" = true ] || { read_write="${read_write:-} $name"; continue; }
    ! inside "$name" touch /written 2>/dev/null || failed "$name can write to its image"
done
passed "no program can write to its image${read_write:+, except${read_write}: docker-compose.yml leaves them open}"
"$ENGINE" cp "$(container app-1):/usr/local/bin/aside" "$folder/aside"
check stripped
passed "the image takes $("$ENGINE" image inspect --format '{{.Size}}' aside | awk '{ print int($1 / 1000000) }') MB"
for id in $(containers); do
    "$ENGINE" inspect --format '{{range .Mounts}}{{if eq .Type "volume"}}{{.Name}}{{"\n"}}{{end}}{{end}}' "$id"
done | sed '/^$/d' | while IFS= read -r name; do
    case $name in "$COMPOSE_PROJECT"_*) ;; *) failed "a container has a volume without a name, which \`down\` leaves behind" ;; esac
done

say "down, and up again"
kept=$(volumes)
run_to_end compose down >"$folder/down.log" 2>&1 || { show_log "compose couldn't end it" "$folder/down.log"; exit 1; }
[ -z "$(containers)$(networks)" ] || failed "\`down\` left containers or networks"
[ "$(volumes)" = "$kept" ] || failed "\`down\` took or left other volumes than before"
passed "\`down\` left nothing but the volumes: ${kept//$'\n'/, }"
bring_up
check restarted
say "All is as docker-compose.yml says."
