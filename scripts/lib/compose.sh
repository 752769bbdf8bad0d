# shellcheck shell=bash
# Postgres and Redis from docker-compose.yml, in a project of its own with free host ports.

COMPOSE=() ENGINE=''
# compose_found: an engine that answers and a compose command for it; sets ENGINE and COMPOSE.
compose_found() {
    [ ${#COMPOSE[@]} -eq 0 ] || return 0
    if has docker && docker info >/dev/null 2>&1; then
        ENGINE=docker
        if docker compose version >/dev/null 2>&1; then COMPOSE=(docker compose)
        elif has docker-compose; then COMPOSE=(docker-compose)
        fi
    elif has podman && podman info >/dev/null 2>&1; then
        # shellcheck disable=SC2034 # read in compose.sh
        ENGINE=podman
        if podman compose version >/dev/null 2>&1; then COMPOSE=(podman compose)
        elif has podman-compose; then COMPOSE=(podman-compose)
        fi
    fi
    [ ${#COMPOSE[@]} -gt 0 ]
}
# All profiles, so that `down` reaches everything that was started; `up` is told what to start.
compose() { "${COMPOSE[@]}" -p "$COMPOSE_PROJECT" -f "$ROOT/docker-compose.yml" --profile fleet --profile l3 --profile observability "$@"; }

# compose_launch postgres|redis
compose_launch() {
    local service=$1
    if [ -z "${COMPOSE_PROJECT:-}" ]; then
        COMPOSE_PROJECT="aside-$$"
        # docker-compose.yml reads these. Exported, so that the later `exec` and `down` see the same values.
        POSTGRES_PORT=$(free_port) REDIS_PORT=$(free_port) POSTGRES_PASSWORD=$(random_hex) REDIS_PASSWORD=$(random_hex)
        export POSTGRES_PORT REDIS_PORT POSTGRES_PASSWORD REDIS_PASSWORD
        remember compose "$COMPOSE_PROJECT"
    fi
    say "Starting $service with ${COMPOSE[*]}: the first time, this fetches an image"
    if ! compose up -d "$service" >&2 || ! poll 120 "compose_${service}_ready"; then
        compose logs "$service" 2>&1 | tail -n 5 >&2
        warn "${COMPOSE[*]} couldn't start $service"
        return 1
    fi
    case $service in
    postgres) export DATABASE_URL="postgres://aside:$POSTGRES_PASSWORD@127.0.0.1:$POSTGRES_PORT/aside" ;;
    redis) export REDIS_URL="redis://default:$REDIS_PASSWORD@127.0.0.1:$REDIS_PORT" ;;
    esac
    say "$service: ${COMPOSE[*]}, project $COMPOSE_PROJECT"
}
# Asked inside the container: a published port accepts before the server behind it listens.
compose_postgres_ready() { compose exec -T postgres pg_isready -q -h 127.0.0.1 -U aside >/dev/null 2>&1; }
# shellcheck disable=SC2016 # expanded inside the container
compose_redis_ready() { compose exec -T redis sh -c 'REDISCLI_AUTH="$REDIS_PASSWORD" redis-cli ping' 2>/dev/null | grep -q PONG; }

compose_stop() {
    compose_found || return 0
    COMPOSE_PROJECT=$1 compose down -v --timeout 5 >/dev/null 2>&1 || warn "Left behind: compose project $1"
}
