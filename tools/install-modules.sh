#!/bin/sh
# `npm ci` by a Node that is new enough: npm leaves out optional packages, native parts among them, that say they need a
# newer Node than the one that runs npm, and Debian's is 18. So the pinned Node is fetched first where it is needed.
set -eu
cd "$(dirname "$0")/.."

arch=$(uname -m | sed 's/x86_64/x64/; s/aarch64/arm64/')
pinned=$(sed -n "s/.*\"node-linux-$arch\": \"\([0-9.]*\)\".*/\1/p" package.json)

if [ "$(node -p 'Number(process.versions.node.split(".")[0]) >= 20')" != true ]; then
  bootstrap=$PWD/build/bootstrap
  mkdir -p "$bootstrap"
  [ -x "$bootstrap/package/bin/node" ] ||
    (cd "$bootstrap" && tar -xzf "$(npm pack --silent "node-linux-$arch@$pinned")")
  export PATH="$bootstrap/package/bin:$PATH"
fi

npm ci --no-audit --no-fund --loglevel=error
# Debian's npm leaves out this one link.
ln -sfn "../node-linux-$arch/bin/node" node_modules/.bin/node
