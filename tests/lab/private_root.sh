#!/bin/sh
# Gives the calling mount namespace a root folder of its own, in memory, that looks like the machine's:
#
#   private_root.sh EMPTY_FOLDER USER [KEEP]...
#
# Whatever a program may write to is empty and private (/tmp, /var/tmp, /dev, /root, /home, /scratch, the top itself, so
# that /cvmfs can be made); the rest is the machine's. The folders KEEP stay visible where they are. Needs a mount
# namespace with private propagation and a pid namespace; the machine keeps nothing of it.
set -eu
umask 022
new=$1 user=$2
shift 2

mount -t tmpfs -o mode=0755 lab-root "$new"
mount --make-unbindable "$new" # the binds below would copy it, and what it holds, into itself
for path in /*; do
    name=${path#/}
    case $name in proc | dev | tmp | root | home | cvmfs | scratch | lost+found) continue ;; esac
    if [ -L "$path" ]; then
        cp -P "$path" "$new/"
    elif [ -d "$path" ]; then
        mkdir "$new/$name"
        mount --rbind "$path" "$new/$name"
    fi
done

mkdir "$new/proc" "$new/dev" "$new/tmp" "$new/home" "$new/scratch" "$new/lab" "$new/lab/bin"
mkdir -m 0700 "$new/root"
mkdir -m 1777 "$new/reports"
mount -t proc proc "$new/proc"

# A node where ordinary users may use FUSE, as most worker nodes are.
mount -t tmpfs -o mode=0755 lab-dev "$new/dev"
for device in null zero full random urandom tty; do cp -a "/dev/$device" "$new/dev/"; done
mknod -m 0666 "$new/dev/fuse" c 10 229
mkdir "$new/dev/shm"
mkdir "$new/dev/pts"
mount --rbind /dev/pts "$new/dev/pts"
ln -s pts/ptmx "$new/dev/ptmx"
ln -s /proc/self/fd "$new/dev/fd"
ln -s /proc/self/fd/0 "$new/dev/stdin"
ln -s /proc/self/fd/1 "$new/dev/stdout"
ln -s /proc/self/fd/2 "$new/dev/stderr"

# Each a mount of its own, so that a condition may make it small, full or noexec.
for folder in tmp var/tmp dev/shm scratch; do mount -t tmpfs -o mode=1777 "lab-${folder##*/}" "$new/$folder"; done

home=$(getent passwd "$user" | cut -d: -f6)
mkdir -p "$new$home"
chown "$user:" "$new$home"

for folder in "$@"; do
    [ -e "$new$folder" ] && continue
    mkdir -p "$new$folder"
    mount --rbind "$folder" "$new$folder"
done

mkdir "$new/.before"
cd "$new"
pivot_root . .before
umount -l /.before
rmdir /.before
mount --make-private /
