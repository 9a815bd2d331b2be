"""A link whose frames come later: copies frames between a tap in this network namespace and one in another.

Usage: delay-link.py SWITCH_DEVICE NAMESPACE NODE_DEVICE MILLISECONDS

It makes both taps and writes `ready`; they are gone when it ends. Not every kernel has netem, and a tap needs nothing.
"""

import collections
import ctypes
import fcntl
import os
import select
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
CLONE_NEWNET = 0x40000000
FRAME_BYTES_MAX = 2048
FRAMES_MAX = 10_000


def open_tap(name):
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return tap


def main():
    switch_device, namespace, node_device, milliseconds = sys.argv[1:]
    delay_s = int(milliseconds) / 1000
    switch = open_tap(switch_device)
    other = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(other, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
    node = open_tap(node_device)
    print("ready", flush=True)
    waiting = collections.deque()
    while True:
        timeout_s = None if not waiting else max(0, waiting[0][0] - time.monotonic())
        for tap in select.select([switch, node], [], [], timeout_s)[0]:
            try:
                frame = os.read(tap, FRAME_BYTES_MAX)
            except OSError:
                continue  # Its device is not up.
            # A frame beyond the queue is lost, as in a switch.
            if len(waiting) < FRAMES_MAX:
                waiting.append((time.monotonic() + delay_s, node if tap == switch else switch, frame))
        while waiting and waiting[0][0] <= time.monotonic():
            _, tap, frame = waiting.popleft()
            try:
                os.write(tap, frame)
            except OSError:
                pass


main()
