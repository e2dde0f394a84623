#!/bin/sh
# Evaluates in several processes: one per GPU, or any number on a machine without GPUs (gloo).
# Usage: [NNODES=... NODE_RANK=... MASTER_ADDR=... PORT=...] tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]
# GPUS is the total over all machines: start it on each of the NNODES machines with its own NODE_RANK.
set -eu
if [ $# -lt 3 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
config=$1
checkpoint=$2
gpus=$3
shift 3
DIST_COMMAND="tools/dist_test.sh $config $checkpoint $gpus $*" \
    exec "$(dirname "$0")/dist_launch.sh" "$gpus" test.py "$config" "$checkpoint" "$@"
