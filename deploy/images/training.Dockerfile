# The training pipeline and the MLflow server. Mount a checkout of the project as the working directory:
#   docker build -f deploy/images/training.Dockerfile -t nervemask-training:0.2.0 .
#   docker run --rm --read-only --tmpfs /tmp --user "$(id -u):$(id -g)" -v "$PWD:/project" nervemask-training:0.2.0 \
#     dvc repro package
ARG PYTHON=python:3.11.13-slim-bookworm@sha256:86adf8dbadc3d6e82ee5dd2c74bec2e1c2467cdad47886280501df722372d2e1

FROM ${PYTHON} AS packages
COPY deploy/requirements-training.txt /requirements.txt
# Only wheels, so that the image needs no compiler. antlr4's runtime has no wheel, but it is pure Python.
RUN python -m venv /packages \
    && /packages/bin/pip install --no-cache-dir --require-hashes --only-binary :all: \
       --no-binary antlr4-python3-runtime -r /requirements.txt

FROM ${PYTHON}
# DVC and the tags of MLflow runs need git to read the commit.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory /project \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin nervemask
COPY --from=packages /packages /packages
ENV PATH=/packages/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    DVC_NO_ANALYTICS=1 \
    TF_CPP_MIN_LOG_LEVEL=2 \
    HOME=/tmp
WORKDIR /project
USER 10001:10001
CMD ["dvc", "repro", "package"]
