#!/bin/sh
# Trains on a Slurm cluster.
# Usage: [GPUS=32 GPUS_PER_NODE=8 CPUS_PER_TASK=10 SRUN_ARGS=...] tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py]
set -eu
if [ $# -lt 4 ]; then
    sed -n '2,3s/^# //p' "$0" >&2
    exit 2
fi
partition=$1
job_name=$2
config=$3
work_dir=$4
shift 4
exec "$(dirname "$0")/slurm_launch.sh" "$partition" "$job_name" train.py "$config" --work-dir "$work_dir" "$@"
