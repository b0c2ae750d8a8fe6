# NumPy and ONNX from a conda channel: a Python of its own, put there by micromamba, a single static binary.
ARG BASE=debian:bookworm-slim
FROM ${BASE} AS fetch
ARG CHANNEL=https://conda.anaconda.org/conda-forge
RUN apt-get update \
 && apt-get install -y --no-install-recommends bzip2 ca-certificates curl \
 && curl -fsSL https://micro.mamba.pm/api/micromamba/linux-64/latest | tar -xj -C /usr/local bin/micromamba
RUN micromamba create --yes --root-prefix /opt/mamba --prefix /opt/conda --channel ${CHANNEL} python=3.11 numpy onnx \
 && rm -rf /opt/mamba/pkgs

FROM ${BASE}
ENV PATH=/opt/conda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
COPY --from=fetch /opt/conda /opt/conda
