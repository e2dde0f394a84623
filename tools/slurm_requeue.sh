#!/bin/sh
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
# Trains on a Slurm cluster that takes the machines back: five minutes before the end every process gets SIGUSR1, saves
# and ends with 75, and the job is put into the queue again, where it goes on from that checkpoint.
# Usage: sbatch --partition=P --nodes=4 --ntasks-per-node=8 --gres=gpu:8 --time=24:00:00 tools/slurm_requeue.sh CONFIG WORK_DIR [arguments of tools/train.py]
# Environment: PYTHON (python). To be started in the repository, because Slurm runs a copy of this file.
set -u
if [ $# -lt 2 ]; then
    sed -n '7s/^# //p' "$0" >&2
    exit 2
fi
config=$1
work_dir=$2
shift 2
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

# Every process ends by itself, after the first has written the checkpoint; clusters may have it otherwise, and a killed
# process would hide the 75.
srun --kill-on-bad-exit=0 "${PYTHON:-python}" -u tools/train.py "$config" --work-dir "$work_dir" --resume auto --launcher slurm "$@"
code=$?
if [ "$code" -eq 75 ]; then
    if scontrol requeue "$SLURM_JOB_ID"; then
        exit 0
    fi
    echo "error: saved in $work_dir, but job $SLURM_JOB_ID could not be queued again: submit the same command once more." >&2
fi
exit "$code"
