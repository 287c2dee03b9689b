#!/bin/sh
# Makes a node with two GPUs of NVIDIA out of stand-ins, and runs a command there as an ordinary user:
#
#   node.sh EMPTY_FOLDER USER LIBRARIES CACHED KEEP COMMAND...
#
# LIBRARIES holds the stand-ins; CACHED is yes where the loader's cache lists them. The device files are those of
# /dev/null, for NVIDIA's cannot be had without a driver; /proc/driver/nvidia is not there, for a mount over a part of
# /proc would be a fault of its own (proc_masked). Needs a mount and a pid namespace, as private_root.sh does.
set -eu
new=$1 user=$2 libraries=$3 cached=$4 keep=$5
shift 5
# shellcheck disable=SC2086  # a list
"$(dirname "$0")/../private_root.sh" "$new" "$user" $keep
cd /
for device in nvidiactl nvidia-uvm nvidia0 nvidia1; do mknod -m 0666 "/dev/$device" c 1 3; done
if [ "$cached" = yes ]; then
    printf 'include /etc/ld.so.conf\n%s\n' "$libraries" > /lab/ld.so.conf
    /sbin/ldconfig -X -f /lab/ld.so.conf -C /lab/ld.so.cache
    mount --bind /lab/ld.so.cache /etc/ld.so.cache
fi
mkdir /scratch/work
chown "$user:" /scratch/work
cd /scratch/work
# From a shell, as a glidein starts programs: see FROM_A_SHELL in inside.py.
exec setpriv --reuid "$user" --regid "$user" --clear-groups -- /bin/sh -c '"$@"; exit $?' glidein "$@"
