#!/bin/sh
# Runs pcscd in a mount namespace of its own, which the caller has made.
#
# Owns what pcscd must not share: /run (its process id file, and udev's view of real readers) and
# the directory of USB drivers, so that a reader plugged into this machine stays with its owner.
# Standard input is the listening client socket; it is handed on as systemd would (sd_listen_fds(3)).
# $1: directory of reader configurations.
set -eu

mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /usr/lib/pcsc/drivers

# Polkit, where pcscd knows of it, would ask a bus that is not there.
polkit=''
if pcscd --help | grep -q -e --disable-polkit; then
    polkit=--disable-polkit
fi

exec 3<&0 </dev/null
export LISTEN_FDS=1 LISTEN_PID=$$
# Entering a user namespace may clear the parent-death signal (prctl(2)): set it anew.
exec setpriv --pdeathsig KILL pcscd --foreground --info ${polkit:+"$polkit"} --config "$1"
