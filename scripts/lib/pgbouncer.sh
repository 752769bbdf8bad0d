# shellcheck shell=bash
# A pgbouncer for the tests behind a pooler. There is no wheel of it: an installed one, or as root that of the system's package. Needs
# services.sh.

# find_pgbouncer: sets PGBOUNCER_BIN to what is named there already, else to what is installed. Where there is none it is not set.
find_pgbouncer() {
    PGBOUNCER_BIN=${PGBOUNCER_BIN:-$(type -P pgbouncer || find /usr/sbin /usr/local/sbin -maxdepth 1 -name pgbouncer 2>/dev/null | head -n 1)}
    [ -n "$PGBOUNCER_BIN" ] && export PGBOUNCER_BIN
}
obtain_pgbouncer() {
    find_pgbouncer || { install_packages pgbouncer pgbouncer pgbouncer && find_pgbouncer; }
}
advise_pgbouncer() { detail "Debian: apt-get install pgbouncer; macOS: brew install pgbouncer; or name one in PGBOUNCER_BIN"; }
