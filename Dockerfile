# The web pages, the daemon, and runs on a CPU. Mount the project's constitutions/ and data/; see compose.yaml.
FROM python:3.11-slim
RUN useradd --create-home cai
WORKDIR /home/cai/project
COPY --chown=cai pyproject.toml README.md LICENSE ./
COPY --chown=cai cai_assets ./cai_assets
COPY --chown=cai constitutions ./constitutions
COPY --chown=cai deploy ./deploy
ARG EXTRAS=postgres,export
RUN pip install --no-cache-dir ".[${EXTRAS}]"
COPY --chown=cai workspace.yaml ./
COPY --chown=cai dagster_home/dagster.yaml ./dagster_home/dagster.yaml
USER cai
ENV DAGSTER_HOME=/home/cai/project/dagster_home
CMD ["cai", "ui"]
