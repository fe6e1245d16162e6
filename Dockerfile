# recamlabel in a container, on the CPU or on an NVIDIA GPU:
#   docker build -t recamlabel .
#   docker build -t recamlabel:cuda --build-arg DEVICE=cuda .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" recamlabel fit photos --out run
#   docker run --rm --gpus all --shm-size 2g --user "$(id -u):$(id -g)" -v "$PWD:/work" recamlabel:cuda fit photos --out run
ARG DEVICE=cpu

FROM python:3.12-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY recamlabel recamlabel
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

# PyTorch without CUDA is a tenth as large. Its version (2.x+cpu) is above that of PyPI, so that pip takes it.
FROM python:3.12-slim-bookworm AS cpu
ENV TORCH_INDEX=https://download.pytorch.org/whl/cpu

# PyTorch from PyPI brings the CUDA libraries; of the machine it needs the driver alone (--gpus all).
FROM nvidia/cuda:12.8.1-base-ubuntu24.04 AS cuda
ENV TORCH_INDEX=https://pypi.org/simple
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

# hadolint ignore=DL3006
FROM ${DEVICE}
ENV PATH=/opt/recamlabel/bin:$PATH PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=PASSIVE \
    MPLCONFIGDIR=/tmp/matplotlib XDG_CACHE_HOME=/tmp/cache HF_HOME=/tmp/cache/huggingface
COPY constraints.txt /tmp/constraints.txt
RUN python3 -m venv /opt/recamlabel \
    && /opt/recamlabel/bin/pip install --no-cache-dir --constraint /tmp/constraints.txt \
        --extra-index-url "$TORCH_INDEX" torch torchvision
COPY --from=wheel /dist /tmp/dist
# What exporting to coco and yolo needs is small, and often wanted.
RUN set -- /tmp/dist/*.whl \
    && /opt/recamlabel/bin/pip install --no-cache-dir --constraint /tmp/constraints.txt "$1[export]" \
    && rm -r /tmp/dist \
    && useradd --create-home --uid 10001 recamlabel \
    && mkdir /work \
    && chown 10001 /work
USER 10001
WORKDIR /work
ENTRYPOINT ["recamlabel"]
CMD ["--help"]
