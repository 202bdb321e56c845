#!/bin/sh
# A cache server reads what is in the compile cache when it starts: what another build puts there
# later it never finds. So a compile that was made elsewhere meanwhile gets a server of its own.
[ -n "${WHEELYARD_CACHE_SERVER-}" ] || exec "$@"
tools=${0%/*}/..
WHEELYARD_BUILD=$WHEELYARD_BUILD/fresh/$$
SCCACHE_SERVER_UDS=$WHEELYARD_BUILD/s
export WHEELYARD_BUILD SCCACHE_SERVER_UDS WHEELYARD_FRESH=1
mkdir -p "$WHEELYARD_BUILD"
exec "$tools/drive-build" "$@"
