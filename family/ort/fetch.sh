#!/usr/bin/env bash
# Fetches the ONNX Runtime library for linux/amd64 or linux/arm64 into
# .onnxruntime/linux-ARCH/ at the root of the project, once, and checks it
# against a pinned SHA-256.
#
# `npm pack` downloads the package and runs nothing in it (`npm install` would
# download more); where npm is missing, the PyPI wheel carries the same library.
set -euo pipefail

version=1.30.0
arch=${1:-$(go env GOARCH)}
root=$(cd "$(dirname "$0")/../.." && pwd)
dir=$root/.onnxruntime/linux-$arch
lib=$dir/libonnxruntime.so.$version

case $arch in
amd64)
	npm_path=package/bin/napi-v6/linux/x64/libonnxruntime.so.1
	platform=manylinux_2_28_x86_64
	wheel_sha=fa688e7891a6aa206636fe7372e27ee75fd17713289f6b4fc7b190e0a7de9328
	;;
arm64)
	npm_path=package/bin/napi-v6/linux/arm64/libonnxruntime.so.1
	platform=manylinux_2_28_aarch64
	wheel_sha=6c32a000d5139a38ba9349030b0032e3331acb559d596b22738d9d2b343a2b83
	;;
*)
	echo "fetch ONNX Runtime: no build for $arch; set ONNXRUNTIME_LIB to your own libonnxruntime.so" >&2
	exit 1
	;;
esac
npm_sha=6e3390d6b783e7be946fad629292799da28d0b42f84856e50d2c1b0383291e75

[ -s "$lib" ] && exit 0

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

check() { # FILE SHA256
	echo "$2  $1" | sha256sum --check --quiet || {
		echo "fetch ONNX Runtime: $(basename "$1") is not the pinned file; nothing was installed" >&2
		exit 1
	}
}

if command -v npm >/dev/null; then
	echo "fetching ONNX Runtime $version for linux/$arch (108 MB, once)" >&2
	(cd "$tmp" && npm pack --silent "onnxruntime-node@$version" >/dev/null)
	check "$tmp/onnxruntime-node-$version.tgz" $npm_sha
	tar -xzf "$tmp/onnxruntime-node-$version.tgz" -C "$tmp" "$npm_path"
	found=$tmp/$npm_path
elif command -v python3 >/dev/null; then
	echo "fetching ONNX Runtime $version for linux/$arch (PyPI wheel, once)" >&2
	python3 -m pip download --quiet --no-deps --only-binary=:all: --implementation cp \
		--python-version 3.12 --abi cp312 --platform $platform -d "$tmp" "onnxruntime==$version"
	check "$tmp/onnxruntime-$version-cp312-cp312-$platform.whl" $wheel_sha
	python3 -m zipfile -e "$tmp/onnxruntime-$version-cp312-cp312-$platform.whl" "$tmp/wheel"
	found=$tmp/wheel/onnxruntime/capi/libonnxruntime.so.$version
else
	echo "fetch ONNX Runtime: neither npm nor python3 is here; install one, or set ONNXRUNTIME_LIB" >&2
	exit 1
fi
mkdir -p "$dir"
cp "$found" "$lib.part"
mv "$lib.part" "$lib"
# Whoever looks for a library takes the first, which would be an older one.
find "$dir" -maxdepth 1 -name 'libonnxruntime.so.*' ! -name "$(basename "$lib")" -delete
