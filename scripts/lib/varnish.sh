# shellcheck shell=bash
# A throw-away Varnish with the xkey module, on a free loopback port, with ops/varnish/default.vcl. Needs services.sh.

# The installed one, else, as root, that of Debian's packages.
find_varnish() {
    VARNISHD=$(type -P varnishd || true)
    if [ -z "$VARNISHD" ] && [ -x /usr/sbin/varnishd ]; then VARNISHD=/usr/sbin/varnishd; fi
    [ -n "$VARNISHD" ] && varnish_has_xkey
}
varnish_has_xkey() {
    local module
    for module in /usr/lib/*/varnish/vmods/libvmod_xkey.so /usr/lib*/varnish/vmods/libvmod_xkey.so; do
        if [ -e "$module" ]; then return; fi
    done
    return 1
}
obtain_varnish() {
    find_varnish && return
    if is_root && has apt-get; then
        install_packages varnish varnish varnish || true
        install_packages varnish-modules varnish-modules varnish-modules || true
        find_varnish && return
    fi
    die "There is no Varnish with its modules (Debian: apt-get install varnish varnish-modules)"
}

# varnish_start FOLDER SERVICE_PORT: the committed configuration with the service's port in the place of its own; its own port is in
# VARNISH_PORT.
varnish_start() {
    local folder=$1 service=$2 try
    mkdir -p "$folder"
    sed "s/\.port = \"3000\";/.port = \"$service\";/" "$ROOT/ops/varnish/default.vcl" >"$folder/test.vcl"
    for try in 1 2 3 4 5; do
        VARNISH_PORT=$(free_port)
        # In the foreground, so that its process is the script's own, and as its user: another one may not look into the folder.
        "$VARNISHD" -j none -F -n "$folder/work" -a "127.0.0.1:$VARNISH_PORT" -f "$folder/test.vcl" -s default,64m -T none \
            >"$folder/varnish.log" 2>&1 &
        in_background "$folder"
        if poll 20 varnish_decided && alive "$PROCESS"; then return; fi
        grep -qi 'address already in use' "$folder/varnish.log" || break
        detail "port $VARNISH_PORT was taken in between, trying another (try $try)"
    done
    show_log "Varnish didn't start" "$folder/varnish.log"
    return 1
}
varnish_decided() { gone "$PROCESS" || port_open 127.0.0.1 "$VARNISH_PORT"; }
