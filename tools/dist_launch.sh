#!/bin/sh
# Starts this machine's share of TOTAL processes of a Python tool with torchrun. Called by dist_train.sh and dist_test.sh.
# Usage: tools/dist_launch.sh TOTAL TOOL [ARGUMENTS]
# Environment: NNODES machines (1), NODE_RANK of this one (0), MASTER_ADDR of machine 0 (127.0.0.1), PORT (29500),
# PYTHON (python), OMP_NUM_THREADS (this machine's cores / its processes).
set -eu
total=$1
tool=$2
shift 2
nnodes=${NNODES:-1}
python=${PYTHON:-python}

case $total in
    '' | *[!0-9]* | 0*)
        echo "error: the number of processes must be a positive number, found '$total'." >&2
        exit 2
        ;;
esac
if [ $((total % nnodes)) -ne 0 ]; then
    echo "error: $total processes cannot be spread evenly over NNODES=$nnodes machines. The number is the total over all machines." >&2
    exit 2
fi
per_node=$((total / nnodes))
if [ "$nnodes" -gt 1 ] && { [ -z "${NODE_RANK:-}" ] || [ -z "${MASTER_ADDR:-}" ]; }; then
    echo "error: NNODES=$nnodes needs NODE_RANK, 0 to $((nnodes - 1)), and MASTER_ADDR, the address of machine 0, on each machine." >&2
    exit 2
fi
machine=$("$python" -c 'import os, torch; print(torch.cuda.device_count(), os.cpu_count())')
gpus=${machine% *}
cores=${machine#* }
if [ "$gpus" -gt 0 ] && [ "$per_node" -gt "$gpus" ]; then
    need=$(((total + gpus - 1) / gpus))
    echo "error: $total processes on NNODES=$nnodes machine(s) are $per_node per machine, but this one has $gpus GPU(s)." >&2
    echo "Start the same command on $need machines, each with its own NODE_RANK:" >&2
    echo "  NNODES=$need NODE_RANK=0..$((need - 1)) MASTER_ADDR=<address of machine 0> $DIST_COMMAND" >&2
    exit 2
fi

# torchrun would set one thread per process, and says so in a warning.
threads=$((cores / per_node))
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}"
export PYTHONPATH="$(cd "$(dirname "$0")/.." && pwd)${PYTHONPATH:+:$PYTHONPATH}"

exec "$python" -m torch.distributed.run \
    --nnodes="$nnodes" --node-rank="${NODE_RANK:-0}" --nproc-per-node="$per_node" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}" \
    "$(dirname "$0")/$tool" "$@" --launcher pytorch
