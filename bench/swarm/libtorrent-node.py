"""A libtorrent client with its defaults, seeding or fetching, that speaks the lines of participant.ts.

Usage: libtorrent-node.py seed|fetch FILE.torrent FOLDER [HOST:PORT]

With HOST:PORT, where peers reach it on loopback, it speaks TCP alone: its default, uTP first, is much slower there.
"""

import os
import sys

import libtorrent as lt


def main():
    role, torrent, folder = sys.argv[1:4]
    settings = {
        "listen_interfaces": "0.0.0.0:6881",
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "alert_mask": lt.alert.category_t.status_notification
        | lt.alert.category_t.storage_notification
        | lt.alert.category_t.error_notification,
    }
    if len(sys.argv) > 4:
        settings["listen_interfaces"] = sys.argv[4]
        settings["outgoing_interfaces"] = sys.argv[4].rsplit(":", 1)[0]
        settings["enable_incoming_utp"] = False
        settings["enable_outgoing_utp"] = False
    session = lt.session(settings)
    parameters = lt.add_torrent_params()
    parameters.ti = lt.torrent_info(torrent)
    parameters.save_path = folder
    if role == "seed":
        parameters.flags |= lt.torrent_flags.seed_mode
    else:
        print("ready", flush=True)
        sys.stdin.readline()
    handle = session.add_torrent(parameters)
    # The process is ended from outside: a node that has finished stays a source.
    while True:
        session.wait_for_alert(1000)
        for alert in session.pop_alerts():
            if isinstance(alert, lt.torrent_finished_alert) and role == "fetch":
                print("last", flush=True)
                handle.flush_cache()
            elif isinstance(alert, lt.cache_flushed_alert) and role == "fetch":
                file = os.open(os.path.join(folder, "image.zst"), os.O_RDONLY)
                os.fdatasync(file)
                print("durable", flush=True)
            elif "error" in alert.what():
                print(alert.message(), file=sys.stderr, flush=True)


main()
