# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is read in bare.sh
# A root as bare as a newcomer's machine: this machine's own distribution by debootstrap, with what the README names under *Needed* and
# nothing else. It is made once and kept as an archive outside of the checkout; each run unpacks a copy of its own. Needs services.sh.
#
# Nothing in here names a registry: sources, keys, certificates and settings of the package managers are those of this machine.

# What the README names under *Needed*, but Rust, as Debian calls it; and the certificates with which curl and pip check servers.
NEEDED=(gcc libc6-dev make curl python3 ca-certificates)
# What it names besides for everybody but root.
NEEDED_BY_USERS=(python3-venv)

# bare_root_impossible: whether there can't be one, with the reason in WHY.
bare_root_impossible() {
    WHY="only root can make one"
    is_root || return 0
    WHY="this isn't a Debian or one of its kind"
    has apt-get && has dpkg || return 0
    WHY="mounts can't be made here"
    unshare --mount --pid --fork --kill-child --propagation private -- true 2>/dev/null || return 0
    WHY="Rust is not one of rustup's, so it can't be shared"
    rustup_home=${RUSTUP_HOME:-$HOME/.rustup} cargo_home=${CARGO_HOME:-$HOME/.cargo}
    [ -d "$rustup_home/toolchains" ] && [ -x "$cargo_home/bin/cargo" ] || return 0
    WHY="debootstrap isn't here and can't be installed"
    has debootstrap || install_packages debootstrap debootstrap debootstrap || return 0
    WHY=''
    return 1
}

# bare_root_archive NAME PACKAGE…: an archive of such a root, in ARCHIVE; made if there is none by this recipe yet.
bare_root_archive() {
    local name=$1 cache mirror suite begun=$SECONDS
    shift
    cache="${XDG_CACHE_HOME:-$HOME/.cache}/aside"
    ARCHIVE="$cache/bare-$name-$({ cat "${BASH_SOURCE[0]}" /etc/os-release; echo "$*"; } | cksum | cut -d' ' -f1).tar"
    if [ -e "$ARCHIVE" ]; then return; fi
    say "Making a bare root with $* (two minutes or so, once)"
    mkdir -p "$cache"
    rm -f "$cache/bare-$name"-*
    quietly apt-get update || return
    # shellcheck source=/dev/null
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    # shellcheck disable=SC2016 # apt-get expands them
    mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' | awk -v suite="$suite" '$1 == suite { print $2; exit }')
    [ -n "$mirror" ] || { warn "apt-get has no source for $suite"; return 1; }
    new_folder folder "$cache"
    quietly debootstrap --variant=minbase --include="$(IFS=,; echo "$*")" "$suite" "$NEW_FOLDER" "$mirror" || return
    with_settings_of_this_machine "$NEW_FOLDER"
    tar -C "$NEW_FOLDER" -cf "$ARCHIVE.$$" . && mv "$ARCHIVE.$$" "$ARCHIVE"
    rm -rf "$NEW_FOLDER"
    say "Made in $((SECONDS - begun)) s: $ARCHIVE, $(($(wc -c <"$ARCHIVE") / 1000000)) MB"
}
# with_settings_of_this_machine ROOT: what programs in it need to reach the registries that this machine reaches.
with_settings_of_this_machine() {
    local root=$1 file
    rm -rf "$root"/etc/apt/sources.list* "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/archives/*.deb
    cp -RL /etc/apt "$root/etc/"
    for file in /etc/resolv.conf /etc/hosts /etc/pip.conf; do
        if [ -e "$file" ]; then cp -L "$file" "$root/etc/"; fi
    done
    for file in /usr/share/keyrings /usr/local/share/ca-certificates /etc/ssl/certs; do
        if [ -d "$file" ]; then mkdir -p "$root$file" && cp -RLn "$file/." "$root$file/" 2>/dev/null || true; fi
    done
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/" 2>/dev/null || true
}

# variables_of_registries: NAME=VALUE of those by which this machine reaches package registries, one a line.
variables_of_registries() {
    local name
    for name in $(compgen -e); do
        case $name in
        *_proxy | *_PROXY | PIP_* | CARGO_HTTP_* | CARGO_NET_* | CARGO_REGISTR* | CARGO_SOURCE_* | SSL_CERT_* | *_CA_BUNDLE | RUSTUP_TOOLCHAIN)
            echo "$name=${!name}"
            ;;
        esac
    done
}
