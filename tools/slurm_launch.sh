#!/bin/sh
# Runs a Python tool on a Slurm cluster, one process per GPU. Called by slurm_train.sh and slurm_test.sh.
# Usage: tools/slurm_launch.sh PARTITION JOB_NAME TOOL [ARGUMENTS]
# Environment: GPUS in total (8), GPUS_PER_NODE (8, or GPUS if that is less), CPUS_PER_TASK (5), SRUN_ARGS (further
# arguments of srun), PYTHON (python).
set -eu
partition=$1
job_name=$2
tool=$3
shift 3
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
export PYTHONPATH="$(cd "$(dirname "$0")/.." && pwd)${PYTHONPATH:+:$PYTHONPATH}"

# SRUN_ARGS unquoted: it is a list of arguments.
exec srun --partition="$partition" --job-name="$job_name" --gres="gpu:$per_node" --ntasks="$gpus" \
    --ntasks-per-node="$per_node" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$(dirname "$0")/$tool" "$@" --launcher slurm
