#!/usr/bin/env bash
# What the service is built of (make supply): licences, advisories, bans and sources by cargo-deny, and a bill of materials
# (CycloneDX) in target/. Both tools are built from source by cargo, which takes minutes, so they are not fetched in silence.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib/common.sh
. "$(dirname "$0")/lib/common.sh"
cd "$ROOT"
for tool in deny cyclonedx; do
    cargo "$tool" --version >/dev/null 2>&1 || die "cargo-$tool isn't here: cargo install --locked cargo-$tool"
done
cargo deny check
cargo cyclonedx --format json --override-filename bill-of-materials
mkdir -p target && mv bill-of-materials.json target/
say "target/bill-of-materials.json"
