#!/usr/bin/env bash
# Test and measure all that needs a GPU, in under nine minutes:
#
#   benchmarks/gpu.sh [--wheels FOLDER] [--output FOLDER] [--photos IMAGES CAPTIONS LABELS] [--cpu]
#
# --wheels: where the wheels of benchmarks/gpu_wheels.txt lie that this machine lacks. --output: for JSON files and logs,
# benchmarks/results by default; `python -m benchmarks.tables` puts them into docs/performance.md. --photos: for the
# training throughput, a folder of images, a COCO captions file, and what training.prepare made of it on a machine with
# spaCy. --cpu: the same steps on a CPU with small models, to see that they work. PYTHON and SECONDS_IN_ALL are taken from
# the environment.
#
# What matters most comes first; each step has a limit of its own, and what it found is there even if a later one fails.
set -uo pipefail
here=$PWD
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3} output=benchmarks/results wheels='' photos=() cpu=0

stop() {
  echo "gpu.sh: $1" >&2
  exit 2
}
absolute() { [[ $1 == /* ]] && echo "$1" || echo "$here/$1"; }
while (($#)); do
  case $1 in
    --wheels) [[ -d ${2-} ]] || stop "--wheels ${2-}: expected a folder of wheels"; wheels=$(absolute "$2"); shift 2 ;;
    --output) [[ -n ${2-} ]] || stop "--output: expected a folder"; output=$(absolute "$2"); shift 2 ;;
    --photos) (($# >= 4)) || stop "--photos: expected a folder of images, a captions file and its labels' folder"
      photos=("$(absolute "$2")" "$(absolute "$3")" "$(absolute "$4")"); shift 4 ;;
    --cpu) cpu=1; shift ;;
    *) stop "unknown argument $1: expected --wheels FOLDER, --output FOLDER, --photos IMAGES CAPTIONS LABELS or --cpu" ;;
  esac
done
mkdir -p "$output" || stop "cannot make the folder $output"

slower=$((cpu ? 8 : 1)) # the steps are the same on a CPU, and so are their limits but for this factor
deadline=$((SECONDS + ${SECONDS_IN_ALL:-$((530 * slower))}))
failed=()
step() { # NAME SECONDS COMMAND...: run a command within its limit and what is left, with a log in the output folder
  local name=$1 limit=$(($2 * slower)) left=$((deadline - SECONDS)) begun=$SECONDS status
  shift 2
  if ((left < 10)); then
    echo "== $name: no time left"
    failed+=("$name")
    return
  fi
  timeout --kill-after=5 "$((limit < left ? limit : left))" "$@" >"$output/$name.log" 2>&1
  status=$?
  echo "== $name: status $status after $((SECONDS - begun)) s"
  tail -n 14 "$output/$name.log"
  ((status == 0)) || failed+=("$name")
}

lacking=()
while IFS='#' read -r requirement module; do
  requirement=${requirement//[[:space:]]/} module=${module//[[:space:]]/}
  [[ -n $requirement ]] || continue
  "$python" -c "import sys, importlib.util as u; sys.exit(u.find_spec('$module') is None)" || lacking+=("$requirement")
done <benchmarks/gpu_wheels.txt
if ((${#lacking[@]})); then
  [[ -n $wheels ]] || echo "gpu.sh: not here: ${lacking[*]}; give their wheels with --wheels FOLDER" >&2
  for requirement in ${wheels:+"${lacking[@]}"}; do
    "$python" -m pip install --quiet --no-index --no-deps --find-links "$wheels" "$requirement" ||
      echo "gpu.sh: no wheel of $requirement in $wheels: going on without" >&2
  done
fi

if ((cpu)); then
  device=cpu vit=synseg-tiny repeats=1 labels='[1,2]' many='[2]' marker='not gpu and not slow'
  tests=(tests/synseg_model/engines/test_recordings.py tests/synseg_model/engines/test_label_sizes.py)
else
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | tee "$output/gpu.txt"
  ((PIPESTATUS[0] == 0)) || stop "no NVIDIA GPU here (nvidia-smi failed); --cpu tries the steps without"
  device=cuda vit=ViT-B-16-quickgelu@352 repeats=30 labels='[20,171,1]' many='[20]' marker='gpu and not slow'
  tests=(tests/synseg_model/engines)
fi

segmenter() { # NAME SECONDS MODEL CAMERAS LABELS CONTENDERS...
  local name=$1 limit=$2 model=$3 cameras=$4 counts=$5
  shift 5
  local contenders
  contenders=$(printf ',"%s"' "$@")
  step "$name" "$limit" "$python" -m benchmarks.segmenter "--device=$device" "--model=$model" "--cameras=$cameras" \
    "--labels=$counts" "--contenders=[${contenders:1}]" "--repeats=$repeats" --memory=false --changes=true \
    "--output=$output/$name.json"
}

recorded=("torch, half" "torch, half, CUDA graph")
onnx=("onnxruntime" "onnxruntime, CUDA graph" "onnxruntime, fp16" "onnxruntime, fp16, CUDA graph")
# Tests first: figures of engines that disagree would say nothing.
step gpu_tests 150 "$python" -m pytest -q -m "$marker" -p no:cacheprovider "${tests[@]}"
segmenter gpu_vit_1 80 "$vit" 1 "$labels" "${recorded[@]}"
segmenter gpu_vit_8 60 "$vit" 8 "$many" "${recorded[@]}"
segmenter gpu_everyday_1 70 synseg-everyday 1 '[10,20]' "${recorded[@]}" "${onnx[@]}"
segmenter gpu_everyday_8 70 synseg-everyday 8 '[10,20]' "${recorded[@]}" "${onnx[@]}"
segmenter gpu_vit_1_compiled 80 "$vit" 1 "$many" "torch, half, compiled"
segmenter gpu_vit_8_compiled 80 "$vit" 8 "$many" "torch, half, compiled"
segmenter gpu_everyday_1_compiled 80 synseg-everyday 1 "$many" "torch, half, compiled"
segmenter gpu_everyday_8_compiled 80 synseg-everyday 8 "$many" "torch, half, compiled"
segmenter gpu_tiny_8_onnxruntime 60 synseg-tiny 8 "$many" "onnxruntime"
segmenter gpu_vit_1_clipseg 40 "$vit" 1 "$many" "CLIPSeg, one encoding"
step gpu_engines 80 "$python" -m benchmarks.engines "--device=$device" --model=synseg-everyday --repeats=1 \
  '--engines=["torch","onnxruntime"]' "--output=$output/gpu_engines.json"
if ((${#photos[@]})); then
  step gpu_training 80 "$python" -m benchmarks.training_throughput "--images=${photos[0]}" "--captions=${photos[1]}" \
    "--labels=${photos[2]}" "--batch=$((cpu ? 2 : 64))" "--steps=$((cpu ? 2 : 40))" \
    "--output=$output/gpu_training.json"
fi
if ((!cpu)); then
  step gpu_compile_tests 120 "$python" -m pytest -q -m "gpu and slow" -p no:cacheprovider "${tests[@]}"
fi
echo "gpu.sh: $((SECONDS)) s; JSON and logs are in $output; to be put into the page by: $python -m benchmarks.tables"
if ((${#failed[@]})); then
  echo "gpu.sh: failed or cut short: ${failed[*]}" >&2
  exit 1
fi
