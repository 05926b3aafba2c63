#!/bin/sh
# What GPUs do for programs: README.md beside this says what is measured.
#
#   test/bench/gpu/run.sh                                # in a checkout, or where an archive was unpacked
#   test/bench/gpu/run.sh --pack FILE.tar.xz             # such an archive, for a machine without a registry
#   PACKETFS_GPU_SOFTWARE=1 test/bench/gpu/run.sh --part 0.01 --rounds 1    # that it works, on a CPU that imitates a GPU
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../../.." && pwd)
cd "$root"
node="$root/node_modules/.bin/node"
if [ "${1-}" = --pack ]; then
  shift
  exec "$node" test/bench/gpu/pack.mjs "$@"
fi
# A machine may have a driver and no loader of it, and a driver where no loader looks.
if [ -d lib ] && ! ldconfig -p 2>/dev/null | grep -q libvulkan.so.1; then
  LD_LIBRARY_PATH="$root/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  export LD_LIBRARY_PATH
fi
nvidia=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json
if [ -z "${VK_DRIVER_FILES-}" ] && [ -f "$nvidia" ]; then
  VK_DRIVER_FILES=$nvidia
  export VK_DRIVER_FILES
fi
exec "$node" test/bench/gpu/main.ts "$@"
