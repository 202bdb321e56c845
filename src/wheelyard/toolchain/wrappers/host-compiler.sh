#!/bin/sh
# The host compiler behind the compile cache, under its own name: torch takes the first word of
# CXX for the compiler, so "sccache g++" would be asked for its version in vain.
case ${0##*/} in
  *++) compiler=$WHEELYARD_CXX ;;
  *) compiler=$WHEELYARD_CC ;;
esac
# what links takes the libraries of the floor before the system's; on LIBRARY_PATH they came last
if [ -n "${WHEELYARD_FLOOR-}" ]; then
  links=1
  for argument; do
    case $argument in
      -c | -E | -S | -M | -MM | -fsyntax-only | -r | -nostdlib) links= ;;
    esac
  done
  [ -z "$links" ] || set -- "-L$WHEELYARD_FLOOR" "$@"
fi
exec ${WHEELYARD_PROBE:+"${0%/*}/probe/choose"} \
  ${WHEELYARD_BUDGET:+"${0%/*}/budget/admit" host} \
  ${WHEELYARD_COMPILE_CACHE:+"$WHEELYARD_COMPILE_CACHE"} "$compiler" "$@"
