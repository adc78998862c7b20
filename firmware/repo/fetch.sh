#!/usr/bin/env bash
# Fetches python-tuf into .tuf at the root of the project, once: the tests have it take
# what this package signs, and sign what this package takes. Without Python they say so
# and are skipped.
set -euo pipefail

version=7.0.1
dir=$(cd "$(dirname "$0")/../.." && pwd)/.tuf
[ -e "$dir/tuf-$version.dist-info" ] && exit 0

if ! python3 -m pip --version >/dev/null 2>&1; then
	echo "fetch python-tuf: there is no python3 with pip (Debian: python3-pip); tests that need it are skipped" >&2
	exit 0
fi
rm -rf "$dir" "$dir.part"
if python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$dir.part" \
	"tuf==$version" "securesystemslib==1.6.0" "cryptography>=42,<60"; then
	mv "$dir.part" "$dir"
else
	rm -rf "$dir.part"
	echo "fetch python-tuf: it cannot be installed; tests that need it are skipped" >&2
fi
