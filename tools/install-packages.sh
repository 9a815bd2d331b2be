#!/bin/sh
# Installs the Debian packages of tools/packages.txt that are missing, and npm where there is none. Needs root for that and
# only then. Daemons that packages bring along are kept from starting.
set -eu
cd "$(dirname "$0")/.."

missing=
for package in $(sed 's/#.*//' tools/packages.txt); do
  dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing="$missing $package"
done
command -v npm >/dev/null || missing="$missing npm"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
  echo "These Debian packages are missing; install them as root, then go on:" >&2
  echo "  apt-get install --no-install-recommends$missing" >&2
  exit 1
fi

policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  printf '#!/bin/sh\nexit 101\n' >$policy
  chmod +x $policy
  trap 'rm -f $policy' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086 # the list is words
apt-get install -q -y --no-install-recommends $missing
