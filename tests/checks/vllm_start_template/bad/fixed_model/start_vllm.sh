#!/usr/bin/env bash
set -eu
exec vllm serve /models/theirs --host 127.0.0.1 --port "${PORT:-8000}" --max-model-len "${MAX_MODEL_LEN:-8192}" --gpu-memory-utilization "${GPU_MEMORY_UTILIZATION:-0.9}" --tensor-parallel-size 1
