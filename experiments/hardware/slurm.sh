#!/bin/bash
# Any experiment on several machines of a Slurm cluster. From the repository's root, with its environment active:
#
#   sbatch --nodes 4 --gpus-per-node 8 experiments/hardware/slurm.sh experiments/finetune/mrpc.yaml [key=value ...]
#
# What follows the script is for `nutshell run`. Partition, account, --time and --cpus-per-task (for all processes of a
# machine together) are options of sbatch, before the script. Precision: MIXED_PRECISION=bf16 sbatch ...
# A job that is preempted or near its time limit saves a checkpoint, queues itself again and resumes. With
# sbatch --no-requeue it stays ended, and resumes when the same line is given again.
#SBATCH --job-name=nutshell
#SBATCH --ntasks-per-node=1
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
# SIGTERM comes two minutes before the limit. Without B: in --signal it goes to what srun started, not to this script.
set -euo pipefail
: "${1:?name an experiment file, such as experiments/finetune/mrpc.yaml}"

machines=$SLURM_JOB_NUM_NODES
gpus=${SLURM_GPUS_ON_NODE:-1} # of each machine, the same on all; without GPUs one process on each
read -r main <<<"$(scontrol show hostnames "$SLURM_JOB_NODELIST")" # the first of them
port=$((10000 + SLURM_JOB_ID % 20000)) # jobs can share a machine; the system hands out higher ports itself
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=90 # seconds that accelerate gives its processes to save; its own are 30

# This runs on each machine, because only there the machine's number is known. Slurm sends SIGTERM to this shell, which
# passes it on, waits, and ends with 143 where accelerate would end with 1, as for any failure. A signal also ends a
# `wait`, so there is a second one.
# shellcheck disable=SC2016  # expanded on the machine
launch='
trap "stopped=143; kill -TERM \$launcher" TERM
accelerate launch --machine_rank "$SLURM_NODEID" "$@" &
launcher=$! code=0
wait $launcher || code=$?
while kill -0 $launcher 2>/dev/null; do code=0; wait $launcher || code=$?; done
[ $code = 0 ] || exit ${stopped:-$code}'

words=("$@")
if [ "${SLURM_RESTART_COUNT:-0}" != 0 ]; then # a job that was queued again resumes: without --force
  words=()
  for word; do [ "$word" = --force ] || words+=("$word"); done
fi

code=0 # --kill-on-bad-exit, because the others would wait for a machine that has failed
srun --kill-on-bad-exit=1 ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} bash -c "$launch" launch \
  --config_file experiments/hardware/multi_node.yaml --num_machines "$machines" --num_processes $((machines * gpus)) \
  --main_process_ip "$main" --main_process_port "$port" --mixed_precision "${MIXED_PRECISION:-no}" \
  -m nutshell run "${words[@]}" || code=$?
if [ $code = 143 ]; then
  scontrol requeue "$SLURM_JOB_ID" || true # refused after --no-requeue
fi
exit $code
