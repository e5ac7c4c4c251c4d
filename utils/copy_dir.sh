#!/usr/bin/env bash
# Copy a directory so that the copy is complete or absent. An older copy is replaced. Usage: utils/copy_dir.sh FROM TO
set -euo pipefail

[ $# -eq 2 ] || { echo "usage: copy_dir.sh FROM TO" >&2; exit 1; }
[ -d "$1" ] || { echo "copy_dir.sh: error: $1 is not a directory" >&2; exit 1; }
partial=$(dirname "$2")/.$(basename "$2").partial
trap 'rm -rf "${partial}"' EXIT
mkdir -p "$(dirname "$2")"
rm -rf "${partial}"
cp -RL "$1" "${partial}"
chmod -R u+w "${partial}"  # a copy of a read-only folder could not be replaced
rm -rf "$2"
mv "${partial}" "$2"
echo "copied $1 to $2"
