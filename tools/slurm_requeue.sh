#!/bin/sh
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
# Trains on a Slurm cluster that takes the machines back: five minutes before the end every process gets SIGUSR1, saves
# and ends with 75, and the job is put into the queue again, where it continues from that checkpoint. A run that failed
# (a process that died or hung) is queued again too, TRIES times without a new checkpoint.
# Usage: sbatch --partition=P --nodes=4 --ntasks-per-node=8 --gres=gpu:8 --cpus-per-task=10 --time=24:00:00 tools/slurm_requeue.sh CONFIG WORK_DIR [arguments of tools/train.py]
# Environment: PYTHON (python), TRIES (3). To be started in the repository, because Slurm runs a copy of this file.
set -u
if [ $# -lt 2 ]; then
    sed -n '8s/^# //p' "$0" >&2
    exit 2
fi
config=$1
work_dir=$2
shift 2
python=${PYTHON:-python}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
# Jobs on one node do not meet on a port.
export MASTER_PORT="${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 20000))}"

# Without --cpus-per-task a process has one CPU, and where memory follows CPUs, one CPU's memory.
needed=$("$python" -m mmmaskclip.cli.cpus "$config" "$@") || exit 2
cpus=${SLURM_CPUS_PER_TASK:-$((${SLURM_CPUS_ON_NODE:-1} / ${SLURM_NTASKS_PER_NODE:-1}))}
if [ "$cpus" -lt $((needed / 2)) ]; then
    echo "error: $cpus CPU(s) per process are too few for the data workers of $config: submit with --cpus-per-task=$needed." >&2
    exit 2
fi

# srun no longer takes the number from the job. Every process ends by itself, after the first has written the checkpoint;
# killed at once, their codes would hide the 75. One that does not end is killed after two minutes.
srun --cpus-per-task="$cpus" --kill-on-bad-exit=0 --wait=120 "$python" -u tools/train.py "$config" --work-dir "$work_dir" --resume auto --launcher slurm "$@"
code=$?
case $code in
    0 | 2) exit "$code" ;; # done, or a mistake in the config or the command line
    75) again="saved in $work_dir" ;;
    *)
        case $code in
            69) why=' (a machine or its GPU cannot be used; the error names it)' ;;
            76) why=" (it hung; see $work_dir/hang_rank*.txt)" ;;
            # The highest code of all processes: it hides that of the process which died first.
            77) why=' (a process has died; look for the first error in the log)' ;;
            *) why= ;;
        esac
        # The count begins anew with each new checkpoint.
        newest=$(cat "$work_dir/last_checkpoint" 2>/dev/null || echo none)
        read -r tried at 2>/dev/null <"$work_dir/failed_tries" || tried=0 at=
        [ "$at" = "$newest" ] || tried=0
        tried=$((tried + 1))
        mkdir -p "$work_dir" && echo "$tried $newest" >"$work_dir/failed_tries"
        if [ "$tried" -ge "${TRIES:-3}" ]; then
            echo "error: $tried tries from checkpoint $newest ended with an error, the last with $code$why: not queued again." >&2
            exit "$code"
        fi
        again="failed with $code$why, try $tried of ${TRIES:-3} from checkpoint $newest"
        ;;
esac
echo "$again: job $SLURM_JOB_ID is queued again."
if ! scontrol requeue "$SLURM_JOB_ID"; then
    echo "error: $again, but job $SLURM_JOB_ID could not be queued again: submit the same command once more." >&2
    exit "$code"
fi
