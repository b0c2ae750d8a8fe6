# The same image in the order of how seldom things change: system, packages, source. Each layer leaves nothing behind.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc git libc6-dev python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
ARG PIP_FIND_LINKS
ARG PIP_NO_INDEX
COPY requirements.txt /tmp/requirements.txt
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --no-compile -r /tmp/requirements.txt
COPY . /srv
CMD ["/opt/venv/bin/python", "/srv/app.py"]
