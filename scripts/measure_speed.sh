#!/usr/bin/env bash
# Speed and memory of the 0.6B and 1.7B sizes with random weights, in bfloat16, int8 and int4, and of
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
folder=$1 threads=${2:-2} large=${3:-}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
cd "$(dirname "$0")/.."
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
export HF_HUB_OFFLINE=1 PYTHONPATH="$PWD/src" OMP_NUM_THREADS=$threads

measure() { "$python" "benchmarks/$1.py" --threads "$threads" "${@:2}"; }

# A checkpoint and its quantized copies. The random one is in the layout that transformers reads.
prepare() {
  local size=$1
  shift
  [ -d "$folder/$size" ] || "$python" scripts/make_random_checkpoint.py "$size" hf "$folder/$size" \
      ${TOKENIZER:+--tokenizer "$TOKENIZER"}
  for dtype in "$@"; do
    [ -d "$folder/$size-$dtype" ] ||
      "$python" benchmarks/quantizing.py "$folder/$size" "$folder/$size-$dtype" --dtype "$dtype"
  done
}

prepare 0.6b int8 int4

echo "== 0.6B, 30 s, ours in three formats and transformers, interleaved"
measure roofline -m "$folder/0.6b" -m "$folder/0.6b-int8" -m "$folder/0.6b-int4" \
  --peers transformers --seconds 30 --tokens 100 --runs 3
echo "== 0.6B, 10 and 60 s"
measure roofline -m "$folder/0.6b-int8" -m "$folder/0.6b-int4" --seconds 10,60 --tokens 50 --runs 3
echo "== 0.6B, batches, drafts and a stream"
measure decoding_speed -m "$folder/0.6b-int8" -m "$folder/0.6b-int4" --seconds 30 --tokens 20 \
  --batch 1,4,16
echo "== 0.6B, cold start and memory"
measure cold_start -m "$folder/0.6b-int8" --seconds 30 --tokens 20 --runs 5

if [ "$large" != --no-large ]; then
  prepare 1.7b int8
  echo "== 1.7B, cold start and memory"
  measure cold_start -m "$folder/1.7b-int8" --seconds 30 --tokens 20 --runs 1
fi
