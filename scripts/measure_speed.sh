#!/usr/bin/env bash
# Speed and memory of the 0.6B and 1.7B sizes with random weights, in bfloat16, int8 and int4, beside
# transformers in bfloat16; about six minutes on a quiet machine of two cores. Prints tables, and a
# JSON line for each part.
#
#     scripts/measure_speed.sh DIR [THREADS] [--no-large]
#
# With TOKENIZER=DIR in the environment (vocab.json and merges.txt) they have the real vocabulary. DIR
# takes the checkpoints, about 7 GB; those that are there already are used again.
set -euo pipefail
if [ $# -lt 1 ]; then
  sed -n '2,9s/^# \{0,1\}//p' "$0"
  exit 2
fi
place=$1 threads=${2:-2} large=${3:-}
mkdir -p "$place"
place=$(cd "$place" && pwd)
cd "$(dirname "$0")/.."
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
export HF_HUB_OFFLINE=1 PYTHONPATH="$PWD/src" OMP_NUM_THREADS=$threads

speed() { "$python" -m auris benchmark speed --threads "$threads" "$@"; }

# A checkpoint and its quantized copies. The random one is in the layout that transformers reads.
prepare() {
  local size=$1
  shift
  [ -d "$place/$size" ] || "$python" scripts/make_random_checkpoint.py "$size" hf "$place/$size" \
      ${TOKENIZER:+--tokenizer "$TOKENIZER"}
  for dtype in "$@"; do
    [ -d "$place/$size-$dtype" ] ||
      "$python" scripts/measure_quantizing.py "$place/$size" "$place/$size-$dtype" "$dtype"
  done
}

prepare 0.6b int8 int4

echo "== 0.6B, 30 s, ours in three formats and transformers, interleaved"
speed -m "$place/0.6b" -m "$place/0.6b-int8" -m "$place/0.6b-int4" --peers transformers \
  --seconds 30 --tokens 100 --batch '' --runs 3 --parts stages
echo "== 0.6B, 10 and 60 s"
speed -m "$place/0.6b-int8" -m "$place/0.6b-int4" --seconds 10,60 --tokens 50 --runs 3 --parts stages
echo "== 0.6B, batches, drafts and a stream"
speed -m "$place/0.6b-int8" -m "$place/0.6b-int4" --seconds 30 --tokens 20 --batch 1,4,16 \
  --parts decoding
echo "== 0.6B, cold start and memory"
speed -m "$place/0.6b-int8" --seconds 30 --tokens 20 --runs 5 --parts start

if [ "$large" != --no-large ]; then
  prepare 1.7b int8
  echo "== 1.7B, cold start and memory"
  speed -m "$place/1.7b-int8" --seconds 30 --tokens 20 --runs 1 --parts start
fi
