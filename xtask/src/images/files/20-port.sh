#!/bin/sh
# NGINX_PORT: the port to listen on, where the network is shared with others.
set -eu
[ "${NGINX_PORT:=80}" = 80 ] ||
    sed -i "s/listen [0-9]*/listen $NGINX_PORT/" /etc/nginx/conf.d/default.conf
