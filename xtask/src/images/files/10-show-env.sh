#!/bin/sh
set -eu
echo >&2 "$0: $(id -u) in $(pwd)"
