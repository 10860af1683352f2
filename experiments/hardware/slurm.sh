#!/bin/bash
# Any experiment on N machines of a Slurm cluster; from the repository's root, its environment active:
#
#   sbatch --nodes 4 --gpus-per-node 8 experiments/hardware/slurm.sh experiments/finetune/mrpc.yaml [key=value ...]
#
# What stands behind the script is for `nutshell run`; partition, account, --time and --cpus-per-task (of a machine's
# processes together) are options of sbatch, before it. Precision: MIXED_PRECISION=bf16 sbatch ...
# A job that is preempted or nears its time limit saves a checkpoint, queues itself again and goes on from there; with
# sbatch --no-requeue it stays ended, and goes on when the same line is given again.
#SBATCH --job-name=nutshell
#SBATCH --ntasks-per-node=1
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
# SIGTERM comes two minutes before the limit and, as there is no B: before it, to what srun has started.
set -euo pipefail
: "${1:?name an experiment file, such as experiments/finetune/mrpc.yaml}"

machines=$SLURM_JOB_NUM_NODES
gpus=${SLURM_GPUS_ON_NODE:-1} # of each machine, all alike; without any, one process on each
read -r main <<<"$(scontrol show hostnames "$SLURM_JOB_NODELIST")" # the first of them
port=$((10000 + SLURM_JOB_ID % 20000)) # jobs can share a machine; the system hands out higher ports itself
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=90 # seconds that accelerate gives its processes to save; its own are 30

# On each machine: only there is its number known. Slurm tells SIGTERM to this shell, which hands it on, waits, and
# says 143 where accelerate would say 1, as for any failure. A signal also ends a wait, hence the second one.
# shellcheck disable=SC2016  # expanded on the machine
launch='
trap "stopped=143; kill -TERM \$launcher" TERM
accelerate launch --machine_rank "$SLURM_NODEID" "$@" &
launcher=$! code=0
wait $launcher || code=$?
while kill -0 $launcher 2>/dev/null; do code=0; wait $launcher || code=$?; done
[ $code = 0 ] || exit ${stopped:-$code}'

words=("$@")
if [ "${SLURM_RESTART_COUNT:-0}" != 0 ]; then # a second turn goes on, and does not begin anew
  words=()
  for word; do [ "$word" = --force ] || words+=("$word"); done
fi

code=0 # --kill-on-bad-exit: the others would wait for a machine that has failed
srun --kill-on-bad-exit=1 ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} bash -c "$launch" launch \
  --config_file experiments/hardware/multi_node.yaml --num_machines "$machines" --num_processes $((machines * gpus)) \
  --main_process_ip "$main" --main_process_port "$port" --mixed_precision "${MIXED_PRECISION:-no}" \
  -m nutshell run "${words[@]}" || code=$?
if [ $code = 143 ]; then
  scontrol requeue "$SLURM_JOB_ID" || true # refused after --no-requeue
fi
exit $code
