#!/bin/sh
# The host compiler behind the compile cache, under its own name: torch takes the first word of
# CXX for the compiler, so "sccache g++" would be asked for its version in vain.
case ${0##*/} in
  *++) compiler=$WHEELYARD_CXX ;;
  *) compiler=$WHEELYARD_CC ;;
esac
exec ${WHEELYARD_PROBE:+"${0%/*}/probe/choose"} \
  ${WHEELYARD_BUDGET:+"${0%/*}/budget/admit" host} \
  ${WHEELYARD_COMPILE_CACHE:+"$WHEELYARD_COMPILE_CACHE"} "$compiler" "$@"
