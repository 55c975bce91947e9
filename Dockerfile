# The program nst-jax, for CPUs:
#     docker build -t nst-jax .
#     docker run --rm -v "$PWD:/pictures" --user "$(id -u):$(id -g)" nst-jax stylize photo.jpg painting.jpg
#     docker run --rm -v programs:/tmp/cache --user "$(id -u):$(id -g)" nst-jax warm --size 256
#     docker run --rm -v programs:/tmp/cache -v "$PWD:/pictures" --user "$(id -u):$(id -g)" nst-jax \
#         stylize photo.jpg painting.jpg --size 256 --bucket 256
#     docker run --rm -i nst-jax instant - mosaic -o - < photo.jpg > result.png

FROM python:3.11-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE NOTICE constraints.txt ./
COPY weights weights
COPY nst_jax nst_jax
RUN python -m venv /opt/nst-jax \
 && /opt/nst-jax/bin/pip install --no-cache-dir --constraint constraints.txt .

# Only the installed program: no sources, no cache of pip.
FROM python:3.11-slim
COPY --from=build /opt/nst-jax /opt/nst-jax
RUN useradd --create-home --uid 1000 painter && mkdir /pictures && chown painter /pictures \
 && mkdir --mode=1777 /tmp/cache
# Compiled programs are kept here, also for a user of another number, who has no home in the image. A volume
# at this place keeps them for the next container. It belongs to the first user who writes into it: nobody
# else can read or keep programs there, so each user needs a volume.
ENV XDG_CACHE_HOME=/tmp/cache PATH=/opt/nst-jax/bin:$PATH
USER painter
WORKDIR /pictures
ENTRYPOINT ["/opt/nst-jax/bin/nst-jax"]
CMD ["--help"]
