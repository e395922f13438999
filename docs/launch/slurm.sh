#!/bin/bash
#SBATCH --job-name=spg
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --output=spg-%j.out

# The environment that the README's first command makes, on a disk that all nodes share.
source .venv/bin/activate
export FIRST_NODE=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=8
# Compute nodes without a network read the model from the Hub's cache. Fill it once on a node that has a network:
#   hf download GSAI-ML/LLaDA-8B-Instruct
# Then remove the # before the next line.
# export HF_HUB_OFFLINE=1

# Since Slurm 22.05, srun no longer takes --cpus-per-task from the lines above.
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" torchrun --nnodes "$SLURM_NNODES" --nproc-per-node 8 --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "$FIRST_NODE:29500" -m spg_trainer --env sudoku --model GSAI-ML/LLaDA-8B-Instruct --output-dir runs/llada --save-steps 20 --resume auto
