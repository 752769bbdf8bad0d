#!/usr/bin/env bash
# The inner half of scripts/bare.sh, in namespaces of mounts and processes of its own: mounts what a system has, the toolchain and Cargo's
# registry (read-only) and the folder to compile in, and becomes the command in the bare root.
#
#   enter.sh ROOT UID CHECKOUT TARGET CARGO_HOME RUSTUP_HOME NAME=VALUE… -- COMMAND…
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib/common.sh
. "$(dirname "$0")/../lib/common.sh"
root=$1 id=$2 checkout=$3 target=$4 cargo_home=$5 rustup_home=$6
shift 6
variables=()
while [ "$1" != -- ]; do variables+=("$1"); shift; done
shift

mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/0 "$root/dev/stdin"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"
mkdir "$root/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"

shared() {
    mkdir -p "$root$1"
    mount --bind "$1" "$root$1"
    mount -o remount,bind,ro "$root$1"
}
shared "$rustup_home"
for folder in bin registry git; do
    if [ -d "$cargo_home/$folder" ]; then shared "$cargo_home/$folder"; fi
done
if [ -e "$cargo_home/config.toml" ]; then cp "$cargo_home/config.toml" "$root$cargo_home/"; fi
mount --bind "$target" "$root$checkout/target"

# shellcheck disable=SC2016 # expanded inside
exec chroot --userspec="$id:$id" --groups='' "$root" /usr/bin/env -i "${variables[@]}" /bin/bash -c 'cd "$1" && shift && exec "$@"' bash "$checkout" "$@"
