#!/usr/bin/env bash
# The live page and the explorer in a real browser (make browser): a throw-away Postgres and Redis, two instances, and Chromium without a
# window. Checks what a person would look for, and leaves pictures in target/browser/ for a person to look at.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
# shellcheck source-path=SCRIPTDIR source=lib/node.sh
. "$(dirname "$0")/lib/node.sh"
# shellcheck source-path=SCRIPTDIR source=lib/browser.sh
. "$(dirname "$0")/lib/browser.sh"
# shellcheck source-path=SCRIPTDIR source=lib/instances.sh
. "$(dirname "$0")/lib/instances.sh"
# shellcheck source-path=SCRIPTDIR source=lib/build.sh
. "$ROOT/scripts/lib/build.sh"
cd "$ROOT"
need_build_tools

make_run_folder
# The installed Chromium, else, as root, that of the system's packages.
find_browser || { install_packages chromium chromium chromium && find_browser; } ||
    die "There is no Chromium: install one (Debian: apt-get install chromium)"
browser_packages

SERVICES_FAST=yes SERVICES_OWN=yes
services_start
build_for_debugging aside
aside="${CARGO_TARGET_DIR:-$ROOT/target}/debug/aside"
run_to_end "$aside" seed
pictures="${CARGO_TARGET_DIR:-$ROOT/target}/browser"
mkdir -p "$pictures"
new_folder folder "$RUN"
start_instance second "$NEW_FOLDER"
# Last, because the browser asks this one.
start_instance first "$NEW_FOLDER"
export PUBLIC="http://$PUBLIC" MANAGEMENT="http://$MANAGEMENT" PICTURES="$pictures"
run_to_end run_node scripts/browser/pages.mjs
say "Pictures to look at: $pictures"
