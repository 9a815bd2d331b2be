#!/bin/bash
# The power switch of one lab machine. ipmi_sim runs it as `chassis.sh FOLDER get power|boot` and
# `chassis.sh FOLDER set power 0|1 | reset 1 | shutdown 1 | boot none|pxe|default`. It is a shell script because ipmi_sim
# waits for it, and a shell is there in milliseconds. What is true is what the process table says: a QEMU that died is off.
#
# `run` is the part that stays: it starts QEMU, is its parent, and reads its QMP events. A boot device set by the BMC
# holds for one boot, however that boot comes about, so `run` puts the machine's own order back when a boot has begun.
# QEMU reads the order at a reset only, so it does no harm to wait until the resets are over: SeaBIOS answers a reset by
# the guest with two more of its own, and the last one is the boot. A guest that reboots within `settle` seconds boots
# from the same device again.
set -u
settle=2

# ipmi_sim leaves its sockets open in its children; a QEMU that kept them would hold the BMC's port.
for path in /proc/$BASHPID/fd/*; do
  fd=${path##*/}
  if ((fd > 2 && fd < 255)); then eval "exec $fd>&-"; fi
done

self=$(readlink -f "$0")
cd "$1" || exit 1
# shellcheck source=/dev/null
. ./machine.bash

# Sets `pid` to the QEMU of this machine, or fails. Process ids come round again, so the start time must agree too.
running() {
  local start stat fields
  read -r pid start 2>/dev/null <qemu.pid || return 1
  read -r stat 2>/dev/null <"/proc/$pid/stat" || return 1
  read -ra fields <<<"${stat##*) }"
  [[ ${fields[0]} != Z && ${fields[19]} == "$start" ]]
}

# Opened for reading too, so that a QEMU which died a moment ago cannot make the writer wait.
qmp() {
  printf '%s\n' "$1" 1<>qmp.in
}

# Says what went wrong to ipmi_sim, which has no log of its own here, and to the machine's log.
complain() {
  echo "$1" | tee -a qemu.log
  return 1
}

mark() {
  printf '\n=== %(%FT%TZ)T %s ===\n' -1 "$1" >>console.log
}

power_on() {
  running && return 0
  local first=$default_order answer=''
  if [[ -s boot.once ]]; then read -r first <boot.once; fi
  rm -f boot.once
  IFS= read -r -t 15 answer < <(exec setsid "$BASH" "$self" "$PWD" run "$first" </dev/null 2>>qemu.log)
  [[ $answer == running ]] && return 0
  complain 'QEMU did not start'
}

power_off() {
  running || return 0
  kill -KILL "$pid"
  for ((tries = 0; tries < 250; tries++)); do
    running || return 0
    sleep 0.02
  done
  complain "process $pid did not end"
}

set_boot() {
  local first
  case $1 in
    none) first='' ;;
    pxe) first=network ;;
    default) first=disk ;; # What ipmi_sim calls IPMI's "force boot from default hard drive".
    *)
      complain "a lab machine boots from pxe or disk, not from $1"
      return
      ;;
  esac
  if [[ $first ]]; then echo "$first" >boot.once; else rm -f boot.once; fi
  if running; then restore_order; fi
}

# The order of the next boot: what the BMC set since this boot began, else the machine's own.
restore_order() {
  local first=$default_order
  if [[ -s boot.once ]]; then read -r first <boot.once; fi
  local -n commands=order_$first
  qmp "$commands"
}

run() {
  local line status fields reason
  local -n command=qemu_$1
  export TZ=UTC
  rm -f qmp.in
  mkfifo -m 600 qmp.in
  exec 3<>qmp.in
  mark "power on, $1 first"
  exec 4< <(exec "${command[@]}" <&3 3>&-)
  pid=$!
  exec 3>&-
  # The greeting comes when all devices are made: from here on QEMU runs.
  if ! IFS= read -r line <&4; then
    mark 'power on failed'
    echo failed
    return 1
  fi
  read -r line <"/proc/$pid/stat"
  read -ra fields <<<"${line##*) }"
  echo "$pid ${fields[19]}" >qemu.pid.new
  mv qemu.pid.new qemu.pid
  qmp '{"execute":"qmp_capabilities"}'
  echo running
  exec >>qemu.log
  local settling=1
  for (( ; ; )); do
    IFS= read -r ${settling:+-t $settle} line <&4
    status=$?
    if ((status > 128)); then
      settling=''
      restore_order
    elif ((status != 0)); then
      break
    fi
    case $line in
      *'"event": "RESET"'*)
        reason=${line##*'"reason": "'}
        reason=${reason%%\"*}
        if [[ ! $settling || $reason == host-qmp-system-reset ]]; then
          settling=1
          rm -f boot.once
          mark "reset: $reason"
        fi
        ;;
      *'"event": "SHUTDOWN"'*)
        reason=${line##*'"reason": "'}
        mark "shutdown: ${reason%%\"*}"
        ;;
      *'"error": '*) echo "QMP: $line" ;;
    esac
  done
  wait "$pid"
  status=$?
  mark 'power off'
  if ((status != 0 && status != 137)); then echo "QEMU ended with status $status"; fi
}

# All in one function, so that the shell has read the whole file before it starts to wait.
main() {
  local once
  case "$2 $3" in
    'get power') if running; then echo power:1; else echo power:0; fi ;;
    'get boot')
      once=none
      if [[ -s boot.once ]]; then read -r once <boot.once; fi
      case $once in network) once=pxe ;; disk) once=default ;; esac
      echo "boot:$once"
      ;;
    'set power') if [[ $4 == 1 ]]; then power_on; else power_off; fi ;;
    'set reset') running && qmp '{"execute":"system_reset"}' ;;
    'set shutdown') running && qmp '{"execute":"system_powerdown"}' ;;
    'set boot') set_boot "$4" ;;
    'set identify') ;;
    run\ *) run "$3" ;;
    *)
      echo "usage: chassis.sh FOLDER get|set ..."
      exit 2
      ;;
  esac
}

main "$@"
exit
