# The service and its command line. Node runs the TypeScript as it is: there is nothing to compile, only Prisma's client
# to generate. Nothing in the image is native code, so it is the same for every architecture but for Node itself.

FROM node:24-bookworm-slim AS base
WORKDIR /app
COPY package.json package-lock.json .npmrc ./

FROM base AS generated
# Optional packages are binaries: Node and Postgres for machines without them, checkers of other platforms.
RUN npm ci --omit=optional --ignore-scripts --no-progress
COPY prisma.config.ts ./
COPY prisma/schema.prisma prisma/
RUN npm run -s db:generate

FROM base AS production
# With `optional` and `peer` left out as well, the Prisma CLI and TypeScript stay away: both are optional peers of Prisma's
# client. No scripts: `prepare` would call that CLI, and no package of production has one.
RUN npm ci --omit=dev --omit=optional --omit=peer --ignore-scripts --no-progress
# Of Prisma's client, the query compilers of other databases (and of other ways to load ours), 3/4 of all bytes;
# then what only compilers and debuggers read. Licences stay.
RUN cd node_modules \
  && find @prisma/client/runtime -type f \( \
    -name '*.cockroachdb.*' -o -name '*.mysql.*' -o -name '*.sqlite.*' -o -name '*.sqlserver.*' \
    -o -name 'query_compiler_small_*' -o -name '*.wasm-base64.js' -o -name 'wasm-compiler-edge.*' \) -delete \
  && find . -type f \( -name '*.map' -o -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' \) -delete \
  && rm -rf @types undici-types zod/src .package-lock.json .bin

FROM node:24-bookworm-slim
# Nothing is installed from here on; and what is not there needs no updates.
RUN rm -rf /usr/local/lib/node_modules /opt/yarn-* \
  /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack /usr/local/bin/yarn /usr/local/bin/yarnpkg
WORKDIR /app
COPY --from=production /app/node_modules node_modules
COPY package.json LICENSE ./
COPY prisma/migrations prisma/migrations
COPY src src
COPY --from=generated /app/src/store/generated src/store/generated
# Calling it once shows that all that it imports is there.
RUN chmod 755 src/cli.ts \
  && ln -s /app/src/cli.ts /usr/local/bin/kommo-sync \
  && install -d -o node -g node -m 700 /data \
  && kommo-sync --help >/dev/null
ENV NODE_ENV=production DATA_DIR=/data
USER node
EXPOSE 3000
# No curl here, and none needed. Every role serves this route; it says that the process lives, not that the database does.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s CMD ["node", "-e", \
  "fetch(`http://127.0.0.1:${process.env.PORT || 3000}/healthz`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
CMD ["kommo-sync", "serve"]

# Last, because they differ from build to build.
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="kommo-sync" \
  org.opencontainers.image.description="Keeps a company's Kommo chats in its own Postgres, whole and current" \
  org.opencontainers.image.licenses="MIT" \
  org.opencontainers.image.version="$VERSION" \
  org.opencontainers.image.revision="$REVISION"
