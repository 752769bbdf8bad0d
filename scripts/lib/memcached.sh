# shellcheck shell=bash
# A memcached for the cache's tests. There is no wheel of it: an installed one, or as root that of the system's package. Needs services.sh.

# find_memcached: sets MEMCACHED_BIN to what is named there already, else to what is installed.
find_memcached() {
    MEMCACHED_BIN=${MEMCACHED_BIN:-$(command -v memcached || true)}
    # An empty one would name a binary to whoever only looks whether it is set.
    if [ -z "$MEMCACHED_BIN" ]; then unset MEMCACHED_BIN; return 1; fi
    export MEMCACHED_BIN
}
obtain_memcached() {
    find_memcached || { install_packages memcached memcached memcached && find_memcached; }
}
# memcached_missing SEVERITY: says so by that function, `warn` or `die`.
memcached_missing() {
    "$1" "NOT TESTED: the cache over Memcached, because there is no memcached here. Debian: apt-get install memcached; macOS: brew install memcached; or name one in MEMCACHED_BIN"
}
