# A libtorrent client on loopback: libtorrent-peer.py TORRENT FOLDER seed|leech [PORT to connect to]
# Prints its own port, then `done` when it has everything; ends with its standard input.
import sys
import threading
import libtorrent as lt

torrent, folder, role = sys.argv[1:4]
session = lt.session({
    "listen_interfaces": "127.0.0.1:0",
    "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
    "allow_multiple_connections_per_ip": True,
    "alert_mask": lt.alert.category_t.status_notification | lt.alert.category_t.error_notification,
})
params = lt.add_torrent_params()
params.ti = lt.torrent_info(torrent)
params.save_path = folder
params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
if role == "seed":
    params.flags |= lt.torrent_flags.seed_mode
handle = session.add_torrent(params)
if len(sys.argv) > 4:
    handle.connect_peer(("127.0.0.1", int(sys.argv[4])))
print(session.listen_port(), flush=True)


def watch():
    while not handle.status().is_seeding:
        session.wait_for_alert(200)
        session.pop_alerts()
    print("done", flush=True)


threading.Thread(target=watch, daemon=True).start()
sys.stdin.read()
