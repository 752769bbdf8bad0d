#!/usr/bin/env bash
# Makes a new crate that caches an entity of yours, from the template in adopt/:
#
#   scripts/adopt.sh [--name patient] [--plural patients] [--copy] [--test] FOLDER    (make adopt NAME=patient DIR=../patients)
#
# The crate depends on the crates of this checkout by their path. With --copy (COPY=yes) it has copies of them in its folder crates/, and
# uses nothing of this checkout. With --test it is also built and tested here, in this checkout's target folder, so that what both need is
# compiled once; `make check` does that, in a folder under .run/.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=services.sh
. "$(dirname "$0")/services.sh"

test='' copy='' name=invoice plural=''
while [ $# -gt 0 ]; do
    case $1 in
    --test) test=yes ;;
    --copy) copy=yes ;;
    --name) name=${2:-}; shift ;;
    --plural) plural=${2:-}; shift ;;
    *) break ;;
    esac
    shift
done
if [ $# -ne 1 ] || [ -z "$1" ]; then die "Say where: make adopt NAME=patient DIR=../patients"; fi
need_build_tools

# a_name WORD VARIABLE: ends the script unless WORD can be a table, a module and, in its other spelling, a type.
a_name() {
    case $1 in
    '' | [!a-z]* | *[!a-z0-9_]* | *_ | *__*) die "$2=$1 is no name: use small letters, digits and single underscores, such as lab_result" ;;
    as | async | await | break | const | continue | crate | dyn | else | enum | extern | false | final | fn | for | gen | if | impl | in | let | \
        loop | macro | match | mod | move | mut | pub | ref | return | self | static | struct | super | trait | true | try | type | unsafe | use | \
        where | while | abstract | become | box | do | override | priv | typeof | unsized | virtual | yield)
        die "$2=$1 is a keyword of Rust"
        ;;
    esac
    # Words of the template mean something else in it. `order` is only a part of `order by`.
    if [ "$1" != "${1#invoice}" ] || find adopt/src adopt/migrations -type f -exec sed 's/order by//g' {} + | grep -w -e "$1" -e "$(camel "$1")" >/dev/null; then
        [ "$1" = invoice ] || [ "$1" = invoices ] || die "$2=$1 is a word of the template: take another one, and rename it afterwards"
    fi
}
# lab_result → LabResult
camel() { printf '%s' "$1" | awk -F_ '{ for (i = 1; i <= NF; i++) printf "%s%s", toupper(substr($i, 1, 1)), substr($i, 2) }'; }
cd "$ROOT"
a_name "$name" NAME
if [ -z "$plural" ]; then
    case $name in
    *[!aeiou]y) plural=${name%y}ies ;;
    *s | *x | *z | *ch | *sh) plural=${name}es ;;
    *) plural=${name}s ;;
    esac
fi
a_name "$plural" PLURAL
[ "$plural" != "$name" ] || die "PLURAL=$plural must differ from the name of one"
cd "$OLDPWD"

if [ -e "$1" ] && { [ ! -d "$1" ] || [ -n "$(ls -A "$1")" ]; }; then die "$1 is there already, and isn't an empty folder"; fi
# Without .. and links, or nobody could tell what is inside of this checkout.
if [ -d "$1" ]; then
    there=yes folder=$(cd "$1" && pwd -P)
else
    there='' last=$(basename "$1")
    mkdir -p "$(dirname "$1")"
    folder=$(cd "$(dirname "$1")" && pwd -P)
    folder=${folder%/}/$last
fi
root=$(cd "$ROOT" && pwd -P)
case $folder in "$root"/.run/*) ;; "$root" | "$root"/*) die "$folder is inside of this checkout" ;; esac
begun=$SECONDS

# Half a crate is of no use to anybody.
take_back() {
    rm -rf "$folder"
    if [ -n "$there" ]; then mkdir "$folder"; fi
    warn "$folder is as it was"
}
trap take_back EXIT
trap_exits
mkdir -p "$folder"
cd "$ROOT"

# The template, by its new name: in texts, then in the names of files.
cp -R adopt/. "$folder"
article='s/@NAME@/@NAME@/'
case $name in [!aeiou]*) article='s/\([Aa]\)n @NAME@/\1 @NAME@/g' ;; esac
find "$folder" -type f | while IFS= read -r file; do
    sed -e 's/invoices/@PLURAL@/g; s/Invoices/@PLURALS@/g; s/invoice/@NAME@/g; s/Invoice/@TYPE@/g' -e "$article" \
        -e "s/@PLURAL@/$plural/g; s/@PLURALS@/$(camel "$plural")/g; s/@NAME@/$name/g; s/@TYPE@/$(camel "$name")/g" "$file" >"$file.new"
    mv "$file.new" "$file"
done
find "$folder" -depth -name '*invoice*' | while IFS= read -r file; do
    mv "$file" "$(dirname "$file")/$(basename "$file" | sed "s/invoices/@PLURAL@/g; s/invoice/$name/g; s/@PLURAL@/$plural/g")"
done

# The crates that it depends on. Copies are a workspace of their own, which is replaced as one folder.
crates=$root/crates
if [ -n "$copy" ]; then
    crates=crates
    mkdir "$folder/crates"
    cp -R crates/aside-cache crates/aside-axum crates/aside-testkit LICENSE-MIT LICENSE-APACHE Cargo.lock "$folder/crates/"
    {
        printf '# Copies of crates of Aside. To take a newer version, replace this folder as a whole.\n[workspace]\nmembers = ["*"]\nexclude = ["target"]\nresolver = "3"\n\n'
        awk '/^\[/ { wanted = /^\[workspace\.(package|dependencies|lints\.[a-z]*)\]/ } wanted && !/^aside = /' Cargo.toml | sed 's|path = "crates/|path = "|'
    } >"$folder/crates/Cargo.toml"
fi
sed "s|path = \"\.\./crates/|path = \"$crates/|" adopt/Cargo.toml | sed "s/invoices/$plural/" >"$folder/Cargo.toml"
{
    printf '\n# A workspace of its own, wherever the folder is.\n[workspace]\n'
    if [ -n "$copy" ]; then printf 'exclude = ["crates"]\n'; fi
    printf '\n[profile.dev]\ndebug = "line-tables-only"\n\n[profile.dev.package."*"]\ndebug = false\n'
} >>"$folder/Cargo.toml"
cp -R .cargo rustfmt.toml clippy.toml "$folder"
printf '/target\n/crates/target\n' >"$folder/.gitignore"
# The same versions as here: Cargo takes what this lock file names and drops the rest.
cp Cargo.lock "$folder/Cargo.lock"
if has rustfmt; then (cd "$folder" && "${CARGO:-cargo}" fmt); fi
run_to_end "${CARGO:-cargo}" metadata --quiet --format-version 1 --manifest-path "$folder/Cargo.toml" >"$folder/metadata.json"
uses=$(grep -o "\"manifest_path\":\"$root/[^\"]*" "$folder/metadata.json" | grep -v "\"$folder/" || true)
rm -f "$folder/metadata.json"
# The copies can be built and tested by themselves, too.
if [ -n "$copy" ]; then run_to_end "${CARGO:-cargo}" metadata --quiet --format-version 1 --manifest-path "$folder/crates/Cargo.toml" >/dev/null; fi
if [ -n "$copy" ] && [ -n "$uses" ]; then die "It uses this checkout: $uses"; fi
packages() { awk '/^name = / { name = $3 } /^version = / { print name, $3 }' "$1" | sort; }
new=$(comm -13 <(packages Cargo.lock) <(packages "$folder/Cargo.lock") | grep -v "^\"$plural\"" || true)
[ -z "$new" ] || die "Packages that aren't in Cargo.lock here: $new"
trap - EXIT
say "$folder: $(find "$folder/src" "$folder/tests" -name '*.rs' -exec cat {} + | wc -l) lines of Rust, $(packages "$folder/Cargo.lock" | wc -l) packages, all of them in Cargo.lock here too"

if [ -n "$test" ]; then
    export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$ROOT/target}"
    need_open_files 4096
    SERVICES_FAST=yes
    services_start
    find_server_binaries
    cd "$folder"
    run_to_end "${CARGO:-cargo}" fmt --check
    run_to_end "${CARGO:-cargo}" test --locked --quiet
    has curl || die "curl isn't here"
    # The tests have built the program too. It serves, and records the accesses of its callers.
    port=$(free_port)
    LISTEN=127.0.0.1:$port AUDIT_LOG=$folder/audit.log "$CARGO_TARGET_DIR/debug/$plural" &
    in_background "$plural"
    poll 30 port_open 127.0.0.1 "$port" || die "$plural does not listen"
    answer=$(curl -sS -o /dev/null -w '%{http_code}' -H 'x-tenant: demo' -H 'x-subject: alice' "http://127.0.0.1:$port/$plural/7")
    [ "$answer" = 404 ] || die "$plural answers $answer where there is nothing"
    poll 10 grep -q ' demo alice Read' "$folder/audit.log" || die "$plural records no access"
    say "From nothing to green in $((SECONDS - begun)) s"
else
    say "To build and test it against throw-away servers:"
    printf 'cd %q && %q --fast cargo test --locked\n' "$folder" "$ROOT/scripts/services.sh"
fi
