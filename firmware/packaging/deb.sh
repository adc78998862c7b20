#!/usr/bin/env bash
# Builds the package for amd64 or arm64: deb.sh ARCH [FOLDER], by default bin/.
#
# The same commit makes the same bytes, wherever and whenever it is built with the same
# tools: times are the commit's, owners root, members sorted, paths and build ids left
# out. VERSION=1.2.3 names another version than git does.
#
#	DEBIAN/  control and the scripts of a maintainer, @WORDS@ replaced here
#	root/    what is installed as it is
set -euo pipefail
umask 022
export LC_ALL=C TZ=UTC

arch=$1
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
out=$(realpath -m "${2:-bin}")

case $arch in
amd64) triplet=x86_64-linux-gnu ;;
arm64) triplet=aarch64-linux-gnu ;;
*)
	echo "deb: no package for $arch: amd64 or arm64" >&2
	exit 1
	;;
esac
cc=$triplet-gcc
for tool in "$cc" $triplet-readelf dpkg-deb; do
	command -v "$tool" >/dev/null || {
		echo "deb: no $tool: install gcc, or gcc-aarch64-linux-gnu and libc6-dev-arm64-cross, and dpkg" >&2
		exit 1
	}
done

# 1.2.3 of a tag; 1.2.3+4.gHASH after it; without one 0~git with the commit's time, which
# every release follows. The length of a hash is not left to how many others there are.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
if [ -n "${VERSION:-}" ]; then
	version=$VERSION
elif tag=$(git describe --tags --abbrev=12 --match 'v[0-9]*' --dirty=+dirty 2>/dev/null); then
	version=$(sed 's/^v//; s/-\([0-9]*\)-g/+\1.g/' <<<"$tag")
else
	hash=$(git describe --always --abbrev=12 --exclude '*' --dirty=+dirty)
	version=0~git$(date -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S).$hash
fi

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
root=$stage/root doc=$stage/root/usr/share/doc/limber
cp -r "$here/root" "$root"
mkdir -p "$root/usr/bin" "$root/usr/lib/limber" "$doc" "$root/DEBIAN"

build() { # CGO OUT PACKAGE
	GOOS=linux GOARCH=$arch CGO_ENABLED=$1 CC=$cc go build -trimpath ${4:-} \
		-ldflags "-s -w -buildid= -X main.version=$version${5:+ $5}" -o "$2" "$3"
}
build 1 "$root/usr/bin/limber" ./agent/cmd/limber -buildmode=pie "-extldflags=-Wl,--build-id=none"
build 0 "$root/usr/lib/limber/limber-boot" ./agent/cmd/limber-boot
family/ort/fetch.sh "$arch"
install -m 644 .onnxruntime/linux-"$arch"/libonnxruntime.so.* "$root/usr/lib/limber/"

# Manual pages and completions say the same on every processor: those of this one write them.
go run -trimpath -ldflags "-X main.version=$version" ./agent/cmd/limber manual --out "$stage/manual"
mkdir -p "$root"/usr/share/{man,bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d}
mv "$stage/manual/man" "$root/usr/share/man/man1"
install -m 644 "$stage/manual/completion/limber.bash" "$root/usr/share/bash-completion/completions/limber"
install -m 644 "$stage/manual/completion/_limber" "$root/usr/share/zsh/vendor-completions/"
install -m 644 "$stage/manual/completion/limber.fish" "$root/usr/share/fish/vendor_completions.d/"

install -m 644 "$here/copyright" "$doc/copyright"
module='{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}'
GOOS=linux GOARCH=$arch CGO_ENABLED=1 go list -deps -f "$module" ./agent/cmd/limber | sort -u | while read -r module of dir; do
	printf '%s %s\n\n' "$module" "$of"
	cat "$dir"/LICEN[CS]E* "$dir"/COPYING* "$dir"/NOTICE* 2>/dev/null || true
	printf '\n\n'
done >"$doc/modules"
cat "$(go env GOROOT)/LICENSE" >>"$doc/modules" # of the language's own library
cat >"$doc/changelog" <<END
limber ($version) unstable; urgency=medium

  * $(git log -1 --format=%H)

 -- Limber <limber-edge@users.noreply.github.com>  $(date -R -d "@$SOURCE_DATE_EPOCH")
END
gzip -9n "$doc/modules" "$doc/changelog" "$root"/usr/share/man/man1/*

glibc=$($triplet-readelf -V "$root/usr/bin/limber" "$root"/usr/lib/limber/*.so.* | grep -o 'GLIBC_[0-9.]*' |
	cut -d_ -f2 | sort -Vu | tail -1)
size=$((($(find "$root" -type f -printf '%s\n' | paste -sd+)) / 1024)) # KiB
sed "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@GLIBC@/$glibc/; s/@SIZE@/$size/" "$here/DEBIAN/control" \
	>"$root/DEBIAN/control"
install -m 755 "$here"/DEBIAN/{postinst,prerm,postrm} "$root/DEBIAN/"
install -m 644 "$here/DEBIAN/conffiles" "$root/DEBIAN/"
(cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

mkdir -p "$out"
package=$out/limber_${version}_$arch.deb
DPKG_DEB_THREADS_MAX=1 dpkg-deb -Zxz --root-owner-group --build "$root" "$package.part" >/dev/null
mv "$package.part" "$package" # which is there as a whole or not at all
echo "$package"
