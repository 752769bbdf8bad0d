#!/usr/bin/env bash
# Feeds whatever comes to what takes bytes from elsewhere (make fuzz): scripts/fuzz.sh [SECONDS], 600 if not given, for each target of
# fuzz/src/main.rs. Begins with the inputs in fuzz/corpus/ and leaves what it finds in .run/fuzz/found/; ends with 1 when something panics, and
# says with which input.
# Built by the stable compiler with the coverage that libFuzzer reads; needs a C++ compiler for libFuzzer itself.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"
cd "$ROOT"
need_build_tools
make_run_folder
type -P c++ >/dev/null || install_packages g++ gcc-c++ g++ || die "libFuzzer is built with a C++ compiler, which isn't here (Debian: apt-get install g++)"

seconds=${1:-600}
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
coverage="$coverage -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
export RUSTFLAGS="$coverage -Ccodegen-units=1 --cfg fuzzing" CARGO_TARGET_DIR="$RUN/fuzz/target"
# With a target named, the flags don't reach build scripts and macros, which have no fuzzer to report to.
host=$(rustc -vV | sed -n 's/^host: //p')
# A short run is over long before an optimized build.
optimization=()
if [ "$seconds" -le 10 ]; then optimization=(--config profile.release.opt-level=0); fi
run_to_end cargo build --release --locked "${optimization[@]}" --manifest-path fuzz/Cargo.toml --target "$host"
mkdir -p "$RUN/fuzz/found"
for corpus in fuzz/corpus/*; do
    target=${corpus##*/}
    say "Fuzzing $target for $seconds s"
    mkdir -p "$RUN/fuzz/corpus/$target"
    FUZZ_TARGET=$target run_to_end "$CARGO_TARGET_DIR/$host/release/aside-fuzz" "$RUN/fuzz/corpus/$target" "$corpus" \
        -max_total_time="$seconds" -max_len=4096 -artifact_prefix="$RUN/fuzz/found/$target-" -print_final_stats=1 -verbosity=0
done
say "Nothing was found, in $seconds s for each target"
