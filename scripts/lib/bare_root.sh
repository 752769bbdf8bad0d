# shellcheck shell=bash
# shellcheck disable=SC2034 # bare.sh reads the variables that are set here
# A root as bare as a newcomer's machine: this machine's own distribution by debootstrap, with what the README names under *Needed* and
# nothing else. It is made once and kept as an archive outside of the checkout; each run unpacks a copy of its own. Needs services.sh.
#
# Nothing in here names a registry: sources, keys, certificates and settings of the package managers are those of this machine.

# The packages that the README names under *Needed*, except Rust, and the certificates with which curl and pip check servers.
NEEDED=(gcc libc6-dev make curl python3 ca-certificates)
# The packages that it names for users without root.
NEEDED_BY_USERS=(python3-venv)

# bare_root_impossible: succeeds if this machine can't make one, with the reason in WHY.
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

BARE_CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/aside"

# bare_root_archive root|user: an archive of such a root, in ARCHIVE; made if there is none by this recipe yet.
bare_root_archive() {
    local of=$1 begun=$SECONDS
    ARCHIVE="$BARE_CACHE/bare-$of-$(cat "${BASH_SOURCE[0]}" /etc/os-release | cksum | cut -d' ' -f1).tar"
    if [ -e "$ARCHIVE" ]; then return; fi
    say "Making a bare root for $of (two minutes or so, once)"
    mkdir -p "$BARE_CACHE"
    rm -f "$BARE_CACHE/bare-$of"-*
    new_folder folder "$BARE_CACHE"
    "bare_root_of_$of" "$NEW_FOLDER" || return
    tar -C "$NEW_FOLDER" -cf "$ARCHIVE.$$" . && mv "$ARCHIVE.$$" "$ARCHIVE" || return
    rm -rf "$NEW_FOLDER"
    say "Made in $((SECONDS - begun)) s: $ARCHIVE, $(($(wc -c <"$ARCHIVE") / 1000000)) MB"
}
bare_root_of_root() {
    local mirror suite
    quietly apt-get update || return
    # shellcheck source=/dev/null
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    # shellcheck disable=SC2016 # apt-get expands them
    mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' | awk -v suite="$suite" '$1 == suite && !found { print $2; found = 1 }')
    [ -n "$mirror" ] || { warn "apt-get has no source for $suite"; return 1; }
    quietly debootstrap --variant=minbase --include="$(IFS=,; echo "${NEEDED[*]}")" "$suite" "$1" "$mirror" || return
    with_settings_of_this_machine "$1"
}
# The root for root, with the packages for users added.
bare_root_of_user() {
    local archive=$ARCHIVE root=$1
    bare_root_archive root || return
    tar -C "$root" -xf "$ARCHIVE" || return
    ARCHIVE=$archive NEW_FOLDER=$root
    quietly chroot "$root" apt-get update || return
    quietly chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${NEEDED_BY_USERS[@]}" || return
    rm -rf "$root"/var/lib/apt/lists/*
}
# with_settings_of_this_machine ROOT: copies the settings with which this machine reaches package registries.
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
