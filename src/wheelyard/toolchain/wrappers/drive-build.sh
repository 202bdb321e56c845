#!/bin/sh
# The build child: a cache server of its own (inside the sandbox, so that compilers run there
# too), the build frontend, then what the cache did. The server is a child that is waited for, so
# that the time of the compilers it starts is counted.
start_server() {
  # its log names every object with its key, and whether it was found
  SCCACHE_LOG=sccache::compiler::compiler=debug SCCACHE_START_SERVER=1 SCCACHE_NO_DAEMON=1 \
    "$WHEELYARD_COMPILE_CACHE" >"$WHEELYARD_BUILD/sccache.log" 2>&1 &
  server=$!
  while [ ! -S "$SCCACHE_SERVER_UDS" ]; do
    if ! kill -0 "$server" 2>/dev/null; then
      echo "The compile cache did not start:" >&2
      cat "$WHEELYARD_BUILD/sccache.log" >&2
      exit 70
    fi
    sleep 0.02
  done
}

# nvcc of CUDA 12.4 has no such option: what it compiles differs from run to run
if [ -z "${WHEELYARD_FRESH-}" ]; then
  "${CUDA_HOME-}/bin/nvcc" --help 2>/dev/null | grep -q -e -frandom-seed || export WHEELYARD_NO_SEED=1
fi
if [ -n "${WHEELYARD_COMPILE_CACHE-}" ]; then
  # from here on the budget counts what others make as unknown to this server
  [ -z "${WHEELYARD_BUDGET-}" ] || "${0%/*}/budget/admit" begin true || exit
  [ -z "${WHEELYARD_CACHE_SERVER-}" ] || start_server
fi
"$@"
status=$?
if [ -n "${server-}" ]; then
  "$WHEELYARD_COMPILE_CACHE" --show-stats --stats-format json >"$WHEELYARD_BUILD/cache.json" 2>/dev/null
  "$WHEELYARD_COMPILE_CACHE" --stop-server >/dev/null 2>&1
  wait "$server"
fi
times >"$WHEELYARD_BUILD/times"
exit $status
