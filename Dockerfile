# The environment of `make env` on Debian, for a user who is not root.
#
#   docker build --tag stillmotion .
#   docker run --rm --interactive --tty --volume stillmotion-memo:/home/stillmotion/.cache/stillmotion stillmotion
#
# `base` has what the README asks for and no environment: .devcontainer makes that in the folder that it opens.
FROM python:3.11-slim-bookworm AS base

# No versions: Debian keeps the latest of a release alone.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 --shell /bin/bash stillmotion \
    && install --directory --owner=stillmotion --group=stillmotion \
       /home/stillmotion/project /home/stillmotion/.cache /home/stillmotion/.cache/stillmotion
USER stillmotion
WORKDIR /home/stillmotion/project


FROM base AS project

# What the environment is made of comes first, so that an edit of the code makes none anew.
COPY --chown=stillmotion:stillmotion Makefile pyproject.toml requirements.lock README.md LICENSE ./
RUN mkdir -p src/stillmotion \
    && touch src/stillmotion/__init__.py \
    && make env \
    && rm -rf "$HOME/.cache/uv" "$HOME/.cache/pip"
COPY --chown=stillmotion:stillmotion . .
RUN touch .venv/.stamp
ENV PATH=/home/stillmotion/project/.venv/bin:$PATH \
    DVC_NO_ANALYTICS=1 \
    OMP_WAIT_POLICY=passive
CMD ["bash"]
