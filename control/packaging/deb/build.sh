#!/bin/sh
# Makes a Debian package of a built program: build.sh TARGET-DIR. The package is TARGET-DIR/deb/samepath_VERSION_ARCH.deb.
#
# dpkg-deb and dpkg-shlibdeps do it all: nothing has to be built for packaging, and the libraries the program needs are
# found by Debian's own tool.
set -eu

target=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
top=$(realpath "$here/../../..")
program=$target/release/samepath
work=$target/deb
root=$work/root
[ -x "$program" ] || { echo "$program is not there: run \`make build\` first" >&2; exit 1; }

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$top/Cargo.toml")
arch=$(dpkg --print-architecture)
# Files get the time of the last commit, so that the same sources make the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$top" log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

rm -rf "$root"
mkdir -p "$root/DEBIAN" "$root/usr/bin" "$root/usr/share/man/man1" "$root/usr/share/doc/samepath/examples"
install -m 0755 "$program" "$root/usr/bin/samepath"
# Names of functions stay, for what a crash says; lines of the sources do not.
strip --strip-debug "$root/usr/bin/samepath"

install -D -m 0644 "$here/../samepath@.service" "$root/lib/systemd/system/samepath@.service"
install -D -m 0644 "$here/../samepath.sysusers" "$root/usr/lib/sysusers.d/samepath.conf"
install -m 0644 "$here/../node1.toml" "$root/usr/share/doc/samepath/examples/node1.toml"
install -d -m 0750 "$root/etc/samepath"

"$program" manpages "$root/usr/share/man/man1"
gzip -9n "$root"/usr/share/man/man1/*
completion() {
    mkdir -p "$root/$(dirname "$2")"
    "$program" completions "$1" >"$root/$2"
}
completion bash usr/share/bash-completion/completions/samepath
completion zsh usr/share/zsh/vendor-completions/_samepath
completion fish usr/share/fish/vendor_completions.d/samepath.fish

doc=$root/usr/share/doc/samepath
cp -r "$top/README.md" "$top/docs" "$doc/"
{
    printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: samepath\n\n'
    printf 'Files: *\nCopyright: the samepath authors\nLicense: MIT or Apache-2.0\n'
    sed 's/^$/./; s/^/ /' "$top/LICENSE"
} >"$doc/copyright"
printf 'samepath (%s) unstable; urgency=medium\n\n  * See README.md.\n\n -- samepath <root@localhost>  %s\n' \
    "$version" "$(date -uRd "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$doc/changelog.gz"

for script in postinst prerm postrm; do
    install -m 0755 "$here/$script" "$root/DEBIAN/$script"
done
# dpkg-shlibdeps wants a source package around it.
mkdir -p "$work/debian"
: >"$work/debian/control"
libraries=$(cd "$work" && dpkg-shlibdeps -O "$root/usr/bin/samepath" 2>"$work/shlibdeps.log" | sed 's/^shlibs:Depends=//')
[ -n "$libraries" ] || { cat "$work/shlibdeps.log" >&2; exit 1; }
size=$(du -sk --exclude=DEBIAN "$root" | cut -f1)
sed -e "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@SIZE@/$size/; s/@LIBRARIES@/$libraries/" "$here/control.in" \
    >"$root/DEBIAN/control"
(cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\n' | sort | xargs -d '\n' md5sum) >"$root/DEBIAN/md5sums"
find "$root" -type d ! -path "$root/etc/samepath" -exec chmod 0755 {} +
find "$root/usr/share" -type f -exec chmod 0644 {} +

package=$work/samepath_${version}_$arch.deb
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" >/dev/null
echo "$package"
