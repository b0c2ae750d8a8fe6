# NumPy and ONNX as Debian packages: the distribution's Python, its versions, its compiled libraries.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 python3-numpy python3-onnx \
 && rm -rf /var/lib/apt/lists/*
