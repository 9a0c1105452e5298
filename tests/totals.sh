#!/bin/sh
# Adds up cargo's "test result" lines of logs.
set -eu
awk '
    /^test result: / {
        for (i = 1; i < NF; i++) {
            word = $(i + 1)
            if (word ~ /^passed/) passed += $i
            if (word ~ /^failed/) failed += $i
            if (word ~ /^ignored/) ignored += $i
        }
        suites++
    }
    /^skipped: / { skipped++ }
    END {
        printf "%d suites: %d passed, %d failed, %d ignored, %d skipped\n", suites, passed, failed, ignored, skipped
        exit (failed > 0 || passed == 0)
    }
' "$@"
