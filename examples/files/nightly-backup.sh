#!/bin/sh
# Backs up a directory each night, with its history, and forgets old months. From cron:
#
#   0 3 * * *  PACKETFS_AT=pfs1.client.… sh nightly-backup.sh /srv/shop shop 12
#
# The last ten nights are versions of one name (pfs ls --versions shop); the last night of each month stays under a name of its own for
# twelve of them, which takes room only for what no other has. To restore: pfs get shop@3 -o restored, or a single file of it:
# pfs cat shop@3/orders.db > orders.db. Without PACKETFS_AT it is a store on this machine (PACKETFS_STORE).
set -eu
directory=$1
name=$2
months=${3:-12}
month=${4:-$(date +%Y-%m)}

before=$(pfs ls --versions "$name" 2>/dev/null | head -n 1 | cut -f 3) || true
pfs put "$directory" --name "$name" --skip-unreadable
if [ -n "$before" ]; then
  echo "changed since version $before:"
  pfs diff "$name@$before" "$name"
fi

# Nothing is read for it: what did not change since a moment ago is known.
pfs put "$directory" --name "$name-$month" --skip-unreadable
pfs ls "$name-" | cut -f 1 | grep -E "^$name-[0-9]{4}-[0-9]{2}/?$" | sort -r | tail -n "+$((months + 1))" |
  while read -r old; do pfs rm "${old%/}"; done
pfs gc
