#!/usr/bin/env bash
# Plants omissions one by one, and counts which of them the dependency check finds (make omissions). It writes docs/omissions.md.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib/common.sh
. "$(dirname "$0")/lib/common.sh"

export OMISSIONS_PAGE="$ROOT/docs/omissions.md"
exec "$ROOT/scripts/test.sh" --test suite -- --ignored --nocapture api::omissions
