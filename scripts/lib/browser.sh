# shellcheck shell=bash
# The installed Chromium, and the packages that drive it. Needs common.sh and node.sh.

# find_browser: its path in BROWSER.
find_browser() {
    local name
    for name in chromium chromium-browser google-chrome; do
        if BROWSER=$(type -P $name); then return; fi
    done
    return 1
}

# browser_packages: exports what scripts/browser/*.mjs need of them.
browser_packages() {
    local packages
    node_and_npm
    packages=$(node_packages scripts/browser) || die "Playwright couldn't be installed from npm"
    export BROWSER PLAYWRIGHT="$packages/playwright-core/index.mjs" AXE="$packages/axe-core/axe.min.js"
}
