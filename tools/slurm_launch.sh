#!/bin/sh
# Runs a Python tool on a Slurm cluster, one process per GPU. Called by slurm_train.sh and slurm_test.sh.
# Usage: tools/slurm_launch.sh PARTITION JOB_NAME TOOL CONFIG [ARGUMENTS]
# Environment: GPUS in total (8), GPUS_PER_NODE (8, or GPUS if that is less), CPUS_PER_TASK (the config's data workers and
# two), SRUN_ARGS (further arguments of srun), PYTHON (python), MASTER_PORT (from the job's number).
set -eu
partition=$1
job_name=$2
tool=$3
config=$4
shift 4
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
python=${PYTHON:-python}
export PYTHONPATH="$(cd "$(dirname "$0")/.." && pwd)${PYTHONPATH:+:$PYTHONPATH}"
cpus=${CPUS_PER_TASK:-$("$python" -m mmmaskclip.cli.cpus "$config" "$@")}

# SRUN_ARGS unquoted: it is a list of arguments.
exec srun --partition="$partition" --job-name="$job_name" --gres="gpu:$per_node" --ntasks="$gpus" \
    --ntasks-per-node="$per_node" --cpus-per-task="$cpus" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "$python" -u "$(dirname "$0")/$tool" "$config" "$@" --launcher slurm
