#!/bin/sh
# A probe compiles some of a build's units and no others. WHEELYARD_PROBE has patterns of their
# paths below the source tree, one a line. What no pattern matches leaves an empty object, and a
# link of such objects an empty file, so that the build goes on to its end; what is no part of the
# source (a configure test, say) is compiled and linked as ever.
compiles=
source=
output=
lacks=
previous=
for word; do
  [ "$previous" = -o ] && output=$word
  case $word in
    -c | --compile | -dc | -dw | --device-c) compiles=1 ;;
    -*) ;;
    *.cu | *.cpp | *.cc | *.cxx | *.c | *.C) source=$word ;;
    *.o) [ "$previous" = -o ] || { [ -e "$word" ] && [ ! -s "$word" ] && lacks=1; } ;;
  esac
  previous=$word
done
if [ -z "$compiles" ]; then
  [ -n "$lacks" ] && [ -n "$output" ] || exec "$@"
  : >"$output"
  exit
fi
case $source in
  /*) ;;
  *) source=$PWD/$source ;;
esac
path=${source#"$WHEELYARD_SOURCE"/}
[ "$path" != "$source" ] && [ -n "$output" ] || exec "$@"
told=$WHEELYARD_BUILD/probe
mkdir -p "$told"
while IFS= read -r pattern; do
  case $path in
    $pattern)
      began=$(date +%s.%N)
      "$@" </dev/null || exit
      echo "$began $(date +%s.%N) $path" >>"$told/compiled"
      exit
      ;;
  esac
done <<END
$WHEELYARD_PROBE
END
echo "$path" >>"$told/left-out"
: >"$output"
