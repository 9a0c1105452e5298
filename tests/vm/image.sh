#!/bin/sh
# Makes the machine's first and only root: image.sh SAMEPATH KERNEL-DIR WORK-DIR. WORK-DIR/image is what qemu loads.
set -eu

samepath=$1
kernel=$2
work=$3
here=$(dirname "$(realpath "$0")")
root=$work/root
PATH="$PATH:/usr/sbin:/sbin"

# Copies programs to where they are here, with the libraries they are linked with.
programs() {
    for file in "$@"; do
        install -D "$file" "$root$file"
        for library in $(ldd "$file" 2>/dev/null | grep -o '/[^ ]*'); do
            [ -e "$root$library" ] || install -D "$library" "$root$library"
        done
    done
}

# Kernel modules with those they need.
modules() {
    version=$(ls "$kernel/lib/modules")
    depmod -b "$kernel" "$version"
    for name in "$@"; do
        modprobe -d "$kernel" -S "$version" --show-depends "$name" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
    done | sort -u | while read -r file; do
        install -D -m 0644 "$file" "$root/lib/modules/$version/${file##*/}"
    done
    for list in "$kernel/lib/modules/$version"/modules.*; do
        case $list in *.order | *.builtin*) cp "$list" "$root/lib/modules/$version/" ;; esac
    done
    depmod -b "$root" "$version"
}

rm -rf "$root"
mkdir -p "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib" "$root/usr/lib64"
for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$root/$folder"; done
mkdir -p "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/tmp" "$root/vm" "$root/pktgen"
# busybox's own shell and nsenter would take its applets `ip` and `tc` before the programs.
for name in dash nsenter busybox ip tc; do programs "$(command -v $name)"; done
programs /usr/bin/python3 "$samepath"
strip --strip-debug -o "$root/usr/bin/samepath" "$samepath"
rm "$root$(realpath -s "$samepath")"
ln -s dash "$root/bin/sh"
ln -s "$(command -v busybox)" "$root/sbin/modprobe"
library=$(/usr/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
mkdir -p "$root$library"
# Without tests, compilers and graphics: they are half of it, and all of it is memory.
tar -C "$library" --exclude=./test --exclude=./idlelib --exclude=./lib2to3 --exclude='./config-*' --exclude=./tkinter \
    --exclude=./ensurepip --exclude=./pydoc_data --exclude=./dist-packages -cf - . | tar -C "$root$library" -xf -
modules pktgen veth cls_flower cls_matchall act_gact act_police act_mirred sch_ingress
cp "$here/init" "$root/init"
cp "$here/scenario.sh" "$here/check.py" "$root/vm/"
cp "$here/../../benches/pktgen/"*.py "$root/pktgen/"
(cd "$root" && find . | cpio --quiet -o -H newc -R 0:0) >"$work/image"
