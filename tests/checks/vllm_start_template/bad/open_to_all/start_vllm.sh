#!/usr/bin/env bash
# Start vLLM for production: MODEL=/models/qwen2.5-7b ./start_vllm.sh
# Every limit is a variable; what is given on the command line is handed on to vLLM.
set -euo pipefail

: "${MODEL:?set MODEL to a Hugging Face folder or repository, such as Qwen/Qwen2.5-7B-Instruct}"
export VLLM_NO_USAGE_STATS=1

exec vllm serve "$MODEL" \
  --served-model-name "${NAME:-model}" \
  --host "${HOST:-0.0.0.0}" \
  --port "${PORT:-8000}" \
  --dtype "${DTYPE:-auto}" \
  --max-model-len "${MAX_MODEL_LEN:-8192}" \
  --max-num-seqs "${MAX_NUM_SEQS:-256}" \
  --gpu-memory-utilization "${GPU_MEMORY_UTILIZATION:-0.90}" \
  --tensor-parallel-size "${TENSOR_PARALLEL_SIZE:-1}" \
  "$@"
