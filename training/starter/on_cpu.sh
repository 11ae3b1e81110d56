#!/bin/sh
# The whole training on two CPU cores, about MINUTES + 30 minutes where they have AMX. Killed at any time, it goes
# on when run again. For another plan, see README.md.
set -eu
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-.venv/bin/python}
MINUTES=${MINUTES:-92}
# Threads that wait for each other sleep soon, so that two processes can share two cores.
export GOMP_SPINCOUNT=20000

test -d training/starter/.cache/fluent-emoji-flat || sh training/starter/fetch.sh
$PYTHON -m training.starter.render --count 20000 --eval-count 600
$PYTHON -m training.starter.train_text --threads 2 --minutes 11 --lr 1.5e-3 --batch 64
OMP_NUM_THREADS=1 $PYTHON -m torch.distributed.run --standalone --nproc-per-node 2 \
    -m training.starter.train --threads 1 --minutes "$MINUTES" --batch 20 --lr 2e-3
$PYTHON -m training.starter.train_vae --threads 2 --minutes 13 --batch 16
$PYTHON -m training.starter.export --target training/starter/.cache/starter
