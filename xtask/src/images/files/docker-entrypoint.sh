#!/bin/sh
# Runs the scripts of /docker-entrypoint.d, then the command.
set -e
for f in /docker-entrypoint.d/*.sh; do
    [ -x "$f" ] && "$f"
done
exec "$@"
