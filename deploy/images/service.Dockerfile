# The service with the champion from models/champion. The image has the same content as the Bento.
#   docker build -f deploy/images/service.Dockerfile -t nervemask:0.2.0 .
#   docker build -f deploy/images/service.Dockerfile -t nervemask-gpu:0.2.0 --build-arg LOCK=deploy/requirements-gpu.txt .
ARG PYTHON=python:3.11.13-slim-bookworm@sha256:86adf8dbadc3d6e82ee5dd2c74bec2e1c2467cdad47886280501df722372d2e1

FROM ${PYTHON} AS packages
ARG LOCK=deploy/requirements.txt
COPY ${LOCK} /requirements.txt
# Only wheels, so that the image needs no compiler.
RUN python -m venv /nervemask/packages \
    && /nervemask/packages/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r /requirements.txt \
    && /nervemask/packages/bin/pip uninstall --yes pip setuptools

FROM ${PYTHON}
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin nervemask
COPY --from=packages /nervemask/packages /nervemask/packages
WORKDIR /nervemask
COPY service service
COPY models/champion models/champion
ENV PATH=/nervemask/packages/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    BENTOML_HOME=/tmp/bentoml \
    BENTOML_DO_NOT_TRACK=True \
    HOME=/nervemask
USER 10001:10001
EXPOSE 3000
ENTRYPOINT ["python", "-m", "service"]
CMD ["--host", "0.0.0.0"]
