#!/bin/sh
# Boots Debian 12's stock kernel in an emulated machine and lets the real pktgen send through two nodes there:
# run.sh SAMEPATH WORK-DIR. Lines `ok` and `FAILED`; ends with 0 if all is well.
set -eu

samepath=$(realpath "$1")
mkdir -p "$2"
work=$(realpath "$2")
here=$(dirname "$(realpath "$0")")
# It takes two minutes on two idle cores; a machine that hangs must not wait for ever.
deadline=${VM_DEADLINE:-290}

kernel=$("$here/kernel.sh" "$work/kernel")
"$here/image.sh" "$samepath" "$kernel" "$work"
console=$work/console.log
: >"$console"
# A reset ends it (-no-reboot): the machine's last word, and what a panic leads to.
timeout --foreground --kill-after=5 "$deadline" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 2048 \
    -kernel "$kernel"/boot/vmlinuz-* -initrd "$work/image" \
    -append "console=ttyS0 quiet panic=-1 tsc=reliable mitigations=off nokaslr random.trust_cpu=on" \
    -nodefaults -no-reboot -display none -serial stdio </dev/null | sed -u 's/\r//g' | tee "$console" || true

case $(grep '^vm: ended with ' "$console" | tail -n 1) in
"vm: ended with 0") ;;
"vm: ended with "?*) exit 1 ;;
*)
    echo "FAILED: the machine did not come to its end within $deadline s; its console is in $console" >&2
    exit 1
    ;;
esac
