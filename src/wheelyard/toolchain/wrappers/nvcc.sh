#!/bin/sh
# nvcc puts a random number into the names of file-local symbols: without a seed of its own for
# every source nothing is reproducible and no cubin is shared between torch builds. -lineinfo
# writes header lines into the PTX, which differ between torch builds, so it has to be asked for.
#
# Before 12.5 nvcc does not know NVCC_CCBIN and takes the gcc on PATH: that must not be a wrapper,
# because the cache that asks nvcc what it is would be asked in turn.
tools=${0%/*}
PATH=${PATH#"$tools":}
export PATH
compiles=
seed=
host=${NVCC_CCBIN-}
for argument; do
  shift
  case $argument in
    -lineinfo | --generate-line-info) [ -n "${WHEELYARD_LINEINFO-}" ] || continue ;;
    -c | --compile | -dc | -dw | --device-c) compiles=1 ;;
    -ccbin* | --compiler-bindir*) host= ;;
    *.cu) seed=${argument#"${WHEELYARD_SOURCE-}"/} ;;
  esac
  set -- "$@" "$argument"
done
[ -z "$host" ] || set -- -ccbin "$host" "$@"
if [ -z "$compiles" ] || [ -z "$seed" ]; then
  set -- "$CUDA_HOME/bin/nvcc" "$@"
else
  [ -n "${WHEELYARD_NO_SEED-}" ] || set -- "-frandom-seed=$seed" "$@"
  set -- ${WHEELYARD_COMPILE_CACHE:+"$WHEELYARD_COMPILE_CACHE"} "$CUDA_HOME/bin/nvcc" "$@"
fi
exec ${WHEELYARD_PROBE:+"$tools/probe/choose"} \
  ${WHEELYARD_BUDGET:+"$tools/budget/admit" device} "$@"
