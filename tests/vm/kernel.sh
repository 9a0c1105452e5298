#!/bin/sh
# Debian 12's stock kernel, downloaded and unpacked, not installed: kernel.sh DIR. Prints the folder it is in.
set -eu

dir=$1
meta=linux-image-cloud-amd64
package=$(apt-cache depends "$meta" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-6\.1\.[^ ]*\)$/\1/p' | head -n 1)
if [ -z "$package" ]; then
    echo "kernel.sh: apt knows no $meta with Linux 6.1: it takes Debian 12's package lists; run \`apt-get update\`" >&2
    exit 1
fi
version=$(apt-cache show "$package" | sed -n 's/^Version: //p' | head -n 1)
unpacked=$dir/$package-$version
if [ ! -e "$unpacked" ]; then
    rm -rf "$unpacked.new"
    mkdir -p "$unpacked.new"
    # Its download belongs to the caller, as its folder does: apt's own user could not write there.
    (cd "$unpacked.new" && apt-get -q -o APT::Sandbox::User=root download "$package" >&2) || {
        echo "kernel.sh: $package $version cannot be downloaded; run \`apt-get update\` if the lists are old" >&2
        exit 1
    }
    dpkg-deb -x "$unpacked.new"/*.deb "$unpacked.new"
    rm "$unpacked.new"/*.deb
    mv "$unpacked.new" "$unpacked"
fi
echo "$unpacked"
