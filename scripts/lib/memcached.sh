# shellcheck shell=bash
# A memcached for the cache's tests. There is no wheel of it: an installed one, or as root that of the system's package. Needs services.sh.

# find_memcached: sets MEMCACHED_BIN to what is named there already, else to what is installed. Where there is none it is not set.
find_memcached() {
    MEMCACHED_BIN=${MEMCACHED_BIN:-$(type -P memcached)} && export MEMCACHED_BIN
}
obtain_memcached() {
    find_memcached || { install_packages memcached memcached memcached && find_memcached; }
}
# memcached_missing SEVERITY: says so by that function, `warn` or `die`.
memcached_missing() {
    advise_memcached
    "$1" "There is no memcached here, so the cache is not tested over Memcached"
}
advise_memcached() { detail "Debian: apt-get install memcached; macOS: brew install memcached; or name one in MEMCACHED_BIN"; }
