#!/usr/bin/env bash
# The two commands of the README where a newcomer runs them (make bare): in a root made of packages that holds only what the README names
# under *Needed*, in a fresh clone, with an emptied environment. Once as root, where the scripts install servers as packages, and once
# as a user without root, for whom they come in wheels. Ends with 1 when something fails, is left behind or was skipped in silence.
#
#   scripts/bare.sh [--shared] [root|user|root:run|user:test]…   both commands as both if none is named
#
# Everything is compiled anew, as it is for a newcomer; with --shared in this checkout's target folder, so that nothing is compiled
# twice. Cargo's registry is filled before and shared read-only, and so is the toolchain. What is not committed is not in the clone.
#
# Where such a root can't be made, the same steps run in place, in this checkout, and a warning says so.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
# shellcheck source-path=SCRIPTDIR source=lib/bare_root.sh
. "$ROOT/scripts/lib/bare_root.sh"
cd "$ROOT"
need_build_tools

shared=''
if [ "${1:-}" = --shared ]; then shared=yes; shift; fi
if [ $# -eq 0 ]; then set -- root user; fi
clean_up_at_the_end

environment=("TERM=${TERM:-dumb}")
while IFS= read -r variable; do environment+=("$variable"); done < <(variables_of_registries)

# in_place REASON: runs the same steps in this checkout.
in_place() {
    warn "NOT RUN ON A BARE MACHINE: $1. The README's two commands run here instead, with whatever is installed here."
    run_to_end env -i "HOME=$HOME" "PATH=$PATH" "${environment[@]}" scripts/bare/steps.sh run test
}

bare_root_impossible && { in_place "$WHY"; exit; }
say "Filling Cargo's registry, which the roots share"
run_to_end cargo fetch --locked --quiet

# Everything of this run: the clone, the roots, and what is compiled.
mkdir -p "$BARE_CACHE"
new_folder folder "$BARE_CACHE"
work=$NEW_FOLDER
if has git && git clone --quiet --no-hardlinks "$ROOT" "$work/clone"; then
    [ -z "$(git status --porcelain)" ] || warn "What is not committed is not in the clone"
else
    warn "git can't clone this checkout: its files are copied as they are"
    mkdir "$work/clone"
    tar -C "$ROOT" --exclude=./target --exclude=./.run --exclude=./.git -cf - . | tar -C "$work/clone" -xf -
fi
target="$work/target"
if [ -n "$shared" ]; then target="${CARGO_TARGET_DIR:-$ROOT/target}"; fi
mkdir -p "$target"
owner=$(stat -c %u:%g "$target")

# bare NAME UID HOME STEP…: runs the steps in a root of its own. Its processes end with it, and no other process sees its mounts.
bare() {
    local name=$1 id=$2 home=$3 root="$work/$1" status=0
    shift 3
    mkdir "$root"
    tar -C "$root" -xf "$ARCHIVE"
    chmod 755 "$root"
    mkdir -p "$root$home" "$root$(dirname "$ROOT")" "$root$cargo_home" "$root$rustup_home"
    # The same path as here, or Cargo would compile everything again.
    cp -a "$work/clone" "$root$ROOT"
    mkdir "$root$ROOT/target"
    if [ "$id" -ne 0 ]; then
        echo "newcomer:x:$id:$id::$home:/bin/bash" >>"$root/etc/passwd"
        echo "newcomer:x:$id:" >>"$root/etc/group"
        # So that it reaches what is shared, and the clone.
        local folder
        for folder in "$root$ROOT" "$root$cargo_home" "$root$rustup_home"; do
            while [ "$folder" != "$root" ]; do chmod a+rx "$folder" && folder=$(dirname "$folder"); done
        done
        chown -R "$id:$id" "$root$home" "$root$ROOT" "$target"
        chown "$id:$id" "$root$cargo_home"
    fi
    say "$name: $* in a bare root"
    run_to_end unshare --mount --pid --fork --kill-child --propagation private -- \
        scripts/bare/enter.sh "$root" "$id" "$ROOT" "$target" "$cargo_home" "$rustup_home" \
        "HOME=$home" "PATH=$cargo_home/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
        "CARGO_HOME=$cargo_home" "RUSTUP_HOME=$rustup_home" "${environment[@]}" -- scripts/bare/steps.sh "$@" || status=$?
    if [ "$id" -ne 0 ]; then chown -R "$owner" "$target"; fi
    rm -rf "$root"
    return "$status"
}

for arg in "$@"; do
    steps=(run test)
    case $arg in *:run) steps=(run) ;; *:test) steps=(test) ;; esac
    case ${arg%:*} in
    root)
        bare_root_archive root || { in_place "the root couldn't be made"; exit; }
        bare root 0 /root "${steps[@]}"
        ;;
    user)
        bare_root_archive user || { in_place "the root couldn't be made"; exit; }
        bare user 1000 /home/newcomer "${steps[@]}"
        ;;
    *) die "root or user, not $arg" ;;
    esac
done
