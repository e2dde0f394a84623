#!/bin/sh
# Trains in several processes: one per GPU, or any number on a machine without GPUs (gloo).
# Usage: [NNODES=4 NODE_RANK=0 MASTER_ADDR=host PORT=29500] tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
# GPUS is the total over all machines: start it on each of the NNODES machines with its own NODE_RANK.
set -eu
if [ $# -lt 2 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
config=$1
gpus=$2
shift 2
DIST_COMMAND="tools/dist_train.sh $config $gpus $*" exec "$(dirname "$0")/dist_launch.sh" "$gpus" train.py "$config" "$@"
