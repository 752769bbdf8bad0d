# shellcheck shell=bash
# Prometheus' own checker of rules and metrics: the installed one, else the one of Debian's package, unpacked into .run/ without
# being installed. Needs common.sh.

promtool_at() {
    local folder="$RUN/promtool" build log="$RUN/promtool.$$.log"
    if type -P promtool; then return; fi
    if [ ! -x "$folder/usr/bin/promtool" ]; then
        has apt-get && has dpkg || return 1
        say "Unpacking promtool into .run/ (once)"
        build="$folder-0.$$"
        mkdir -p "$build"
        (cd "$build" && { apt-get download prometheus || { is_root && apt-get update && apt-get download prometheus; }; } &&
            dpkg -x prometheus_*.deb .) >"$log" 2>&1 || { rm -rf "$build" "$log"; return 1; }
        [ -d "$folder" ] || mv "$build" "$folder"
        rm -rf "$build" "$log"
    fi
    echo "$folder/usr/bin/promtool"
}
promtool() {
    local tool
    tool=$(promtool_at) || die "promtool isn't here, and Debian's package couldn't be unpacked: install Prometheus (Debian: apt-get install prometheus; macOS: brew install prometheus)"
    "$tool" "$@"
}
