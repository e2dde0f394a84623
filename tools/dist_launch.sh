#!/bin/sh
# Starts this machine's share of TOTAL processes of a Python tool with torchrun. Called by dist_train.sh and dist_test.sh.
# Usage: tools/dist_launch.sh TOTAL TOOL [ARGUMENTS]
# Environment: NNODES machines (1), NODE_RANK of this one (0), MASTER_ADDR of machine 0 (127.0.0.1), PORT (a free one; 29500
# on several machines), PYTHON (python), OMP_NUM_THREADS (this machine's cores / its processes).
# It ends with the code of the process that failed first (mmmaskclip/utils/exit_codes.py): 75 after a signal, when
# everything was saved.
set -eu
total=$1
tool=$2
shift 2
nnodes=${NNODES:-1}
python=${PYTHON:-python}
# In a clone the repository, in a wheel what holds .mim, where the package is installed anyway.
export PYTHONPATH="$(cd "$(dirname "$0")/.." && pwd)${PYTHONPATH:+:$PYTHONPATH}"

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
machine=$("$python" -m mmmaskclip.startup.launch_facts)
read -r gpus cores free_port <<EOF
$machine
EOF
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
# Two runs on one machine do not meet; several machines must know the port before.
[ "$nnodes" -gt 1 ] && free_port=29500

# torchrun kills its processes 30 s after a signal, and a checkpoint may take longer. So it runs in a session of its own,
# where neither Ctrl-C nor a supervisor's SIGTERM reaches it, and the signal goes to the processes: each saves, ends with
# 75, and torchrun ends with them.
setsid "$python" -m mmmaskclip.startup.torchrun \
    --nnodes="$nnodes" --node-rank="${NODE_RANK:-0}" --nproc-per-node="$per_node" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-$free_port}" \
    "$(dirname "$0")/$tool" "$@" --launcher pytorch &
torchrun=$!

forward() {
    processes=$(cat /proc/"$torchrun"/task/*/children 2>/dev/null || true)
    # Before it has started any, torchrun itself can go.
    # shellcheck disable=SC2086
    kill "-$1" ${processes:-$torchrun} 2>/dev/null || true
}
trap 'forward TERM' TERM HUP
trap 'forward INT' INT
trap 'forward USR1' USR1
trap 'forward USR2' USR2

# A signal ends the first wait, but not torchrun.
code=0
while :; do
    wait "$torchrun" && code=0 || code=$?
    kill -0 "$torchrun" 2>/dev/null || break
done
exit "$code"
