#!/usr/bin/env bash
# What a load costs Postgres, against the plain select of the same columns (scripts/load-cost.sh [SECONDS [ROUNDS]]). It starts a
# Postgres of its own, fills it, and runs both with pgbench as prepared statements, one after the other in each round. The
# statements are those of scripts/load-cost/; tests compare them with the code's. `wrapped` is what `cache.get(key).one` and `.list` make of the plain select. All are planned once, as the service sets it for its
# connections. Ratios are of the same round: the median
# and, in brackets, the lowest and the highest.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
cd "$ROOT"
seconds=${1:-3} rounds=${2:-9}

SERVICES_OWN=yes
SERVICES_FAST=yes
services_start
find_server_binaries
PATH="$POSTGRES_BIN_DIR:$PATH"
has pgbench || die "This Postgres came without pgbench ($POSTGRES_BIN_DIR)"

database() { psql -qAtX -v ON_ERROR_STOP=1 "$DATABASE_URL" "$@"; }
for migration in migrations/*.sql; do database --single-transaction -f "$migration" >/dev/null; done
database >/dev/null <<'SQL'
begin;
set local aside.invalidates = 'on';
insert into products (id, name, department, brand, category, type, package_size, price_cents, currency, stock, view_count)
select n, 'PRODUCT ' || n, 'DEPARTMENT ' || n % 20, 'BRAND ' || n % 300, 'CATEGORY' || n % 130 + 1, 'TYPE ' || n % 500, '200 G',
    100 + n % 900, 'USD', 1000, n % 5000
from generate_series(1, 60000) n;
commit;
insert into cache_ledger (tag, version) select 'product:' || n, nextval('cache_version') from generate_series(1, 60000, 2) n;
insert into cache_ledger (tag, version) select 'product-list:category:CATEGORY' || n, nextval('cache_version') from generate_series(1, 130) n;
SQL
database -c 'vacuum analyze'

# latency FILE: the mean in milliseconds.
latency() {
    PGOPTIONS='-c plan_cache_mode=force_generic_plan' pgbench -n -M prepared -T "$seconds" -f "scripts/load-cost/$1.sql" "$DATABASE_URL" 2>/dev/null |
        sed -n 's/^latency average = \([0-9.]*\) ms$/\1/p'
}
printf '%-18s %-22s %s\n' load 'ratio to the select' 'ms of both, medians'
for load in one one-wrapped page page-wrapped; do
    for ((round = 0; round < rounds; round++)); do
        echo "$(latency "${load%-wrapped}-plain") $(latency "$load")"
    done | awk -v what="$load" '
        function median(values, n,    i, j, t) {
            for (i = 2; i <= n; i++) for (j = i; j > 1 && values[j - 1] > values[j]; j--) { t = values[j]; values[j] = values[j - 1]; values[j - 1] = t }
            return values[int((n + 1) / 2)]
        }
        { plain[NR] = $1; with[NR] = $2; ratio[NR] = $2 / $1 }
        END {
            middle = median(ratio, NR)
            printf "%-18s %.2f (%.2f–%.2f)       %.3f %.3f\n", what, middle, ratio[1], ratio[NR], median(plain, NR), median(with, NR)
        }'
done
