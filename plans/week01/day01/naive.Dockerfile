# Written as it came to mind. The source goes in first, so that any change of it throws away every layer below;
# each RUN is a layer of its own, and none cleans up after itself.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
COPY . /srv
RUN apt-get update
RUN apt-get install -y python3
RUN apt-get install -y gcc git
RUN apt-get install -y python3-venv
ARG PIP_FIND_LINKS
ARG PIP_NO_INDEX
RUN python3 -m venv /opt/venv
RUN /opt/venv/bin/pip install -r /srv/requirements.txt
CMD ["/opt/venv/bin/python", "/srv/app.py"]
