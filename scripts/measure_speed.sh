#!/usr/bin/env bash
# Speed and memory of the 0.6B and 1.7B sizes with random weights, in bfloat16, int8 and int4, and of
# transformers in bfloat16; about six minutes on a quiet machine of two cores, after one for making
# the checkpoints. Prints tables, and as its last line the figures of all parts as JSON.
#
#     scripts/measure_speed.sh DIR [THREADS] [--no-large | --quick]
#
# With TOKENIZER=DIR in the environment (vocab.json and merges.txt) they have the real vocabulary. DIR
# takes the checkpoints, about 7 GB; those that are there already are used again. --no-large leaves the
# 1.7B size out. --quick checks that everything runs, with a small size and clips of two seconds.
set -euo pipefail
if [ $# -lt 1 ]; then
  sed -n '2,11s/^# \{0,1\}//p' "$0"
  exit 2
fi
folder=$1 threads=${2:-2} mode=${3:-}
case $mode in
  "" | --no-large) size=0.6b clip=30 clips=10,60 tokens=100 some=50 few=20 runs=3 starts=5 batch=1,4,16 ;;
  --quick) size=small clip=2 clips=1,2 tokens=4 some=3 few=3 runs=1 starts=1 batch=1,2 ;;
  *) echo "the last argument is --no-large or --quick, not $mode" >&2; exit 2 ;;
esac
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
cd "$(dirname "$0")/.."
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
export HF_HUB_OFFLINE=1 PYTHONPATH="$PWD/src" OMP_NUM_THREADS=$threads
output=$(mktemp) figures=""
trap 'rm -f "$output"' EXIT

# Runs a benchmark; its last line, JSON, becomes the figures of a part.
measure() {
  local part=$1 benchmark=$2
  "$python" "benchmarks/$benchmark.py" --threads "$threads" "${@:3}" | tee "$output"
  figures+="${figures:+, }\"$part\": $(tail -n 1 "$output")"
}

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

prepare "$size" int8 int4
packed=(-m "$folder/$size-int8" -m "$folder/$size-int4")

echo "== $size, $clip s, ours in three formats and transformers, interleaved"
measure stages roofline -m "$folder/$size" "${packed[@]}" --peers transformers --seconds "$clip" \
  --tokens "$tokens" --runs "$runs"
echo "== $size, $clips s"
measure lengths roofline "${packed[@]}" --seconds "$clips" --tokens "$some" --runs "$runs"
echo "== $size, batches, drafts and a stream"
measure decoding decoding_speed "${packed[@]}" --seconds "$clip" --tokens "$few" --batch "$batch"
echo "== $size, cold start and memory"
measure start cold_start -m "$folder/$size-int8" --seconds "$clip" --tokens "$few" --runs "$starts"

if [ -z "$mode" ]; then
  prepare 1.7b int8
  echo "== 1.7b, cold start and memory"
  measure large_start cold_start -m "$folder/1.7b-int8" --seconds 30 --tokens 20 --runs 1
fi
echo "{$figures}"
