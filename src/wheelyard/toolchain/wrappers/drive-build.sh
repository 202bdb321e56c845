#!/bin/sh
# The build child: a cache server of its own (inside the sandbox, so that compilers run there
# too), the build frontend, then what the cache did.
if [ -n "${WHEELYARD_SCCACHE-}" ]; then
  "$WHEELYARD_SCCACHE" --start-server >/dev/null 2>"$WHEELYARD_BUILD/sccache.log" || {
    cat "$WHEELYARD_BUILD/sccache.log" >&2
    exit 70
  }
fi
"$@"
status=$?
if [ -n "${WHEELYARD_SCCACHE-}" ]; then
  "$WHEELYARD_SCCACHE" --show-stats --stats-format json >"$WHEELYARD_BUILD/cache.json" 2>/dev/null
  "$WHEELYARD_SCCACHE" --stop-server >/dev/null 2>&1
fi
exit $status
